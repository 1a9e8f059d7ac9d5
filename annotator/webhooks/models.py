"""Webhooks, what waits to be delivered to them, and every attempt at it."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q


def new_message_id() -> str:
    """Return the ``webhook-id`` of a delivery, the same at each of its attempts."""
    return f"msg_{uuid.uuid4().hex}"


class Webhook(models.Model):
    """An address that is told of a project's events.

    Of its secret only what it is derived from is stored (see ``signing.py``). A worker holds
    ``lease_until`` while it delivers, so that one at a time does; ``turn`` counts the workers.
    """

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.PROTECT, related_name="webhooks"
    )
    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    events = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True)
    nonce = models.CharField(max_length=64)
    former_nonce = models.CharField(max_length=64, blank=True)
    former_until = models.DateTimeField(null=True, blank=True)
    secret_hash = models.CharField(max_length=64)
    n_failures = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    rests_until = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    turn = models.PositiveBigIntegerField(default=0)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["project"], condition=Q(is_active=True), name="webhook_active_of_project"
            )
        ]

    def __str__(self) -> str:
        return f"webhook {self.pk}"


class Delivery(models.Model):
    """One message for one webhook, written in the transaction of its event (the outbox)."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up"
        CANCELLED = "cancelled"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    message_id = models.CharField(max_length=40, default=new_message_id, unique=True)
    event = models.ForeignKey("events.Event", on_delete=models.PROTECT, null=True, related_name="+")
    kind = models.CharField(max_length=60)
    # What the event is about, such as "image:7": of one thing the earlier message goes first.
    about = models.CharField(max_length=60)
    body = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    # Since it was last asked for; the attempts of all times have rows of their own.
    n_tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["webhook", "next_try_at"],
                condition=Q(state="pending"),
                name="delivery_due",
            ),
            models.Index(
                fields=["webhook", "about", "id"],
                condition=Q(state="pending"),
                name="delivery_in_order",
            ),
            models.Index(fields=["webhook", "-id"], name="delivery_log"),
            models.Index(fields=["created_at"], name="delivery_old"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="pending") | Q(next_try_at__isnull=False),
                name="pending_delivery_has_a_next_try",
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id} {self.kind} ({self.state})"


class DeliveryAttempt(models.Model):
    """One try at a delivery; written before it is sent, so that a crash leaves a trace."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField(null=True)
    code = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    answer = models.TextField(blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["delivery", "number"], name="one_row_per_attempt_at_a_delivery"
            )
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} at {self.delivery_id}"
