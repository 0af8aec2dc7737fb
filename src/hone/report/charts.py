"""Charts as inline SVG: no script, readable without colour, hover text in <title>."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hone.report.findings import Histogram
from hone.report.html import Html, element

WIDTH = 720
LEFT, RIGHT = 44, 12
MOST_BARS = 1_000
Place = Callable[[float, float], tuple[float, float]]
"""A point in the units of the data to a point of the drawing."""


@dataclass(frozen=True)
class Line:
    """A named curve through points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def gain_bars(gains: Sequence[float], labels: Sequence[str], title: str) -> Html:
    """A bar for each query, best gain first, around a line at 0."""
    height = 220
    shown = spread(len(gains))
    top = _ceiling(max([abs(gain) for gain in gains], default=0) or 1)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(shown))
    middle, unit = height / 2, (height / 2 - 12) / top
    bars = [_bar(LEFT + place * step, step, middle, unit * gains[at], labels[at]) for place, at in enumerate(shown)]
    grid = [_grid(middle - unit * value, f"{100 * value:+.0f}" if value else "0") for value in (-top, 0, top)]
    return _svg(height, title, *grid, *bars)


def line_chart(lines: Sequence[Line], title: str, x_name: str, x_format: str = "{:,.0f}", least: float = 0.0) -> Html:
    """Curves on common axes, each named at its last point; upright they span at least `least`."""
    height, bottom = 244, 38
    points = [point for line in lines for point in line.points]
    last = max(x for x, _ in points)
    low, high = _padded(min(y for _, y in points), max(y for _, y in points), least)
    labels = {tick: f"{tick:.6g}" for tick in _round_ticks(low, high)}
    left = max(LEFT, 10 + 7 * max(map(len, labels.values()), default=0))
    right = min(260, 24 + 7 * max(len(line.name) for line in lines))  # room for the names

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (WIDTH - left - right) * (x / (last or 1))
        return across, 12 + (height - bottom - 12) * (high - y) / (high - low)

    grid = [_grid(place(0, tick)[1], label, left, right) for tick, label in labels.items()]
    axis = [_text(place(x, low)[0], height - 18, x_format.format(x), "middle") for x in _x_ticks(last)]
    names = _apart([place(*line.points[-1])[1] for line in lines])
    drawn = [_curve(line, number, place, names[number], WIDTH - right + 10) for number, line in enumerate(lines)]
    return _svg(height, title, *grid, *axis, _text((left + WIDTH - right) / 2, height - 4, x_name, "middle"), *drawn)


def _x_ticks(last: float) -> list[float]:
    """Start, middle and end; whole numbers where the axis is long."""
    return sorted({0.0, last / 2, last} if last <= 2 else {0.0, float(round(last / 2)), float(round(last))})


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to six values from low to high that are 1, 2 or 5 times a power of ten apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = power * next(times for times in (5, 2, 1) if power * times <= (high - low) / 3)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def histogram(drawn_from: Histogram) -> Html:
    """Two distributions as stepped outlines over one axis, each named in its colour."""
    height, bottom, top = 170, 34, 26
    most = max((share for row in drawn_from.shares.values() for share in row), default=1.0) or 1.0
    width = WIDTH - LEFT - RIGHT

    def outline(shares: Sequence[float]) -> str:
        step = width / len(shares)
        heights = [height - bottom - (height - bottom - top) * share / most for share in shares]
        spots = [(LEFT + (at + side) * step, y) for at, y in enumerate(heights) for side in (0, 1)]
        floor = height - bottom
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in [(LEFT, floor), *spots, (WIDTH - RIGHT, floor)])

    drawn = [
        element(
            "g",
            element("polygon", points=outline(shares)),
            _text(LEFT + 8 + 150 * number, 14, f"■ {name}", "start"),
            class_=f"shape shape{number}",
        )
        for number, (name, shares) in enumerate(drawn_from.shares.items())
    ]
    ticks = [(LEFT, drawn_from.low, "start"), (LEFT + width / 2, (drawn_from.low + drawn_from.high) / 2, "middle")]
    ticks.append((WIDTH - RIGHT, drawn_from.high, "end"))
    axis = [_text(x, height - 14, f"{value:.2f}", where) for x, value, where in ticks]
    grid = [_grid(height - bottom, "0%"), _grid(top, f"{most:.0%}")]
    return _svg(height, drawn_from.title, *grid, *axis, *drawn)


