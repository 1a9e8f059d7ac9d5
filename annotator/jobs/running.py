"""One attempt at a job: its heartbeat, its progress and its fenced end."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from annotator.clock import database_now
from annotator.jobs.models import Job

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5
ARCHIVED = "The project was archived."


class LeaseLostError(Exception):
    """Another worker has taken the job over: this attempt must not publish anything."""


class CancelledError(Exception):
    """A person asked the job to stop, or archived its project; ``reason`` is for people."""

    def __init__(self, job_id: int, reason: str = "") -> None:
        super().__init__(f"job {job_id} was cancelled")
        self.reason = reason


class YieldedError(Exception):
    """A long job lets others that wait for the same worker go first."""


class JobRun:
    """What a handler sees of its job."""

    def __init__(self, job: Job) -> None:
        self.job_id: int = job.pk
        self.project_id: int = job.project_id or 0
        self.queue: str = job.queue
        self.params: dict[str, Any] = job.params
        self.attempt: int = job.attempt
        self.user_id: int | None = job.created_by_id
        self.committed = False
        self._last_progress = 0.0
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "JobRun":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Show how far the job is (written at most twice a second) and check the lease."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY_S or done == total:
            self._last_progress = now
            self._mine().update(progress_done=done, progress_total=total, message=message[:300])
        self.check()

    def check(self) -> None:
        """Stop here if the job was cancelled or taken over.

        Raises:
            CancelledError: a person asked for it, or archived the project.
            LeaseLostError: another attempt runs.
        """
        if self._lost.is_set():
            raise LeaseLostError(f"job {self.job_id} was taken over")
        is_archived = Q(project__deleted_at__isnull=False)
        stopped = self._mine().filter(is_archived | Q(cancel_requested=True)).first()
        if stopped:
            raise CancelledError(self.job_id, "" if stopped.cancel_requested else ARCHIVED)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Open the transaction that publishes the result and marks the job done, together.

        Raises:
            LeaseLostError: this attempt is no longer the current one; nothing is written.
        """
        with transaction.atomic():
            done = self._mine().update(
                state=Job.State.DONE, finished_at=database_now(), lease_until=None, error=""
            )
            if not done:
                raise LeaseLostError(f"job {self.job_id} was taken over")
            yield
        self.committed = True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Open a transaction for intermediate results, kept only if the attempt is current.

        Raises:
            LeaseLostError: this attempt is no longer the current one; nothing is written.
        """
        with transaction.atomic():
            if not self._mine().update(lease_until=database_now() + settings.JOB_LEASE):
                raise LeaseLostError(f"job {self.job_id} was taken over")
            yield

    def _mine(self) -> Any:
        return Job.objects.filter(pk=self.job_id, attempt=self.attempt, state=Job.State.RUNNING)

    def _beat(self) -> None:
        interval = settings.JOB_LEASE.total_seconds() / 4
        while not self._stop.wait(interval):
            try:
                alive = self._mine().update(lease_until=database_now() + settings.JOB_LEASE)
            except Exception:
                # The next beat tries again; the lease outlives three of them.
                logger.exception("heartbeat of job %s failed", self.job_id)
                continue
            if not alive:
                self._lost.set()
                break
        connection.close()
