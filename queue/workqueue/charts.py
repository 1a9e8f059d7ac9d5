"""Charts of the progress page as plain numbers for an SVG template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 1000, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 32


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

    width: int
    height: int
    left: int
    right: int
    bottom: float
    line: str
    band: str
    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def _x(value: float, top: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * value / max(top, 1), 1)


def _y(value: float, top: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / max(top, 1e-9)), 1)


def _joined(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in pairs)


def _chart(
    line: list[tuple[float, float]],
    band: list[tuple[float, float]],
    points: list[Point],
    x_ticks: list[Tick],
    y_ticks: list[Tick],
) -> Chart:
    return Chart(
        WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM,
        _joined(line), _joined(band), points, x_ticks, y_ticks,
    )  # fmt: skip


def accuracy_chart(curve: Sequence[dict[str, Any]]) -> Chart | None:
    """Return the learning curve with its interval, or None when there is nothing to draw."""
    if not curve:
        return None
    most = max(entry["n_labels"] for entry in curve)
    xs = [_x(entry["n_labels"], most) for entry in curve]
    line = [(x, _y(entry["accuracy"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
    low = [(x, _y(entry["low"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
    high = [(x, _y(entry["high"], 1.0)) for x, entry in zip(xs, curve, strict=True)]
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
        line,
        [*high, *low[::-1]],
        points,
        [Tick(_x(most * step / 4, most), f"{most * step / 4:.0f}") for step in range(5)],
        [Tick(_y(step / 4, 1.0), f"{step * 25} %") for step in range(5)],
    )


def total_chart(days: Sequence[dict[str, Any]]) -> Chart | None:
    """Return the number of labels over the days, or None before the second day."""
    if len(days) < 2:
        return None
    most = days[-1]["total"]
    steps = max(len(days) - 1, 1)
    line = [(_x(i, steps), _y(day["total"], most)) for i, day in enumerate(days)]
    points = [
        Point(x, y, f"{day['day']}: {day['n']} labels, {day['total']} in all")
        for (x, y), day in zip(line, days, strict=True)
    ]
    marks = sorted({0, len(days) // 2, len(days) - 1})
    return _chart(
        line,
        [],
        points,
        [Tick(_x(i, steps), days[i]["day"][5:]) for i in marks],
        [Tick(_y(most * step / 4, most), f"{most * step / 4:.0f}") for step in range(5)],
    )
