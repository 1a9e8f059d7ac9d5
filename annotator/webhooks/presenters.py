"""The JSON of webhooks and their deliveries."""

from typing import Any

from annotator.webhooks.models import Delivery, DeliveryAttempt, Webhook


def present_webhook(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook, without its secret."""
    return {
        "id": webhook.pk,
        "project": webhook.project_id,
        "url": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "is_active": webhook.is_active,
        "disabled_reason": webhook.disabled_reason,
        "n_failures": webhook.n_failures,
        "failing_since": _time(webhook.failing_since),
        "former_secret_until": _time(webhook.former_until),
        "created_at": _time(webhook.created_at),
    }


def present_delivery(delivery: Delivery) -> dict[str, Any]:
    """Return a delivery with all attempts at it, the first one first."""
    return {
        "id": delivery.pk,
        "webhook": delivery.webhook_id,
        "message_id": delivery.message_id,
        "kind": delivery.kind,
        "event": delivery.event_id,
        "state": delivery.state,
        "next_try_at": _time(delivery.next_try_at),
        "created_at": _time(delivery.created_at),
        "attempts": [_attempt(entry) for entry in delivery.attempts.all()],
    }


def _attempt(attempt: DeliveryAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": _time(attempt.at),
        "status": attempt.status,
        "milliseconds": attempt.milliseconds,
        "code": attempt.code,
        "reason": attempt.reason,
        "answer": attempt.answer,
    }


def _time(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
