"""Learning curves as a self-contained SVG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 48, 56
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
INK, SOFT, PAPER = "#1f2933", "#7b8794", "#ffffff"


@dataclass(frozen=True)
class Line:
    """One curve: ``y`` from 0 to 1 over ``x``."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def draw_curves(lines: Sequence[Line], *, title: str, x_title: str, y_title: str) -> str:
    """Return the SVG of some curves with axes, grid and names at their ends."""
    x_max = max((value for line in lines for value in line.x), default=1) or 1
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        f'<text x="{LEFT}" y="26" font-size="15" fill="{INK}">{escape(title)}</text>',
        *_grid(x_max, x_title, y_title),
    ]
    ends = _spread([_y(line.y[-1]) if line.y else 0.0 for line in lines])
    for index, line in enumerate(lines):
        if line.x:
            drawn += _curve(line, COLOURS[index % len(COLOURS)], x_max, ends[index])
    return "\n".join([*drawn, "</svg>\n"])


def _x(value: float, x_max: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / x_max


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value)


def _grid(x_max: float, x_title: str, y_title: str) -> list[str]:
    lines = []
    for step in range(0, 11, 2):
        y = _y(step / 10)
        lines.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{SOFT}" stroke-opacity="0.25"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{SOFT}">'
            f"{step * 10} %</text>"
        )
    for step in range(6):
        value = x_max * step / 5
        lines.append(
            f'<text x="{_x(value, x_max):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" '
            f'fill="{SOFT}">{value:.0f}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle" fill="{INK}">'
        f"{escape(x_title)}</text>"
        f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle" fill="{INK}">{escape(y_title)}</text>'
    )
    return lines


def _spread(ends: list[float], gap: float = 18.0) -> list[float]:
    """Move the names apart where curves end close to each other."""
    placed: dict[int, float] = {}
    last = -gap
    for index in sorted(range(len(ends)), key=ends.__getitem__):
        last = max(ends[index], last + gap)
        placed[index] = last
    return [placed[index] for index in range(len(ends))]


def _curve(line: Line, colour: str, x_max: float, name_y: float) -> list[str]:
    points = [(_x(x, x_max), _y(y)) for x, y in zip(line.x, line.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    name = f"{line.name.replace('_', ' ')} {line.y[-1]:.0%}"
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>{dots}',
        f'<text x="{points[-1][0] + 10:.1f}" y="{name_y + 4:.1f}" fill="{colour}">'
        f"{escape(name)}</text>",
    ]
