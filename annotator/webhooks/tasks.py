"""The Celery side of webhooks: ids in, one call out."""

from celery import shared_task

from annotator.clock import database_now
from annotator.webhooks import delivering


@shared_task(name="webhooks.deliver")
def deliver(webhook_id: int) -> int:
    """Send what is due for a webhook."""
    return delivering.deliver(webhook_id)


@shared_task(name="webhooks.sweep", acks_late=False)
def sweep() -> int:
    """Ring for what is due."""
    return delivering.sweep(now=database_now())


@shared_task(name="webhooks.housekeeping", acks_late=False)
def keep_house() -> None:
    """Drop what is old."""
    delivering.keep_house(now=database_now())
