"""Array aliases and their checks: bad input is refused at the door, with the row named."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
AnyNumber = TypeVar("AnyNumber", bound=np.generic)

ROW_SUM_TOLERANCE = 1e-3


class BadArrayError(ValueError):
    """An array is not what a function needs; ``rows`` are the first rows at fault."""

    def __init__(self, sentence: str, rows: list[int] | None = None) -> None:
        super().__init__(sentence)
        self.rows = rows or []


def rows_of(table: NDArray[AnyNumber], rows: IntArray) -> NDArray[AnyNumber]:
    """Return some rows of a table; a stretch of neighbours without copying it.

    Args:
        table: shape (n, dim), perhaps mapped from a file.
        rows: shape (m,), indices.
    """
    if not len(rows):
        return table[:0]
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all()):
        return table[first : last + 1]
    return table[rows]


def check_finite(array: FloatArray, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        BadArrayError: some row holds one; the error names the first rows.
    """
    finite = np.isfinite(array)
    if not finite.all():
        axes = tuple(range(1, array.ndim))
        rows = np.flatnonzero(~finite.all(axis=axes))[:10].tolist()
        raise BadArrayError(f"{name} must be finite; not so in row {rows[0]}", rows)


def check_table(array: FloatArray, name: str) -> None:
    """Refuse what is not a finite two-dimensional array.

    Raises:
        BadArrayError: wrong number of axes, or NaN or infinity inside.
    """
    if array.ndim != 2:
        raise BadArrayError(f"{name} must have two axes, not {array.ndim}")
    check_finite(array, name)


def check_probabilities(probabilities: FloatArray) -> None:
    """Refuse what is not a table of probabilities with rows that sum to 1.

    Raises:
        BadArrayError: the shape, the range or a row's sum is wrong.
    """
    check_table(probabilities, "probabilities")
    if probabilities.shape[1] < 2:
        raise BadArrayError("probabilities need at least two classes")
    _check_range(probabilities)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(np.abs(sums - 1.0) > ROW_SUM_TOLERANCE)
    if len(bad):
        raise BadArrayError(
            f"each row must sum to 1; row {bad[0]} sums to {sums[bad[0]]:.4f}", bad[:10].tolist()
        )


def check_label_probabilities(probabilities: FloatArray) -> None:
    """Refuse what is not a table of independent probabilities, each from 0 to 1.

    Raises:
        BadArrayError: the shape or the range is wrong.
    """
    check_table(probabilities, "probabilities")
    _check_range(probabilities)


def _check_range(probabilities: FloatArray) -> None:
    outside = (probabilities < -1e-6) | (probabilities > 1 + 1e-6)
    if outside.any():
        rows = np.flatnonzero(outside.any(axis=1))[:10].tolist()
        raise BadArrayError(f"probabilities lie from 0 to 1; not so in row {rows[0]}", rows)
