"""Figures with their targets, and how they are shown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        scenario: which load, for example ``LOAD-01``.
        database: where.
        what: what was measured.
        value: how much.
        unit: of the value.
        target: what it should be at most (or at least); None: told, not judged.
        at_least: whether more is better.
    """

    scenario: str
    database: str
    what: str
    value: float
    unit: str = "ms"
    target: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "is_met": self.is_met}

    @property
    def cells(self) -> list[str]:
        """Return the cells of its row."""
        sign = "≥" if self.at_least else "≤"
        target = "-" if self.target is None else f"{sign} {_number(self.target)} {self.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[self.is_met]
        measured = f"{_number(self.value)} {self.unit}"
        return [self.scenario, self.database, self.what, target.strip(), measured.strip(), verdict]


HEAD = ["Load", "Database", "What", "Target", "Measured", ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def as_markdown(figures: Iterable[Figure]) -> str:
    """Return a table for the documentation."""
    rows = [HEAD, ["---"] * len(HEAD), *(figure.cells for figure in figures)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def as_text(figures: Iterable[Figure]) -> str:
    """Return a table for a terminal."""
    rows = [HEAD, *(figure.cells for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
