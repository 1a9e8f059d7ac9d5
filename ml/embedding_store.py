"""Embeddings on disk: immutable ``.npy`` segments of float16 rows, memory-mapped to read.

A segment is written beside its place, flushed and renamed, so that it is complete or absent. The
database names the segments that count; any other file is left over from a killed worker.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ml.arrays import FloatArray, IntArray, check_table, rows_of


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


@dataclass(frozen=True)
class Places:
    """Where embeddings are stored.

    Attributes:
        names: names of segments.
        segment_of: shape (n,), which of the names each embedding is in; fastest when equal ones
            stand together.
        rows: shape (n,), its row there.
    """

    names: tuple[str, ...]
    segment_of: IntArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: IntArray) -> "Places":
        return Places(self.names, rows_of(self.segment_of, which), rows_of(self.rows, which))

    @classmethod
    def of(cls, places: Sequence[tuple[str, int]]) -> "Places":
        """Return places from pairs of segment name and row."""
        names = tuple(dict.fromkeys(name for name, _ in places))
        index = {name: number for number, name in enumerate(names)}
        return cls(
            names,
            np.array([index[name] for name, _ in places], dtype=np.int32),
            np.array([row for _, row in places], dtype=np.int64),
        )


def gather(folder: Path, places: Places) -> FloatArray:
    """Return embeddings by place, (n, dim) float16, in the order asked.

    Args:
        folder: where segments live.
        places: which embeddings; a stretch of neighbours is mapped, not copied.

    Raises:
        TornSegmentError: a segment cannot be read.
    """
    if not len(places):
        return np.empty((0, 0), dtype=np.float16)
    ends = np.flatnonzero(np.diff(places.segment_of)) + 1
    edges = [0, *ends.tolist(), len(places)]
    parts = [
        rows_of(
            read_segment(folder, places.names[places.segment_of[start]]), places.rows[start:end]
        )
        for start, end in pairwise(edges)
    ]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
