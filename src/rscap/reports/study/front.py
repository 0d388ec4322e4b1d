"""Cost against quality: the rows of a study by minutes and score, with those that no other row beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rscap.reports.html import Html, element
from rscap.reports.plots import labels, log_ticks, ticks
from rscap.reports.study.summary import Summary

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 600.0, 340.0, 60.0, 24.0, 24.0, 46.0
_LETTER, _LINE = 7.0, 15.0
"""About how wide a letter and how high a line of a label is, in points of the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One row of the study in the plot, in points from the top left."""

    name: str
    x: float
    y: float
    low: float
    high: float
    best: bool
    """On the Pareto front: no other row is as cheap and as good."""
    colour: int
    """That of the row everywhere on the page."""
    told: str
    """Name, minutes and score, for the pointer."""
    label: str
    """The name; empty where there is no room for it."""
    label_x: float
    label_y: float
    label_end: bool
    """The label ends at `label_x`; otherwise it begins there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPlot:
    """Points and axes with their positions; the page and the PDF draw the same."""

    points: tuple[FrontPoint, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_label: str
    y_label: str


def front_plot(summary: Summary) -> FrontPlot | None:
    """Position the rows that have a time and a score; None for fewer than two."""
    rows = [
        one
        for one in summary.rows
        if summary.metric in one.means and math.isfinite(one.cost.minutes) and one.cost.minutes > 0
    ]
    if len(rows) < 2:
        return None
    scores = [one.means[summary.metric] for one in rows]
    bounds = [one.judged.interval if one.judged else (score, score) for one, score in zip(rows, scores, strict=True)]
    minutes = [one.cost.minutes for one in rows]
    margin = max(1.1, (max(minutes) / min(minutes)) ** 0.06)
    low_x, high_x = min(minutes) / margin, max(minutes) * margin
    low_y, high_y = min(low for low, _ in bounds), max(high for _, high in bounds)
    pad = (high_y - low_y) * 0.06 or 0.1
    low_y, high_y = low_y - pad, high_y + pad
    if min(scores) >= 0:
        low_y = max(0.0, low_y)  # no score is below 0, though an interval may be

    def across(value: float) -> float:
        return LEFT + math.log(value / low_x) / math.log(high_x / low_x) * (WIDTH - LEFT - RIGHT)

    def down(score: float) -> float:
        return HEIGHT - BOTTOM - (max(score, low_y) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    places = [(across(one.cost.minutes), down(score)) for one, score in zip(rows, scores, strict=True)]
    order = sorted(range(len(rows)), key=lambda number: rows[number].row.name not in summary.front)
    written = _labelled([(rows[number].row.name, *places[number]) for number in order])
    labelled = dict(zip(order, written, strict=True))
    marks, up = log_ticks(low_x, high_x), ticks(low_y, high_y)
    return FrontPlot(
        points=tuple(
            FrontPoint(
                name=one.row.name,
                x=x,
                y=y,
                low=down(bound[0]),
                high=down(bound[1]),
                best=one.row.name in summary.front,
                colour=one.row.colour,
                told=f"{one.row.name}: {one.cost.minutes:.3g} minutes, {summary.metric} {summary.score(one.row.name)}",
                label=labelled[number][0],
                label_x=labelled[number][1],
                label_y=labelled[number][2],
                label_end=labelled[number][3],
            )
            for number, (one, (x, y), bound) in enumerate(zip(rows, places, bounds, strict=True))
        ),
        x_ticks=tuple((across(mark), text) for mark, text in zip(marks, labels(marks), strict=True)),
        y_ticks=tuple((down(mark), text) for mark, text in zip(up, labels(up), strict=True)),
        x_label="minutes a run (logarithmic)",
        y_label=summary.metric,
    )


def _labelled(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float, bool]]:
    """Where each name stands beside its point, and whether it ends there; empty where every place is taken."""
    taken: list[tuple[float, float, float, float]] = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in points]
    found = []
    for name, x, y in points:
        width = len(name) * _LETTER
        places = [(side, shift) for shift in (0.0, -_LINE, _LINE) for side in (False, True)]
        for is_end, shift in places:
            left = x - 10 - width if is_end else x + 10
            box = (left, y + shift - _LINE / 2, left + width, y + shift + _LINE / 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= TOP / 2 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found.append((name, x - 10 if is_end else x + 10, y + shift + 4, is_end))
                break
        else:
            found.append(("", x, y, False))
    return found


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def front_svg(plot: FrontPlot) -> Html:
    """The plot for the page."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    axes = [
        *[element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid") for y, _ in plot.y_ticks],
        element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        element("line", x1=LEFT, x2=LEFT, y1=TOP, y2=bottom, class_="axis"),
        *[element("text", text, x=x, y=bottom + 18, text_anchor="middle") for x, text in plot.x_ticks],
        *[element("text", text, x=LEFT - 8, y=y + 4, text_anchor="end") for y, text in plot.y_ticks],
        element("text", plot.x_label, x=(LEFT + right) / 2, y=HEIGHT - 8, text_anchor="middle"),
        element("text", plot.y_label, x=LEFT + 6, y=TOP - 8),
    ]
    best = sorted((point.x, point.y) for point in plot.points if point.best)
    step = element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in best), class_="step")
    drawing = element(
        "svg",
        *axes,
        step,
        *[_point(point) for point in plot.points],
        *[_name(point) for point in plot.points if point.label],
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label="cost against quality",
        class_="chart front",
    )
    return element("div", drawing, class_="scroll", tabindex="0", role="region", aria_label="cost against quality")


def _point(point: FrontPoint) -> Html:
    whisker = element("line", x1=point.x, x2=point.x, y1=point.low, y2=point.high, class_="bar-of-error")
    ring = element("circle", cx=point.x, cy=point.y, r=8.5, class_="ring") if point.best else None
    dot = element("circle", cx=point.x, cy=point.y, r=5.0, class_="mark")
    return element("g", element("title", point.told), whisker, ring, dot, class_=f"c{point.colour}")


def _name(point: FrontPoint) -> Html:
    anchor = "end" if point.label_end else "start"
    return element("text", point.label, x=point.label_x, y=point.label_y, text_anchor=anchor, class_="halo")
