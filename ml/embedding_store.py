"""Embeddings on disk: immutable ``.npy`` segments of float16 rows, memory-mapped to read.

A segment is written beside its place, flushed and renamed, so that it is complete or absent. The
database names the segments that count; any other file is left over from a killed worker.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.arrays import FloatArray, IntArray, check_table


class TornSegmentError(Exception):
    """A segment's file is missing, short or altered: its images must be embedded again."""


@dataclass(frozen=True)
class Segment:
    """One immutable file of embeddings."""

    name: str
    rows: int
    dim: int
    sha256: str


def write_segment(folder: Path, vectors: FloatArray) -> Segment:
    """Store embeddings as a new segment, on disk for good when this returns.

    Args:
        folder: where segments live; made when missing.
        vectors: shape (n, dim), finite.

    Raises:
        BadArrayError: a row is not finite.
        OSError: the disk is full or broken; nothing is left behind.
    """
    check_table(vectors, "embeddings")
    rows = np.ascontiguousarray(vectors, dtype=np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{uuid.uuid4().hex}.npy"
    building = folder / f".{name}"
    try:
        with building.open("wb") as file:
            np.save(file, rows)
            file.flush()
            os.fsync(file.fileno())
        sha256 = _sha256(building)
        building.replace(folder / name)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Segment(name=name, rows=rows.shape[0], dim=rows.shape[1], sha256=sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_segment(folder: Path, name: str) -> FloatArray:
    """Return a segment's rows, mapped read-only, (n, dim) float16.

    Raises:
        TornSegmentError: the file is missing or cut short.
    """
    try:
        rows: FloatArray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TornSegmentError(f"segment {name} cannot be read: {error}") from error
    return rows


def verify_segment(folder: Path, segment: Segment) -> None:
    """Check a segment's file against what was registered.

    Raises:
        TornSegmentError: missing, short or altered.
    """
    rows = read_segment(folder, segment.name)
    if (
        rows.shape != (segment.rows, segment.dim)
        or _sha256(folder / segment.name) != segment.sha256
    ):
        raise TornSegmentError(f"segment {segment.name} is not what was stored")


def remove_segment(folder: Path, name: str) -> None:
    """Delete a segment's file, if it is there."""
    (folder / name).unlink(missing_ok=True)


def remove_strays(folder: Path, *, keep: Collection[str], older_than_s: float = 86_400) -> int:
    """Delete the files nobody names, once they are too old to be just being written.

    Returns:
        How many files were deleted.
    """
    newest = time.time() - older_than_s
    strays = [
        path
        for path in folder.glob("*.npy")
        if path.name not in keep and path.stat().st_mtime < newest
    ]
    for path in strays:
        path.unlink(missing_ok=True)
    return len(strays)


def gather(folder: Path, names: Sequence[str], rows: IntArray) -> FloatArray:
    """Return embeddings by place, (n, dim) float16, in the order asked.

    Args:
        folder: where segments live.
        names: the segment of each embedding; fastest when equal names stand together.
        rows: its row in the segment.

    Raises:
        TornSegmentError: a segment cannot be read.
    """
    if not len(names):
        return np.empty((0, 0), dtype=np.float16)
    parts = [
        _rows_of(read_segment(folder, names[start]), rows[start:end]) for start, end in _runs(names)
    ]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _rows_of(segment: FloatArray, rows: IntArray) -> FloatArray:
    """Return some rows; a stretch of neighbours without copying it."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (np.diff(rows) == 1).all():
        return segment[first : last + 1]
    return segment[rows]


def _runs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of equal names."""
    start = 0
    for index in range(1, len(names) + 1):
        if index == len(names) or names[index] != names[start]:
            yield start, index
            start = index


def iter_blocks(
    folder: Path, names: Sequence[str], rows: IntArray, *, block_rows: int
) -> Iterator[FloatArray]:
    """Yield embeddings block by block in the order asked, (<= block_rows, dim) float16 each."""
    for start in range(0, len(names), block_rows):
        end = start + block_rows
        yield gather(folder, names[start:end], rows[start:end])
