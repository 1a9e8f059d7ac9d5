"""Request bodies of exports."""

from typing import Any

from rest_framework import serializers

from annotator.api.converters import LARGEST_ID
from annotator.api.serializers import StrictSerializer
from annotator.exports import records
from annotator.exports.models import Export

MOST_CLASSES = 1000


class FiltersIn(StrictSerializer):
    """Which images are exported."""

    images = serializers.ChoiceField(
        choices=[records.WITH_LABELS, records.LABELLED, records.ALL], default=records.WITH_LABELS
    )
    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        required=False,
        max_length=MOST_CLASSES,
    )
    chosen = serializers.ChoiceField(
        choices=[records.RANDOM, records.QUEUE], required=False, allow_blank=True
    )


class ExportIn(StrictSerializer):
    """An export to write."""

    format = serializers.ChoiceField(choices=Export.Format.choices)
    filters = FiltersIn(required=False)
    history = serializers.BooleanField(default=False)
    names = serializers.BooleanField(default=False)
    pictures = serializers.ChoiceField(choices=["originals", "renditions"], default="originals")


def options_of(body: dict[str, Any], *, address: str) -> dict[str, Any]:
    """Return the options of an export, as its row keeps them.

    Args:
        body: a valid :class:`ExportIn`.
        address: of this server, as the person knows it.
    """
    filters = body.get("filters") or {"images": records.WITH_LABELS}
    return {
        "images": filters["images"],
        "class_ids": sorted(set(filters.get("class_ids", []))),
        "chosen": filters.get("chosen", ""),
        **{name: body[name] for name in ("history", "names", "pictures")},
        "address": address,
    }
