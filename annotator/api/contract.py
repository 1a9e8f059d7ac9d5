"""What a view promises to programs: the body it takes, what it answers, and who may ask.

The schema (``annotator.api.schema``) and the page about the API are made of this, and the tests
hold every answer against it. A view says it once, for each of its methods::

    contract = {"get": Operation(ClassOut), "patch": Operation(ClassOut, body=ClassPatch)}

The words are the docstrings: the first sentence of the class, and that of the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rest_framework import serializers

from annotator.accounts.models import Role


class Answer(serializers.Serializer[Any]):
    """The shape of an answer; every field is there in every answer. Written by a presenter."""


@dataclass(frozen=True)
class File:
    """An answer or a body that is no object of ours.

    Attributes:
        media_type: its type; ``*/*`` where it is another each time.
        schema: what it is to a program, for JSON.
    """

    media_type: str
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Either:
    """A body or an answer that has one of some shapes."""

    shapes: tuple[type[serializers.Serializer[Any]], ...]


Shape = type[serializers.Serializer[Any]] | File | Either | None


@dataclass(frozen=True)
class Operation:
    """One method of one view.

    Attributes:
        answer: the shape of the body when all went well; None for no body.
        status: the status then.
        also: other good answers, by their status.
        body: what is sent; of several media types, which of them is which.
        role: the least role in the project; None: anybody who is signed in.
        problems: the codes of refusals beside those every route of its kind has.
        sends: request headers of its own; a name that ends with ``!`` has to be there.
        returns: headers of the answer.
        is_open: whether nobody needs to be signed in.
    """

    answer: Shape
    status: int = 200
    also: Mapping[int, Shape] = field(default_factory=dict)
    body: Shape | Mapping[str, Shape] = None
    role: Role | None = None
    problems: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    is_open: bool = False

    @property
    def answers(self) -> dict[int, Shape]:
        """The good answers by their status."""
        return {self.status: self.answer, **self.also}


@cache
def page_of_many(row: type[Answer]) -> type[Answer]:
    """Return the shape of a list that is read page by page (see ``annotator.api.paging``)."""
    fields = {
        "__doc__": f"One page of a list of {_name(row)}.",
        "results": row(many=True, help_text="the rows of this page, in the order of the list"),
        "next": text("the address of the next page; null after the last row", null=True),
        "previous": text("the address of the page before", null=True),
    }
    return type(f"{_name(row)}Page", (Answer,), fields)


def _name(row: type[Answer]) -> str:
    return row.__name__.removesuffix("Out")


# --- Fields of answers, each with what it means -------------------------------------------------


def whole(meaning: str, *, null: bool = False) -> Any:
    """A whole number."""
    return serializers.IntegerField(help_text=meaning, allow_null=null)


def real(meaning: str, *, null: bool = False) -> Any:
    """A number."""
    return serializers.FloatField(help_text=meaning, allow_null=null)


def text(meaning: str, *, null: bool = False) -> Any:
    """A text, empty or not."""
    return serializers.CharField(help_text=meaning, allow_null=null, allow_blank=True)


def yes_no(meaning: str, *, null: bool = False) -> Any:
    """True or false."""
    return serializers.BooleanField(help_text=meaning, allow_null=null)


def moment(meaning: str, *, null: bool = False) -> Any:
    """A time, ISO 8601 with its offset."""
    return serializers.DateTimeField(help_text=meaning, allow_null=null)


def day(meaning: str) -> Any:
    """A date."""
    return serializers.DateField(help_text=meaning)


def token(meaning: str, *, null: bool = False) -> Any:
    """A UUID."""
    return serializers.UUIDField(help_text=meaning, allow_null=null)


def one_of(values: Any, meaning: str, *, null: bool = False) -> Any:
    """One of some words, or of the values of an enumeration of text."""
    choices = values.values if hasattr(values, "values") else list(values)
    return serializers.ChoiceField(choices=choices, help_text=meaning, allow_null=null)


def many(child: Any, meaning: str) -> Any:
    """A list of what a field says."""
    return serializers.ListField(child=child, help_text=meaning)


def by_name(child: Any, meaning: str) -> Any:
    """An object whose keys are data."""
    return serializers.DictField(child=child, help_text=meaning)


def maybe(field: Any) -> Any:
    """A field that is not in every answer."""
    # A serializer copies its fields by what they were made with, not by what was set on them since.
    field._kwargs["required"] = False
    return field


def anything(meaning: str) -> Any:
    """JSON of no fixed shape, or null."""
    return serializers.JSONField(help_text=meaning)


def role(meaning: str, *, null: bool = False) -> Any:
    """The name of a role."""
    return one_of([entry.label.lower() for entry in Role], meaning, null=null)
