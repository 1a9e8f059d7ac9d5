"""The Celery side of the work queue."""

from celery import shared_task
from django.utils import timezone

from workqueue import housekeeping


@shared_task(name="workqueue.housekeeping", acks_late=False)
def keep_house() -> None:
    """Find lost work and clear old rows."""
    housekeeping.keep_house(now=timezone.now())
