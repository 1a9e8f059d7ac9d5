"""The Celery side of jobs: ids in, one call out."""

from celery import shared_task

from annotator.clock import database_now
from annotator.jobs import services


@shared_task(name="jobs.run")
def run(job_id: int) -> str:
    """Do one job, if it still waits."""
    return services.run(job_id)


@shared_task(name="jobs.sweep", acks_late=False)
def sweep() -> int:
    """Find lost and expired jobs."""
    return services.sweep(now=database_now())


@shared_task(name="jobs.pulse", acks_late=False)
def pulse(queue: str) -> None:
    """Note that a worker listens on this queue."""
    services.note_pulse(queue=queue, now=database_now())
