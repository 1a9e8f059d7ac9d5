"""Every change of a job: enqueue, ring, claim, fail, cancel, retry, sweep."""

import logging
import time
import traceback
from datetime import datetime
from functools import partial
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from annotator.clock import database_now
from annotator.jobs import registry
from annotator.jobs.models import Job, Pulse
from annotator.jobs.running import CancelledError, JobRun, LeaseLostError, YieldedError

logger = logging.getLogger(__name__)

DOORBELL = "jobs.run"
BROKER_PAUSE_S = 5.0
_broker_down_until = 0.0


class JobFailedError(Exception):
    """The job cannot succeed by being tried again; the text is for people."""


def enqueue(
    *,
    kind: str,
    queue: str,
    project_id: int | None,
    params: dict[str, Any],
    user_id: int | None = None,
) -> Job:
    """Write a job in the caller's transaction and ring for a worker once that has committed."""
    with transaction.atomic():
        job = Job.objects.create(
            kind=kind, queue=queue, project_id=project_id, params=params, created_by_id=user_id
        )
        transaction.on_commit(partial(ring, job.pk, queue), robust=True)
    return job


def ring(job_id: int, queue: str) -> bool:
    """Send the doorbell; when the broker is away the row stays and the sweeper rings again."""
    if not send_message(DOORBELL, job_id, queue):
        return False
    Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(sent_at=database_now())
    return True


def send_message(task: str, row_id: int, queue: str) -> bool:
    """Tell a worker of a row; return whether the broker took the message."""
    global _broker_down_until
    if time.monotonic() < _broker_down_until:
        return False
    try:
        current_app.send_task(task, args=[row_id], queue=queue, retry=False)
    except Exception as error:
        logger.warning("the broker cannot be reached, %s %s waits: %s", task, row_id, error)
        _broker_down_until = time.monotonic() + BROKER_PAUSE_S
        return False
    return True


def run(job_id: int) -> str:
    """Claim the job and do it; a doubled or late message finds nothing to claim."""
    now = database_now()
    claimed = Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(
        state=Job.State.RUNNING,
        attempt=F("attempt") + 1,
        lease_until=now + settings.JOB_LEASE,
        started_at=now,
        error="",
    )
    if not claimed:
        return "not mine"
    with JobRun(Job.objects.get(pk=job_id)) as job_run:
        return _do(job_run)


def _do(job_run: JobRun) -> str:
    job = Job.objects.get(pk=job_run.job_id)
    try:
        job_run.check()
        registry.handler_of(job.kind)(job_run)
    except LeaseLostError as error:
        logger.warning("%s", error)
        return "lost"
    except YieldedError:
        _yield(job_run)
        return "yielded"
    except CancelledError as error:
        _end(job_run, Job.State.CANCELLED, error.reason)
        return "cancelled"
    except JobFailedError as error:
        _end(job_run, Job.State.FAILED, str(error))
        return "failed"
    except Exception as error:
        logger.exception("job %s (%s) failed", job.pk, job.kind)
        _again_or_failed(job_run, _sentence(error))
        return "failed"
    if not job_run.committed:
        with job_run.commit():
            pass
    return "done"


def _sentence(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" (in {last[0].name})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def _end(job_run: JobRun, state: str, error: str) -> None:
    ended = Job.objects.filter(
        pk=job_run.job_id, attempt=job_run.attempt, state=Job.State.RUNNING
    ).update(state=state, error=error, finished_at=database_now(), lease_until=None)
    if ended and state in {Job.State.FAILED, Job.State.CANCELLED}:
        _tell_failure(job_run.job_id)


def _again_or_failed(job_run: JobRun, error: str) -> None:
    if job_run.attempt >= settings.JOB_MAX_ATTEMPTS:
        _end(job_run, Job.State.FAILED, error)
        return
    Job.objects.filter(pk=job_run.job_id, attempt=job_run.attempt, state=Job.State.RUNNING).update(
        state=Job.State.QUEUED, error=error, sent_at=None, lease_until=None
    )


def _yield(job_run: JobRun) -> None:
    """Queue the job again behind others that wait; its attempts count from zero."""
    again = Job.objects.filter(
        pk=job_run.job_id, attempt=job_run.attempt, state=Job.State.RUNNING
    ).update(state=Job.State.QUEUED, attempt=0, sent_at=None, lease_until=None)
    if again:
        ring(job_run.job_id, job_run.queue)


def _tell_failure(job_id: int) -> None:
    job = Job.objects.get(pk=job_id)
    hook = registry.failure_hook_of(job.kind)
    if hook:
        hook(job_id)


def sweep(*, now: datetime) -> int:
    """Put the truth of the rows right; safe to run twice at once.

    A running job whose lease has run out goes back to the queue or, after too many attempts, has
    failed; a queued job whose message was never sent, or long ago, is rung for again.
    """
    expired = Job.objects.filter(state=Job.State.RUNNING, lease_until__lt=now)
    for job in expired.filter(attempt__gte=settings.JOB_MAX_ATTEMPTS):
        failed = expired.filter(pk=job.pk, attempt=job.attempt).update(
            state=Job.State.FAILED,
            lease_until=None,
            finished_at=now,
            error=f"The worker stopped {job.attempt} times while doing this (killed, out of "
            "memory or restarted). See the worker's log.",
        )
        if failed:
            _tell_failure(job.pk)
    expired.update(state=Job.State.QUEUED, sent_at=None, lease_until=None)
    waiting = Job.objects.filter(state=Job.State.QUEUED).filter(
        Q(sent_at=None) | Q(sent_at__lt=now - settings.JOB_RESEND_AFTER)
    )
    return sum(
        ring(pk, queue) for pk, queue in waiting.order_by("pk").values_list("pk", "queue")[:50]
    )


def cancel(*, job: Job, now: datetime) -> None:
    """Stop a job: at once if it still waits, at its next check if it runs."""
    waiting = Job.objects.filter(pk=job.pk, state=Job.State.QUEUED).update(
        state=Job.State.CANCELLED, finished_at=now
    )
    if waiting:
        _tell_failure(job.pk)
    Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(cancel_requested=True)


@transaction.atomic
def retry(*, job: Job) -> None:
    """Queue a failed or cancelled job again, with its attempts counted from zero."""
    again = Job.objects.filter(pk=job.pk, state__in=[Job.State.FAILED, Job.State.CANCELLED]).update(
        state=Job.State.QUEUED,
        attempt=0,
        error="",
        cancel_requested=False,
        sent_at=None,
        finished_at=None,
    )
    if again:
        transaction.on_commit(partial(ring, job.pk, job.queue), robust=True)


def note_pulse(*, queue: str, now: datetime) -> None:
    """Remember that a worker answered on this queue."""
    Pulse.objects.update_or_create(queue=queue, defaults={"at": now})
