"""The exports that hold the pictures: zips, written as a stream, the same bytes each time."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.core.files.storage import default_storage

from annotator.exports.formats.names import folder_names, picture_name
from annotator.exports.formats.source import Picture, Source
from annotator.exports.formats.tables import SEPARATOR, csv_line
from annotator.exports.records import EXTERNAL_ID, HAS_EXTERNAL_ID, Record

# The clock has no place in it: the same moment gives the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16
COPY_BYTES = 1024**2
TABLE = "labels.csv"
METADATA = "metadata.jsonl"


def write_folders(source: Source, target: IO[bytes]) -> None:
    """Write a folder for each class with its pictures, and a table that says what they are.

    Images without a label are left out: there is no folder for them.
    """
    folders = folder_names(source.contents.classes, TABLE)
    with _zip(target) as archive, _spooled() as table:
        table.write(csv_line(["path", *_facts()]).encode())
        for record in source.records():
            if record["consensus"] is None:
                continue
            (class_id,) = record["consensus"]["class_ids"]
            picture = source.picture(record)
            path = f"{folders[class_id]}/{_name(record, picture)}"
            _add_picture(archive, path, picture)
            table.write(csv_line([path, *_facts_of(record)]).encode())
        _add_text(archive, TABLE, table)


def write_huggingface(source: Source, target: IO[bytes]) -> None:
    """Write an `imagefolder`: pictures, and a line of metadata for each of them."""
    with _zip(target) as archive, _spooled() as lines:
        for record in source.records():
            picture = source.picture(record)
            path = f"images/{_name(record, picture)}"
            _add_picture(archive, path, picture)
            line = {"file_name": path, **_metadata(record, several=source.contents.several)}
            lines.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        _add_text(archive, METADATA, lines)


def _name(record: Record, picture: Picture) -> str:
    return picture_name(record["file_name"], record["id"], picture.ending)


def _metadata(record: Record, *, several: bool) -> dict[str, Any]:
    consensus = record["consensus"]
    classes = consensus["classes"] if consensus else []
    return {
        **({"labels": classes} if several else {"label": classes[0] if classes else None}),
        "image_id": record["id"],
        **({EXTERNAL_ID: record[EXTERNAL_ID]} if HAS_EXTERNAL_ID else {}),
        "original_file_name": record["file_name"],
        "sha256": record["sha256"],
        "chosen": record["chosen"],
        "n_labels": len(record["labels"]),
        "agreement": consensus["agreement"] if consensus else None,
    }


def _facts() -> list[str]:
    external = [EXTERNAL_ID] if HAS_EXTERNAL_ID else []
    return ["class", "image_id", *external, "file_name", "sha256", "chosen", "agreement"]


def _facts_of(record: Record) -> list[Any]:
    external = [record[EXTERNAL_ID]] if HAS_EXTERNAL_ID else []
    consensus = record["consensus"]
    return [
        SEPARATOR.join(consensus["classes"]), record["id"], *external, record["file_name"],
        record["sha256"], record["chosen"], consensus["agreement"],
    ]  # fmt: skip


@contextmanager
def _zip(target: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    # Pictures do not compress; anybody can look into it and read a part.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        yield archive


@contextmanager
def _spooled() -> Iterator[IO[bytes]]:
    """Make a file for text that is written while the archive grows, and added at its end."""
    with tempfile.SpooledTemporaryFile(max_size=COPY_BYTES) as text:
        yield text


def _add_picture(archive: zipfile.ZipFile, path: str, picture: Picture) -> None:
    with default_storage.open(picture.stored_name) as opened:
        _add(archive, _entry(path), opened, n_bytes=opened.size)


def _add_text(archive: zipfile.ZipFile, path: str, text: IO[bytes]) -> None:
    entry = _entry(path)
    entry.compress_type = zipfile.ZIP_DEFLATED
    n_bytes = text.tell()
    text.seek(0)
    _add(archive, entry, text, n_bytes=n_bytes)


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.external_attr = MODE
    # The same on every system the worker may run on.
    entry.create_system = 3
    return entry


def _add(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, text: Any, *, n_bytes: int) -> None:
    # zipfile decides by the size whether the entry needs the large headers.
    entry.file_size = n_bytes
    with archive.open(entry, "w") as target:
        shutil.copyfileobj(text, target, COPY_BYTES)
