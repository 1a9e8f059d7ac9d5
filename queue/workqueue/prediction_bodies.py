"""The body in which a tool posts predictions: checked as arrays, for there are many numbers."""

import dataclasses
from typing import Any

import numpy as np
from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from annotator.api.converters import LARGEST_ID
from annotator.api.serializers import NameField, StrictSerializer
from annotator.labeling.models import Project
from annotator.labeling.serializers import MAX_EXTERNAL_ID
from workqueue.selectors import image_ids_of

MOST_AT_ONCE = 10_000
# What rounding to a few digits may leave over.
SUM_TOLERANCE = 0.01
ENTRIES = ({"image", "probabilities"}, {"external_id", "probabilities"})
# The first few say it; a thousand times the same helps nobody.
ERRORS_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class PostedPredictions:
    """Entries of a body.

    Attributes:
        image_ids: each once; 0, which none has, for an external id nobody knows.
        names: what each entry calls its image: ``image`` or ``external_id``, and the value.
        table: shape (n, n_classes), finite, 0 to 1.
    """

    image_ids: list[int]
    names: list[tuple[str, int | str]]
    table: Any

    @property
    def rows(self) -> list[bytes]:
        """The probabilities of each image as they are stored."""
        return [row.tobytes() for row in self.table.astype("<f4")]


class PredictionIn(StrictSerializer):
    """What the model says of one image; read as arrays below, so this only describes it."""

    image = serializers.IntegerField(
        min_value=1, max_value=LARGEST_ID, help_text="the id of the image"
    )
    probabilities = serializers.ListField(
        child=serializers.FloatField(min_value=0, max_value=1),
        min_length=2,
        max_length=1000,
        help_text="one for each of class_ids; with one class an image they sum to 1",
    )


@extend_schema_field(PredictionIn(many=True))
class PredictionEntries(serializers.JSONField):
    """A list of predictions, taken as it is: its numbers are checked all at once."""


class PredictionsIn(StrictSerializer):
    """What a model says of images."""

    model = NameField(
        max_length=80,
        validators=[RegexValidator(r"^[^/]+\Z")],
        help_text="a name for your model; its former predictions of these images are replaced",
    )
    class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        min_length=2,
        max_length=1000,
        help_text="the classes, in the order of the probabilities",
    )
    predictions = PredictionEntries(help_text="one entry an image, at most 10,000")

    def validate_class_ids(self, value: list[int]) -> list[int]:
        """Each class once."""
        if len(set(value)) != len(value):
            raise serializers.ValidationError("A class is named twice.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn the entries into arrays."""
        project = self.context["project"]
        attrs["predictions"] = _checked(attrs["predictions"], len(attrs["class_ids"]), project)
        return attrs


def _checked(entries: Any, n_classes: int, project: Project) -> PostedPredictions:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_AT_ONCE:
        raise serializers.ValidationError(
            {"predictions": f"Send a list of 1 to {MOST_AT_ONCE:,} predictions."}
        )
    errors: dict[int, str] = {}
    known = image_ids_of(project, _external_ids(entries))
    image_ids: list[int] = []
    seen: set[int | str] = set()
    table = np.zeros((len(entries), n_classes), dtype=np.float64)
    for index, entry in enumerate(entries):
        if problem := _wrong_entry(entry, n_classes):
            errors[index] = problem
            continue
        name, value = _name_of(entry)
        image_id = known.get(str(value), 0) if name == "external_id" else value
        if (image_id or value) in seen:
            errors[index] = f"Image {value} is here twice."
        seen.add(image_id or value)
        image_ids.append(image_id)
        table[index] = entry["probabilities"]
    sums = table.sum(axis=1)
    wrong = ~np.isfinite(table).all(axis=1) | (table < 0).any(axis=1) | (table > 1).any(axis=1)
    off = (project.kind == Project.Kind.ONE_CLASS) & (np.abs(sums - 1) > SUM_TOLERANCE)
    for index in np.flatnonzero(wrong).tolist():
        errors.setdefault(index, "Probabilities are numbers from 0 to 1.")
    for index in np.flatnonzero(off).tolist():
        errors.setdefault(
            index, f"The probabilities of an image sum to 1, not to {sums[index]:.3g}."
        )
    if errors:
        first = sorted(errors)[:ERRORS_SHOWN]
        raise serializers.ValidationError(
            {"predictions": {str(index): errors[index] for index in first}}
        )
    return PostedPredictions(image_ids, [_name_of(entry) for entry in entries], table)


def _external_ids(entries: list[Any]) -> set[str]:
    named = (entry.get("external_id") for entry in entries if isinstance(entry, dict))
    return {value for value in named if isinstance(value, str)}


def _name_of(entry: dict[str, Any]) -> tuple[str, Any]:
    name = "image" if "image" in entry else "external_id"
    return name, entry[name]


def _wrong_entry(entry: Any, n_classes: int) -> str:
    if not isinstance(entry, dict) or set(entry) not in ENTRIES:
        return "A prediction has image or external_id, and probabilities, and nothing else."
    name, value = _name_of(entry)
    values = entry["probabilities"]
    if name == "image" and (type(value) is not int or not 1 <= value <= LARGEST_ID):
        return "image is the id of an image."
    if name == "external_id" and (type(value) is not str or not 1 <= len(value) <= MAX_EXTERNAL_ID):
        return f"external_id is a text of 1 to {MAX_EXTERNAL_ID} characters."
    if not isinstance(values, list) or len(values) != n_classes:
        return f"probabilities is a list of {n_classes} numbers, one for each of class_ids."
    if not all(type(value) in (int, float) for value in values):
        return "Probabilities are numbers from 0 to 1."
    return ""
