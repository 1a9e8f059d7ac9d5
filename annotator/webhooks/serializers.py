"""Request bodies of webhooks."""

from typing import Any

from rest_framework import serializers

from annotator.api.serializers import NameField, StrictSerializer
from annotator.webhooks import kinds


class EventsField(serializers.ListField):
    """The kinds of events that are wanted, each once, in the order of the list of kinds."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            child=serializers.ChoiceField(choices=kinds.PATTERNS),
            min_length=1,
            max_length=len(kinds.PATTERNS),
            error_messages={"min_length": "Choose at least one kind of event."},
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the patterns."""
        wanted = set(super().to_internal_value(data))
        return [pattern for pattern in kinds.PATTERNS if pattern in wanted]


class WebhookIn(StrictSerializer):
    """A webhook to create."""

    # What an address may be is said by `annotator.outbound`, with codes of its own.
    url = serializers.CharField(
        max_length=8000, help_text="where messages go, on the public internet"
    )
    events = EventsField(
        default=lambda: [kinds.ALL],
        help_text="kinds of events (round.done), all of one thing (round.*), or * for all",
    )
    description = NameField(
        max_length=200, required=False, default="", allow_blank=True, help_text="what it is for"
    )


class WebhookPatch(StrictSerializer):
    """A change of a webhook."""

    url = serializers.CharField(
        max_length=8000, required=False, help_text="where messages go, on the public internet"
    )
    events = EventsField(
        required=False,
        help_text="kinds of events (round.done), all of one thing (round.*), or * for all",
    )
    description = NameField(
        max_length=200, required=False, allow_blank=True, help_text="what it is for"
    )
    is_active = serializers.BooleanField(
        required=False, help_text="false switches it off, true on again"
    )
