"""The Celery side of the work queue."""

from typing import Any

from celery import shared_task
from celery.signals import worker_process_init
from django.conf import settings

from annotator.clock import database_now
from workqueue import housekeeping


@shared_task(name="workqueue.housekeeping", acks_late=False)
def keep_house() -> None:
    """Find lost work and clear old rows."""
    housekeeping.keep_house(now=database_now())


@worker_process_init.connect
def _warm_up(**_: Any) -> None:
    # Runs in the pool's child, after the spawn: the first round need not wait for torch. The
    # import stands here because this module is loaded wherever tasks are sent from.
    if settings.LEARNING_WORKER:
        from workqueue import learning

        learning.warm_up()
