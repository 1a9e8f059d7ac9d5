"""The export as a table: one row a label."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from annotator.exports.formats.source import Source
from annotator.exports.records import EXTERNAL_ID, HAS_EXTERNAL_ID, Record

# A spreadsheet takes what begins so for a formula and runs it.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
SEPARATOR = "; "


def write_csv(source: Source, target: IO[bytes]) -> None:
    """Write a row for each label; an image without one has one row."""
    names = source.wanted.names
    target.write(csv_line(_columns(names=names)).encode())
    for record in source.records():
        for row in _rows(record, names=names):
            target.write(csv_line(row).encode())


def _columns(*, names: bool) -> list[str]:
    return [
        "image_id",
        *([EXTERNAL_ID] if HAS_EXTERNAL_ID else []),
        "file_name", "sha256", "width", "height", "annotation_id", "class_ids", "classes",
        "annotator",
        *(["annotator_name"] if names else []),
        "at", "seconds", "outcome", "source", "consensus", "agreement", "chosen", "explored",
        "draw_probability", "heuristic", "score", "position", "model",
    ]  # fmt: skip


def _rows(record: Record, *, names: bool) -> Iterator[list[Any]]:
    consensus = record["consensus"] or {"classes": [], "agreement": None}
    for label in record["labels"] or [None]:
        said = label or {"classes": [], "class_ids": [], "served": {}}
        served = said["served"]
        yield [
            record["id"],
            *([record[EXTERNAL_ID]] if HAS_EXTERNAL_ID else []),
            record["file_name"], record["sha256"], record["width"], record["height"],
            said.get("id"), " ".join(map(str, said["class_ids"])), SEPARATOR.join(said["classes"]),
            said.get("annotator"),
            *([said.get("annotator_name")] if names else []),
            said.get("at"), said.get("seconds"), said.get("outcome"), said.get("source"),
            SEPARATOR.join(consensus["classes"]), consensus["agreement"], record["chosen"],
            _yes(served.get("explored")), served.get("draw_probability"), served.get("heuristic"),
            served.get("score"), served.get("position"), served.get("model"),
        ]  # fmt: skip


def _yes(value: bool | None) -> str:
    return "" if value is None else str(int(value))


def csv_line(cells: Sequence[Any] | Iterable[Any]) -> str:
    """Return one line of a table that no spreadsheet runs."""
    line = io.StringIO()
    # A lone carriage return would end a line for readers, and Python quotes only what is in the end
    # of lines.
    csv.writer(line, lineterminator="\r\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell
