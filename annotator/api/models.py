"""The answers that requests with an idempotency key got."""

from django.conf import settings
from django.db import models


class StoredAnswer(models.Model):
    """The answer to a write with an idempotency key, kept for a day to be given again.

    A row without a status is a request still being worked on.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=80)
    request = models.CharField(max_length=300, help_text="method and path")
    request_hash = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    headers = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "key", "request"], name="one_stored_answer_per_key_and_request"
            )
        ]
        indexes = [models.Index(fields=["started_at"], name="stored_answer_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}: {self.request}"
