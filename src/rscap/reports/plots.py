"""Charts: line charts as inline SVG, and dots with intervals. Colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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


def smoothed(points: Sequence[Point], share: float = 0.03) -> tuple[Point, ...]:
    """The mean of y over a window around each finite point, so that it lags behind on neither side.

    The window holds `share` of the points; towards the ends it shrinks on both sides, and first and last value stay.
    """
    finite = _finite(points)
    sums = [0.0, *accumulate(y for _, y in finite)]
    half = round(len(finite) * share / 2)
    found = []
    for place, (x, _) in enumerate(finite):
        reach = min(half, place, len(finite) - 1 - place)
        low, high = place - reach, place + reach + 1
        found.append((x, (sums[high] - sums[low]) / (high - low)))
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


def labels(marks: Sequence[float]) -> list[str]:
    """The texts of an axis' ticks, all in one notation: as many decimals, thousands or powers of ten."""
    largest = max(map(abs, marks), default=0.0)
    if largest >= 10_000:
        return [f"{mark / 1000:g}k" if mark else "0" for mark in marks]
    if 0 < largest < 0.001:
        return [_power(mark) for mark in marks]
    decimals = next((places for places in range(7) if all(_is_whole(mark * 10**places) for mark in marks)), 7)
    return [f"{mark:z.{decimals}f}" for mark in marks]


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high, both above 0; round numbers where these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [mark for power in powers for factor in (1, 2, 5) if low <= (mark := factor * 10.0**power) <= high]
    return found if len(found) >= 3 else [mark for mark in ticks(low, high, 4) if mark > 0]


def line_chart(series: Sequence[Series], *, title: str, x_label: str = "step", from_zero: bool = False) -> Html | None:
    """A line chart as SVG, with a title for screen readers; None if no point is finite.

    Each line but the faint ones carries its values, which `page.js` tells where the pointer is.
    """
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

    y_ticks, x_ticks = ticks(y_low, y_high), ticks(x_low, x_high)
    axes = [_y_tick(place(x_low, tick)[1], text) for tick, text in zip(y_ticks, labels(y_ticks), strict=True)]
    axes += [_x_tick(place(tick, y_low)[0], text) for tick, text in zip(x_ticks, labels(x_ticks), strict=True)]
    lines = [_line(line, found, [place(x, y) for x, y in found]) for line, found in drawn if found]
    guide = element("line", y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="guide", visibility="hidden")
    name = element("text", x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 4, class_="axis", text_anchor="middle")
    return element(
        "svg",
        *axes,
        *lines,
        name,
        guide,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=title,
        class_="chart hover",
        data_across=x_label,
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
    edge = low + 0.96 * (high - low)
    axis = [
        element("span", text, style=f"left:{place(tick)}", class_="end" if tick > edge else None)
        for tick, text in zip(marks, labels(marks), strict=True)
    ]
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
    bounds = "" if row.low is None or row.high is None else f" [{row.low:z.3f}, {row.high:z.3f}]"
    number = f"{form.format(row.value)}{bounds}"
    return join(
        element("span", row.label, class_="name"),
        element("span", number, class_="number"),
        element("span", *grid, whisker, dot, class_="track", title=f"{row.label}: {number}"),
    )


def _line(line: Series, values: Sequence[Point], points: Sequence[Point]) -> Html:
    kind = f"line c{line.colour}" + (" faint" if line.faint else "")
    told = {} if line.faint else _told(line, values)
    parts = [element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind, **told)]
    if line.marked or len(points) == 1:
        parts += [element("circle", cx=x, cy=y, r=3.2, class_=f"mark c{line.colour}") for x, y in points]
    return join(*parts)


def _told(line: Series, values: Sequence[Point]) -> dict[str, str | int]:
    return {
        "data_label": line.label,
        "data_colour": line.colour,
        "data_x": " ".join(f"{x:.7g}" for x, _ in values),
        "data_y": " ".join(f"{y:.4g}" for _, y in values),
    }


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
