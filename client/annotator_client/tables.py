"""Files a command reads: labels and probabilities."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator_client.errors import AnnotatorError

NAME_COLUMNS = ("file_name", "file", "filename")
CLASS_COLUMNS = ("class", "label")
# What an image may be named by.
KIND_OF = {
    "image": "id", "image_id": "id", "id": "id", "external_id": "external_id",
    **dict.fromkeys(NAME_COLUMNS, "file_name"),
}  # fmt: skip


@dataclass(frozen=True)
class Probabilities:
    """What a file says of images.

    Attributes:
        kind: what the images are named by: ``id``, ``external_id`` or ``file_name``.
        images: their names of that kind.
        classes: the names of the columns.
        rows: a row for each image.
    """

    kind: str
    images: list[int] | list[str]
    classes: list[str]
    rows: Any


def labels_of(path: Path) -> dict[str, list[str]]:
    """Return file name -> classes of a CSV file with the columns ``file_name`` and ``class``.

    Several lines of one file are several classes.

    Raises:
        AnnotatorError: the file cannot be read, or has other columns.
    """
    reader = _reader(path)
    name, class_ = _column(reader, NAME_COLUMNS, path), _column(reader, CLASS_COLUMNS, path)
    found: dict[str, list[str]] = {}
    for row in reader:
        found.setdefault(row[name], []).append(row[class_])
    return found


def probabilities_of(path: Path) -> Probabilities:
    """Return the probabilities of a CSV or NPZ file.

    A CSV has a column ``image`` (id), ``external_id`` or ``file_name``, and one for each class,
    named like it. An NPZ has the arrays ``images``, ``external_ids`` or ``file_names``, and
    ``classes`` and ``probabilities``.

    Raises:
        AnnotatorError: the file cannot be read, or is something else.
    """
    if path.suffix.lower() == ".npz":
        return _of_npz(path)
    return _of_csv(path)


def _of_csv(path: Path) -> Probabilities:
    reader = _reader(path)
    column = _column(reader, tuple(KIND_OF), path)
    classes = [name for name in reader.fieldnames or [] if name != column]
    names: list[str] = []
    rows: list[list[float]] = []
    for number, row in enumerate(reader, 2):
        names.append(row[column])
        rows.append(list(_numbers((row[name] for name in classes), path, number)))
    kind = KIND_OF[column]
    images = [_whole(name, path) for name in names] if kind == "id" else names
    return Probabilities(kind, images, classes, rows)


def _numbers(texts: Iterable[str | None], path: Path, line: int) -> Iterator[float]:
    for text in texts:
        try:
            number = float(text or "")
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise AnnotatorError(f"{path}, line {line}: “{text or ''}” is no number.")
        yield number


def _whole(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise AnnotatorError(
            f"{path}: “{text}” is no id of an image. Call the column file_name if it is one."
        ) from error


def _of_npz(path: Path) -> Probabilities:
    try:
        import numpy as np
    except ImportError as error:
        raise AnnotatorError(
            "NPZ files need numpy: pip install 'annotator-client[npz]'."
        ) from error
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kinds = {"images": "id", "external_ids": "external_id", "file_names": "file_name"}
            key = next((name for name in kinds if name in arrays), "images")
            classes = [str(name) for name in arrays["classes"]]
            return Probabilities(kinds[key], arrays[key].tolist(), classes, arrays["probabilities"])
    except (OSError, ValueError, KeyError) as error:
        raise AnnotatorError(
            f"{path} is no NPZ file with the arrays images (or external_ids, or file_names), "
            f"classes and probabilities ({error})."
        ) from error


def _reader(path: Path) -> "csv.DictReader[str]":
    try:
        # Read at once: a file that is no text is told before anything is sent.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise AnnotatorError(f"{path} cannot be read: {reason}.") from error
    return csv.DictReader(text.splitlines())


def _column(reader: "csv.DictReader[str]", names: tuple[str, ...], path: Path) -> str:
    found = next((name for name in reader.fieldnames or [] if name in names), None)
    if found is None:
        has = ", ".join(reader.fieldnames or []) or "none"
        raise AnnotatorError(f"{path} needs a column {' or '.join(names)}. Its columns: {has}.")
    return found