def interval_mark(value: float, low: float, high: float, reach: float) -> Html:
    """A small line from low to high with a dot at value, on a scale from -reach to reach with a tick at 0."""
    width, height = 120, 16

    def x(number: float) -> str:
        return f"{width / 2 + (width / 2 - 6) * number / (reach or 1):.1f}"

    kind = "up" if low > 0 else "down" if high < 0 else "flat"
    return element(
        "svg",
        element("line", x1=width / 2, x2=width / 2, y1=0, y2=height, class_="zero"),
        element("line", x1=x(low), x2=x(high), y1=8, y2=8, class_=f"whisker {kind}"),
        element("circle", cx=x(value), cy=8, r=3.5, class_=f"dot {kind}"),
        viewBox=f"0 0 {width} {height}", width=width, height=height, aria_hidden="true",
    )  # fmt: skip


def whiskers(rows: Sequence[tuple[str, float, float, float]], title: str) -> Html:
    """A line for each row (name, value, low, high) with its interval, around a line at 0; values are hundredths."""
    step, top = 26, 28
    height, left = top + step * len(rows) + 8, min(330, 24 + 7 * max(len(name) for name, *_ in rows))
    reach = max((abs(bound) for _, _, low, high in rows for bound in (low, high)), default=0) or 0.01

    def x(value: float) -> float:
        return left + (WIDTH - left - RIGHT) * (value / reach + 1) / 2

    ticks = ((-reach, "start"), (0.0, "middle"), (reach, "end"))
    axis = [_text(x(at), 14, f"{100 * at:+.1f}".replace("-", "−") if at else "0", where) for at, where in ticks]
    drawn = [element("line", x1=f"{x(0):.1f}", x2=f"{x(0):.1f}", y1=top - 8, y2=height, class_="zero")]
    for number, (name, value, low, high) in enumerate(rows):
        y = top + step * number + step / 2
        kind = "up" if low > 0 else "down" if high < 0 else "flat"
        drawn.append(_text(left - 12, y + 4, name, "end"))
        drawn.append(element("line", x1=f"{x(low):.1f}", x2=f"{x(high):.1f}", y1=y, y2=y, class_=f"whisker {kind}"))
        drawn.append(element("circle", cx=f"{x(value):.1f}", cy=y, r=4, class_=f"dot {kind}"))
    return _svg(height, title, *axis, *drawn)


def _svg(height: int, title: str, *children: Html) -> Html:
    return element(
        "svg", element("title", title), *children, role="img", viewBox=f"0 0 {WIDTH} {height}", class_="chart"
    )


def _bar(x: float, step: float, middle: float, length: float, label: str) -> Html:
    width = step if step < 3 else step - 1
    return element(
        "rect", element("title", label), x=f"{x:.2f}", width=f"{width:.2f}",
        y=f"{middle - max(length, 0) if length else middle - 0.75:.2f}", height=f"{abs(length) or 1.5:.2f}",
        class_="up" if length > 0 else "down" if length < 0 else "flat",
    )  # fmt: skip


def _curve(line: Line, number: int, place: Place, name_y: float, name_x: float) -> Html:
    spots = [place(x, y) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3) for x, y in spots] if line.dots else []
    name = _text(name_x, name_y + 4, line.name, "start")
    return element("g", element("polyline", points=path), *dots, name, class_=f"line line{number}")


def _grid(y: float, label: str, left: float = LEFT, right: float = RIGHT) -> Html:
    rule = element("line", x1=left, x2=WIDTH - right, y1=f"{y:.1f}", y2=f"{y:.1f}")
    return element("g", rule, _text(left - 8, y + 4, label.replace("-", "−"), "end"), class_="grid")


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def spread(count: int) -> list[int]:
    """All positions, or MOST_BARS of them evenly spread."""
    return [position * count // min(count, MOST_BARS) for position in range(min(count, MOST_BARS))]


def _ceiling(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, at most 1."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next(power * step for step in (1, 2, 5, 10) if power * step >= value * (1 - 1e-9)))


def _padded(low: float, high: float, least: float) -> tuple[float, float]:
    pad = max((high - low or abs(high) or 1.0) * 0.06, (least - (high - low)) / 2)
    return low - pad, high + pad


def _apart(heights: list[float], least: float = 15) -> list[float]:
    """Heights of names moved down where they would cover each other."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=lambda at: moved[at])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + least)
    return moved
