"""Charts of the progress page as plain numbers for an SVG template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 32


@dataclass(frozen=True)
class Size:
    """The drawing's size. Text keeps its size, so a narrow screen gets a drawing of its own."""

    name: str
    width: int
    height: int

    def x(self, value: float, top: float) -> float:
        """Return where a value stands between the left edge and the right."""
        return round(LEFT + (self.width - LEFT - RIGHT) * value / max(top, 1), 1)

    def y(self, value: float, top: float) -> float:
        """Return where a value stands between the bottom and the top."""
        return round(TOP + (self.height - TOP - BOTTOM) * (1 - value / max(top, 1e-9)), 1)


SIZES = (Size("wide", 1000, 280), Size("narrow", 340, 240))


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A dot with the text that explains it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Everything the template draws."""

    size: Size
    left: int
    right: int
    bottom: float
    line: str
    band: str
    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def _joined(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in pairs)


def _chart(
    size: Size,
    line: list[tuple[float, float]],
    band: list[tuple[float, float]],
    points: list[Point],
    x_ticks: list[Tick],
    y_ticks: list[Tick],
) -> Chart:
    return Chart(
        size, LEFT, size.width - RIGHT, size.height - BOTTOM,
        _joined(line), _joined(band), points, x_ticks, y_ticks,
    )  # fmt: skip


def accuracy_charts(curve: Sequence[dict[str, Any]]) -> list[Chart]:
    """Return the learning curve with its interval in each size; none when there is nothing."""
    return [_accuracy_chart(curve, size) for size in SIZES] if curve else []


def _accuracy_chart(curve: Sequence[dict[str, Any]], size: Size) -> Chart:
    most = max(entry["n_labels"] for entry in curve)
    xs = [size.x(entry["n_labels"], most) for entry in curve]
    line = [(x, size.y(entry["accuracy"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
    low = [(x, size.y(entry["low"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
    high = [(x, size.y(entry["high"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
    points = [
        Point(
            x,
            y,
            f"{entry['n_labels']} labels: {entry['accuracy']:.0%} "
            f"({entry['low']:.0%} to {entry['high']:.0%}), measured on {entry['n_measured']}",
        )
        for (x, y), entry in zip(line, curve, strict=True)
    ]
    return _chart(
        size,
        line,
        [*high, *low[::-1]],
        points,
        [Tick(size.x(most * step / 4, most), f"{most * step / 4:.0f}") for step in range(5)],
        [Tick(size.y(step / 4, 1.0), f"{step * 25} %") for step in range(5)],
    )


def total_charts(days: Sequence[dict[str, Any]]) -> list[Chart]:
    """Return the number of labels over the days in each size; none before the second day."""
    return [_total_chart(days, size) for size in SIZES] if len(days) > 1 else []


def _total_chart(days: Sequence[dict[str, Any]], size: Size) -> Chart:
    most = days[-1]["total"]
    steps = max(len(days) - 1, 1)
    line = [(size.x(i, steps), size.y(day["total"], most)) for i, day in enumerate(days)]
    points = [
        Point(x, y, f"{day['day']}: {day['n']} labels, {day['total']} in all")
        for (x, y), day in zip(line, days, strict=True)
    ]
    marks = sorted({0, len(days) // 2, len(days) - 1})
    return _chart(
        size,
        line,
        [],
        points,
        [Tick(size.x(i, steps), days[i]["day"][5:]) for i in marks],
        [Tick(size.y(most * step / 4, most), f"{most * step / 4:.0f}") for step in range(5)],
    )
