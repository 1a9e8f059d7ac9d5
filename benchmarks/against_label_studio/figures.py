"""What was measured of both, side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.against_label_studio.client import OK, Call
from benchmarks.queue_load.figures import percentile


@dataclass(frozen=True)
class Pair:
    """One figure of both.

    Attributes:
        what: was measured.
        ours: Annotator's.
        theirs: Label Studio's.
        unit: of both.
        tails: the 95th percentiles of both, where the figures are medians.
        better: ``less``, ``more``, or empty where neither is.
    """

    what: str
    ours: float
    theirs: float
    unit: str = "ms"
    tails: tuple[float, float] | None = None
    better: str = "less"

    @property
    def times(self) -> float | None:
        """How many times better ours is, below 1 where it is worse; None where that says nothing.

        A figure of 0 has no ratio.
        """
        if not self.better or not self.ours or not self.theirs:
            return None
        return self.theirs / self.ours if self.better == "less" else self.ours / self.theirs

    @property
    def cells(self) -> list[str]:
        """Return the cells of its row."""
        ours, theirs = self.tails or (None, None)
        return [self.what, self._shown(self.ours, ours), self._shown(self.theirs, theirs),
                self._verdict()]  # fmt: skip

    def _shown(self, value: float, tail: float | None) -> str:
        text = _number(value) if tail is None else f"{_number(value)} ({_number(tail)})"
        return f"{text} {self.unit}".strip()

    def _verdict(self) -> str:
        if self.times is None:
            return ""
        if self.times >= 1:
            return f"{_number(self.times)} times better"
        return f"**{_number(1 / self.times)} times worse**"

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "times": self.times}


HEAD = ["What", "Annotator", "Label Studio", "Annotator is"]


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def times_of(what: str, op: str, ours: Sequence[Call], theirs: Sequence[Call]) -> Pair:
    """Return median and 95th percentile of the answered requests of a kind, in milliseconds."""
    mine, others = _milliseconds(ours, op), _milliseconds(theirs, op)
    return Pair(
        what,
        round(statistics.median(mine), 2),
        round(statistics.median(others), 2),
        tails=(round(percentile(mine, 0.95), 2), round(percentile(others, 0.95), 2)),
    )


def _milliseconds(calls: Sequence[Call], op: str) -> list[float]:
    return [call.seconds * 1000 for call in calls if call.op == op and call.status in OK]


def n_failed(calls: Sequence[Call], *ops: str) -> int:
    """Return how many requests of these kinds were refused or not answered."""
    return sum(call.op in ops and call.status not in OK for call in calls)


def as_markdown(pairs: Sequence[Pair]) -> str:
    """Return a table for the documentation."""
    rows = [HEAD, ["---"] * len(HEAD), *(pair.cells for pair in pairs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
