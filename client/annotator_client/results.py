"""What the server answers, as dataclasses.

Fields a newer server adds are left out, so that an older client goes on working.
"""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Result = TypeVar("Result")


def result_of(kind: type[Result], data: dict[str, Any]) -> Result:
    """Return the data of an answer as a dataclass, with times as ``datetime``."""
    converters = _converters(kind)  # type: ignore[arg-type]  # a class can be hashed
    return kind(**{name: convert(data.get(name)) for name, convert in converters})


@cache
def _converters(kind: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    hints = get_type_hints(kind)
    return [(field.name, _converter(hints[field.name])) for field in dataclasses.fields(kind)]


def _converter(hint: Any) -> Callable[[Any], Any]:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [entry for entry in get_args(hint) if entry is not type(None)]
    if hint is datetime:
        return _time
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return lambda data: None if data is None else result_of(hint, data)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            return lambda rows: [result_of(inner, row) for row in rows or []]
    return _as_it_is


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _as_it_is(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class LabelClass:
    """One entry of the label set."""

    id: int
    name: str
    colour: str
    hotkey: str
    position: int


@dataclasses.dataclass(frozen=True, slots=True)
class ProjectInfo:
    """What a project is, at the moment it was read."""

    id: int
    name: str
    kind: str
    instructions: str
    role: str
    n_images: int
    n_labelled: int
    n_labels: int
    annotators_per_image: int
    created_at: datetime
    classes: list[LabelClass]


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """What somebody said of an image; lists say whose it is, and whether it still stands."""

    id: int
    image_id: int
    class_ids: list[int]
    action: str
    outcome: str
    source: str
    author: str
    author_id: int | None
    is_current: bool | None
    seconds: float | None
    created_at: datetime
    external_id: str | None
    served: dict[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One picture."""

    id: int
    file_name: str
    width: int
    height: int
    n_bytes: int
    format: str
    status: str
    created_at: datetime
    display_url: str
    thumbnail_url: str
    original_url: str
    external_id: str | None
    annotations: list[Annotation]


@dataclasses.dataclass(frozen=True, slots=True)
class Why:
    """Why an image was served.

    Attributes:
        score: 0 to 1, higher is asked sooner; None where the order is none of a model.
        position: its place in the ranking, from 1.
        sentence: for people.
    """

    kind: str
    heuristic: str
    ranking: int | None
    score: float | None
    position: int | None
    n_candidates: int | None
    model: int | None
    external_model: str | None
    explored: bool
    sentence: str


@dataclasses.dataclass(frozen=True, slots=True)
class Suggestion:
    """What the model would say."""

    class_ids: list[int]
    probability: float


@dataclasses.dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a label; the outcomes are in docs/api.md."""

    annotation_id: int
    image_id: int
    class_ids: list[int]
    outcome: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One training and ranking."""

    id: int
    number: int
    trigger: str
    state: str
    n_labels: int
    n_pool: int
    n_candidates: int
    seconds: dict[str, float]
    metrics: dict[str, Any]
    note: str
    error: str
    model_number: int | None
    ranking_number: int | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether it is done or has failed."""
        return self.state in {"done", "failed"}


@dataclasses.dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy on images drawn at random, after a round."""

    n_labels: int
    accuracy: float
    low: float
    high: float
    n_measured: int
    model: int
    at: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of a project: the learning curve, and tables as docs/api.md has them."""

    curve: list[CurvePoint]
    labels_over_time: list[dict[str, Any]]
    per_class: Any
    per_person: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    id: int
    kind: str
    actor: int | None
    actor_name: str | None
    payload: dict[str, Any]
    at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of events; ``secret`` is known only where it was just made."""

    id: int
    url: str
    events: list[str]
    description: str
    is_active: bool
    secret: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """What became of a model's predictions.

    Attributes:
        n_created: images the model had said nothing of before.
        n_updated: images whose former prediction was replaced.
        rejected: what was posted for images that are not in the project: their ids.
    """

    n_created: int
    n_updated: int
    rejected: list[int | str]


@dataclasses.dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the file.
        result: ``created``, ``duplicate`` or ``rejected``.
        image: the image it became; None where the server knew the bytes before they were sent.
        code: why it was rejected, stable.
        reason: the same for people.
    """

    path: Path
    result: str
    image: Image | None = None
    code: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of all files, in the order they were given."""

    files: list[FileResult]

    @property
    def created(self) -> list[FileResult]:
        """Those that are new images."""
        return [file for file in self.files if file.result == "created"]

    @property
    def duplicates(self) -> list[FileResult]:
        """Those whose bytes the project had already."""
        return [file for file in self.files if file.result == "duplicate"]

    @property
    def rejected(self) -> list[FileResult]:
        """Those that are no images of the project, with the reason."""
        return [file for file in self.files if file.result == "rejected"]

    @property
    def summary(self) -> str:
        """All in one line."""
        return (
            f"{len(self.created)} added, {len(self.duplicates)} there already, "
            f"{len(self.rejected)} refused"
        )
