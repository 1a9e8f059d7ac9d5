"""The append-only log of everything that happened."""

from django.conf import settings
from django.db import models


class Event(models.Model):
    """One thing that happened: who, when, what, and the values before and after.

    The database refuses to change or delete a row (see ``history.py``), so what it names is kept.
    """

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.PROTECT, null=True, related_name="events"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    kind = models.CharField(max_length=60)
    payload = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["project", "id"], name="event_feed"),
            models.Index(fields=["project", "kind", "id"], name="event_by_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.kind}"
