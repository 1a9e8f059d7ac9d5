"""Reads of webhooks, for the page."""

from dataclasses import dataclass
from datetime import timedelta

from annotator.clock import database_now
from annotator.labeling.models import Project
from annotator.webhooks import kinds
from annotator.webhooks.models import Delivery, DeliveryAttempt, Webhook

SHOWN = 10
SOON = timedelta(minutes=1)


@dataclass(frozen=True)
class DeliveryRow:
    """One line of the log: a delivery and its newest attempt."""

    delivery: Delivery
    last: DeliveryAttempt | None
    n_attempts: int
    is_soon: bool  # whether its result is worth waiting for on the page


@dataclass(frozen=True)
class WebhookCard:
    """What the page shows of a webhook."""

    webhook: Webhook
    rows: list[DeliveryRow]

    @property
    def wants_all(self) -> bool:
        """Whether it is told of everything."""
        return kinds.ALL in self.webhook.events


def webhook_cards(project: Project) -> list[WebhookCard]:
    """Return the project's webhooks, newest first, with their newest deliveries."""
    webhooks = Webhook.objects.filter(project=project)
    return [WebhookCard(webhook, _rows(webhook)) for webhook in webhooks]


def _rows(webhook: Webhook) -> list[DeliveryRow]:
    rows, soon = [], database_now() + SOON
    for delivery in webhook.deliveries.prefetch_related("attempts")[:SHOWN]:
        attempts = list(delivery.attempts.all())
        is_soon = delivery.next_try_at is not None and delivery.next_try_at < soon
        last = attempts[-1] if attempts else None
        rows.append(DeliveryRow(delivery, last, len(attempts), webhook.is_active and is_soon))
    return rows
