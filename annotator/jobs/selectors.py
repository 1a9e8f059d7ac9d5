"""What is known of the workers."""

from datetime import datetime, timedelta

from django.conf import settings

from annotator.jobs.models import Pulse

PULSE_GOOD_FOR = timedelta(seconds=60)


def silent_queues(*, now: datetime) -> list[str]:
    """Return the queues no worker has lately been heard of on."""
    fresh = Pulse.objects.filter(at__gt=now - PULSE_GOOD_FOR)
    alive = set(fresh.values_list("queue", flat=True))
    return [queue for queue in settings.QUEUES if queue not in alive]
