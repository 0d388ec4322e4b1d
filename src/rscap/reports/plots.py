"""Charts: line charts as inline SVG, and dots with intervals. Colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rscap.reports.html import Html, element, join

Point = tuple[float, float]
MAX_POINTS = 300
"""Points drawn per line; longer logs are averaged in equal stretches."""
_WIDTH, _HEIGHT = 480.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 10.0, 34.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: points (x, y), the number of its colour, and whether it is a faint background or has marked points."""

    label: str
    points: tuple[Point, ...]
    colour: int
    faint: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One dot of an interval plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: int | None
    """Number of the colour; None draws a hollow dot."""


def smoothed(points: Sequence[Point], weight: float = 0.9) -> tuple[Point, ...]:
    """Exponential mean of y, corrected for its start (as in Adam), so that the first value is the first point's."""
    mean, total, found = 0.0, 0.0, []
    for x, y in points:
        if math.isfinite(y):
            mean, total = weight * mean + (1 - weight) * y, weight * total + (1 - weight)
            found.append((x, mean / total))
    return tuple(found)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from within low..high, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick's text: short, without needless digits."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    if abs(value) < 0.01:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def line_chart(series: Sequence[Series], *, title: str, x_label: str = "step", from_zero: bool = False) -> Html | None:
    """A line chart as SVG, with a title for screen readers; None if no point is finite."""
    drawn = [(line, _thin(_finite(line.points))) for line in series]
    points = [point for _, line in drawn for point in line]
    if not points:
        return None
    x_low, x_high = _bounds([x for x, _ in points], pad=0.0)
    y_low, y_high = _bounds([y for _, y in points], pad=0.06, from_zero=from_zero)

    def place(x: float, y: float) -> Point:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    axes = [_y_tick(place(x_low, tick)[1], label(tick)) for tick in ticks(y_low, y_high)]
    axes += [_x_tick(place(tick, y_low)[0], label(tick)) for tick in ticks(x_low, x_high)]
    lines = [_line(line, [place(x, y) for x, y in found]) for line, found in drawn if found]
    name = element("text", x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 4, class_="axis", text_anchor="middle")
    return element(
        "svg",
        element("title", title),
        *axes,
        *lines,
        name,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=title,
        class_="chart",
    )


def interval_chart(rows: Sequence[Interval], *, title: str, sign: bool = False) -> Html | None:
    """Dots with their 95 % intervals on one axis that includes 0, as HTML that keeps its text size at any width.

    None where there is nothing to draw. `sign` prints values with + or -.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None and math.isfinite(end)]
    if not ends:
        return None
    low, high = _bounds([*ends, 0.0], pad=0.04)
    low = 0.0 if min(ends) >= 0 else low
    high = 0.0 if max(ends) <= 0 else high
    if low == high:  # every value is 0
        low, high = -1.0, 1.0

    def place(value: float) -> str:
        return f"{(value - low) / (high - low):.2%}"

    marks = ticks(low, high, 5)
    grid = [
        element("i", "", class_="grid zero" if tick == 0 else "grid", style=f"left:{place(tick)}") for tick in marks
    ]
    lines = [_interval(row, place, grid, form="{:+z.3f}" if sign else "{:z.3f}") for row in rows]
    axis = [element("span", label(tick), style=f"left:{place(tick)}") for tick in marks]
    return element(
        "div", *lines, element("div", *axis, class_="scale"), class_="intervals", role="img", aria_label=title
    )


def _interval(row: Interval, place: Callable[[float], str], grid: Sequence[Html], form: str) -> Html:
    colour = "c-none" if row.colour is None else f"c{row.colour}"
    whisker = None
    if row.low is not None and row.high is not None:
        ends = f"left:{place(row.low)};right:calc(100% - {place(row.high)})"
        whisker = element("i", "", class_=f"whisker {colour}", style=ends)
    dot = element("i", "", class_=f"dot {colour}", style=f"left:{place(row.value)}")
    return join(
        element("span", row.label, class_="name"),
        element("span", form.format(row.value), class_="number"),
        element("span", *grid, whisker, dot, class_="track"),
    )


def _line(line: Series, points: Sequence[Point]) -> Html:
    kind = f"line c{line.colour}" + (" faint" if line.faint else "")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [element("polyline", points=path, class_=kind)]
    if line.marked or len(points) == 1:
        parts += [element("circle", cx=x, cy=y, r=3.2, class_=f"mark c{line.colour}") for x, y in points]
    return join(*parts)


def _y_tick(y: float, text: str) -> Html:
    return join(
        element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
        element("text", text, x=_LEFT - 7, y=y + 4, class_="tick", text_anchor="end"),
    )


def _x_tick(x: float, text: str) -> Html:
    anchor = "end" if x > _WIDTH - _RIGHT - 8 else "middle"
    return element("text", text, x=x, y=_HEIGHT - _BOTTOM + 16, class_="tick", text_anchor=anchor)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thin(points: list[Point]) -> list[Point]:
    """At most `MAX_POINTS` points: means of equal stretches."""
    if len(points) <= MAX_POINTS:
        return points
    edges = [round(index * len(points) / MAX_POINTS) for index in range(MAX_POINTS + 1)]
    stretches = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def _bounds(values: Sequence[float], *, pad: float, from_zero: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if from_zero:
        low = min(0.0, low)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return (low if low == 0 else low - margin), high + margin
    margin = (high - low) * pad
    return low if from_zero and low == 0 else low - margin, high + margin
