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
        choices=[records.WITH_LABELS, records.LABELLED, records.ALL],
        default=records.WITH_LABELS,
        help_text="those with labels, with as many as are wanted, or all",
    )
    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        required=False,
        max_length=MOST_CLASSES,
        help_text="only images that have one of these classes",
    )
    chosen = serializers.ChoiceField(
        choices=[records.RANDOM, records.QUEUE],
        required=False,
        allow_blank=True,
        help_text="only images drawn at random, or only those the queue chose",
    )


class ExportIn(StrictSerializer):
    """An export to write."""

    format = serializers.ChoiceField(choices=Export.Format.choices, help_text="of the file")
    filters = FiltersIn(required=False, help_text="which images; left out: those with labels")
    history = serializers.BooleanField(
        default=False, help_text="also what was said before and stands no more"
    )
    names = serializers.BooleanField(default=False, help_text="with the names of people")
    pictures = serializers.ChoiceField(
        choices=["originals", "renditions"],
        default="originals",
        help_text="which files, in formats that have pictures",
    )


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
