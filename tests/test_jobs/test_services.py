from datetime import timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from factories import make_project, now

from annotator.jobs import registry, services
from annotator.jobs.models import Job
from annotator.jobs.running import LeaseLostError

pytestmark = pytest.mark.django_db(transaction=True)

done: list[int] = []


@pytest.fixture
def handler(monkeypatch):
    """Let jobs of kind "work" call a function of the test."""
    done.clear()
    failed = []
    monkeypatch.setitem(registry._handlers, "work", "unused:unused")

    def use(function):
        monkeypatch.setattr(registry, "handler_of", lambda kind: function)
        monkeypatch.setattr(registry, "failure_hook_of", lambda kind: failed.append)
        return failed

    return use


def make_job(**fields):
    return services.enqueue(kind="work", queue="interactive", project_id=None, params={}, **fields)


def test_a_job_is_done_once_however_often_the_bell_rings(handler):
    handler(lambda run: done.append(run.job_id))
    job = make_job()

    answers = [services.run(job.pk) for _ in range(3)]

    assert answers == ["done", "not mine", "not mine"]
    assert done == [job.pk]
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.DONE, 1)


def test_a_killed_worker_loses_no_job_and_a_zombie_publishes_nothing(handler):
    def dies_then_wakes(run):
        if run.attempt == 1:
            Job.objects.filter(pk=run.job_id).update(lease_until=now() - timedelta(seconds=1))
            services.sweep(now=now())
            assert services.run(run.job_id) == "done"
            with pytest.raises(LeaseLostError), run.commit():
                done.append(-1)
            raise LeaseLostError
        done.append(run.attempt)

    handler(dies_then_wakes)
    job = make_job()

    assert services.run(job.pk) == "lost"

    assert done == [2]
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.DONE, 2)


def test_a_lost_message_is_rung_for_again(handler, monkeypatch):
    handler(lambda run: done.append(run.job_id))
    rung = []
    monkeypatch.setattr(services, "ring", lambda pk, queue: rung.append(pk) or True)
    job = make_job()
    Job.objects.filter(pk=job.pk).update(sent_at=now() - settings.JOB_RESEND_AFTER * 2)
    rung.clear()

    services.sweep(now=now())

    assert rung == [job.pk]


def test_a_poisonous_job_is_parked_with_its_error_after_three_attempts(handler):
    def explode(run):
        raise ZeroDivisionError("nothing to divide by")

    failed = handler(explode)
    job = make_job()

    for _ in range(5):
        services.run(job.pk)

    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.FAILED, settings.JOB_MAX_ATTEMPTS)
    assert "nothing to divide by" in job.error
    assert failed == [job.pk]


def test_a_job_whose_worker_dies_again_and_again_is_parked_too(handler):
    failed = handler(lambda run: None)
    job = make_job()
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.RUNNING,
        attempt=settings.JOB_MAX_ATTEMPTS,
        lease_until=now() - timedelta(seconds=1),
    )

    services.sweep(now=now())

    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert "worker stopped" in job.error
    assert failed == [job.pk]


def test_a_failed_job_can_be_tried_again(handler):
    handler(lambda run: done.append(run.job_id))
    job = make_job()
    Job.objects.filter(pk=job.pk).update(state=Job.State.FAILED, attempt=3, error="x")

    services.retry(job=job)

    assert services.run(job.pk) == "done"


def test_cancelling_stops_a_waiting_job_at_once_and_a_running_one_at_its_next_check(handler):
    waiting = make_job()
    services.cancel(job=waiting, now=now())
    waiting.refresh_from_db()
    assert waiting.state == Job.State.CANCELLED

    def cancel_myself(run):
        services.cancel(job=Job.objects.get(pk=run.job_id), now=now())
        run.progress(1, 2)
        done.append(run.job_id)

    handler(cancel_myself)
    running = make_job()
    assert services.run(running.pk) == "cancelled"
    assert not done


def test_enqueueing_goes_on_while_the_broker_is_away(handler, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no broker")

    monkeypatch.setattr("annotator.jobs.services.current_app.send_task", refuse)
    monkeypatch.setattr(services, "_broker_down_until", 0.0)

    jobs = [make_job() for _ in range(3)]

    assert all(Job.objects.get(pk=job.pk).sent_at is None for job in jobs)


def test_the_database_allows_one_open_round_job_per_project():
    project = make_project()
    services.enqueue(kind="round", queue="train", project_id=project.pk, params={})

    with pytest.raises(IntegrityError), transaction.atomic():
        services.enqueue(kind="round", queue="train", project_id=project.pk, params={})
