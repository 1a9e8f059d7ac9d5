"""The Celery side of the work queue."""

from typing import Any

from celery import shared_task
from celery.signals import worker_process_init
from django.conf import settings
from django.utils import timezone

from workqueue import housekeeping
from workqueue.clock import database_now


@shared_task(name="workqueue.housekeeping", acks_late=False)
def keep_house() -> None:
    """End leases that have run out, find lost work and clear old rows."""
    housekeeping.expire_leases(now=database_now())
    # All other rows bear the time of the process that wrote them.
    housekeeping.keep_house(now=timezone.now())


@worker_process_init.connect
def _warm_up(**_: Any) -> None:
    # Runs in the pool's child, after the spawn: the first round need not wait for torch. The
    # import stands here because this module is loaded wherever tasks are sent from.
    if settings.LEARNING_WORKER:
        from workqueue import learning

        learning.warm_up()
