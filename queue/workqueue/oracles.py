"""Labelled pictures from outside: the truth that a simulation and the demo label from."""

import csv
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
SPLITS = ("train", "test", "validation", "val")


class NoLabelledImagesError(Exception):
    """The folder or archive holds no labelled pictures; the text says what is expected."""


@dataclass(frozen=True)
class LabelledFile:
    """A picture and the class it truly has."""

    path: Path
    class_name: str
    split: str = ""


def read_oracle(source: Path, *, unpack_into: Path) -> list[LabelledFile]:
    """Return the labelled pictures of a folder or archive.

    Accepted are a table ``labels.csv`` with the columns file, label and perhaps split, or one
    folder per class (also below ``train`` and ``test``), as such or in a tar or zip.

    Args:
        source: the folder or archive.
        unpack_into: an empty folder for an archive's files.

    Raises:
        NoLabelledImagesError: nothing of the kind is there.
    """
    folder = source if source.is_dir() else _unpack(source, unpack_into)
    tables = sorted(folder.rglob("labels.csv"))
    files = _from_table(tables[0]) if tables else _from_folders(folder)
    if len({file.class_name for file in files}) < 2:
        raise NoLabelledImagesError(
            f"{source} holds no labelled pictures of at least two classes. Expected: one folder "
            "per class with pictures in it, or a labels.csv with the columns file and label."
        )
    return files


def _unpack(archive: Path, into: Path) -> Path:
    if not archive.is_file():
        raise NoLabelledImagesError(f"There is no folder or archive {archive}.")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(into)  # noqa: S202 - a set the operator names, into its own folder
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            opened.extractall(into, filter="data")
    else:
        raise NoLabelledImagesError(f"{archive} is neither a folder nor a tar or zip archive.")
    return into


def _from_table(table: Path) -> list[LabelledFile]:
    with table.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise NoLabelledImagesError(f"{table} needs the columns file and label.")
    files = [
        LabelledFile(table.parent / row["file"], row["label"], row.get("split") or "")
        for row in rows
    ]
    return [file for file in files if file.path.is_file()]


def _from_folders(folder: Path) -> list[LabelledFile]:
    return [
        LabelledFile(path, path.parent.name, _split_of(path.relative_to(folder)))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURES and path.parent != folder
    ]


def _split_of(relative: Path) -> str:
    return next((part for part in relative.parts[:-2] if part.lower() in SPLITS), "")
