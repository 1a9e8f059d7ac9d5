"""Events to deliveries, in the transaction of the event: a rollback delivers nothing."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction

from annotator.clock import database_now
from annotator.events.models import Event
from annotator.jobs.services import send_message
from annotator.prepared import Given, Prepared
from annotator.webhooks import kinds
from annotator.webhooks.models import Delivery, Webhook

DELIVER = "webhooks.deliver"
QUEUE = "webhooks"
GATHER = timedelta(seconds=5)

_LISTENING = Prepared(
    lambda: Webhook.objects.filter(project=Given("project"), is_active=True).order_by("pk")
)


def write(event: Event) -> None:
    """Queue an event for every webhook of its project that wants it."""
    if event.project_id is None:
        return
    for webhook in _LISTENING.all(project=event.project_id):
        if kinds.is_wanted(event.kind, webhook.events):
            _queue_event(webhook, event)


def queue(
    *, webhook: Webhook, kind: str, about: str, data: dict[str, Any], **more: Any
) -> Delivery:
    """Write a delivery and ring for a worker once it is committed."""
    now = database_now()
    delivery = Delivery.objects.create(
        webhook=webhook,
        kind=kind,
        about=about,
        body={"type": kind, "timestamp": now.isoformat(), "data": data},
        next_try_at=now + (GATHER if kind in kinds.COALESCED else timedelta(0)),
        **more,
    )
    if not _is_rung_for(delivery, now):
        transaction.on_commit(partial(ring, webhook.pk), robust=True)
    return delivery


def ring(webhook_id: int) -> bool:
    """Send the doorbell; when it is lost the sweeper rings again."""
    return send_message(DELIVER, webhook_id, QUEUE)


def _queue_event(webhook: Webhook, event: Event) -> None:
    if event.kind in kinds.COALESCED and _add_to_waiting(webhook, event):
        return
    data = {
        "project": event.project_id,
        "event": event.pk,
        "actor": event.actor_id,
        "payload": event.payload,
        "n_events": 1,
    }
    queue(
        webhook=webhook, kind=event.kind, about=kinds.about(event.payload), data=data, event=event
    )


def _add_to_waiting(webhook: Webhook, event: Event) -> bool:
    """Add the numbers of an event to a message nobody has begun to send; return whether one is."""
    waiting = (
        Delivery.objects.select_for_update()
        .filter(
            webhook=webhook,
            kind=event.kind,
            state=Delivery.State.PENDING,
            n_tries=0,
            next_try_at__gt=database_now(),
        )
        .order_by("-pk")
        .first()
    )
    if waiting is None:
        return False
    data = waiting.body["data"]
    data["payload"] = {
        name: value + event.payload.get(name, 0) for name, value in data["payload"].items()
    }
    data |= {"event": event.pk, "actor": event.actor_id, "n_events": data["n_events"] + 1}
    waiting.event = event
    waiting.save(update_fields=["body", "event"])
    return True


def _is_rung_for(delivery: Delivery, now: datetime) -> bool:
    """Return whether an earlier delivery that nobody has begun has rung already.

    The worker it rings for goes on until nothing is due, so that a storm of events is one ring.
    """
    earlier = Delivery.objects.filter(
        webhook=delivery.webhook_id,
        state=Delivery.State.PENDING,
        n_tries=0,
        next_try_at__lte=now,
        pk__lt=delivery.pk,
    )
    return delivery.kind in kinds.COALESCED or earlier.exists()
