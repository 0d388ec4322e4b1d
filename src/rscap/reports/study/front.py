"""Cost against quality, as an SVG: minutes of training on a logarithmic axis, the score with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rscap.reports.html import Html, element
from rscap.reports.plots import label, ticks
from rscap.reports.study.summary import Summary

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720.0, 380.0, 60.0, 150.0, 16.0, 46.0

MAX_LABELS = 12


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
    label: str
    """The name; in a crowded plot only points on the front have one."""


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
        (one.row.name, one.cost.minutes, one.means[summary.metric], one.judged)
        for one in summary.rows
        if summary.metric in one.means and math.isfinite(one.cost.minutes) and one.cost.minutes > 0
    ]
    if len(rows) < 2:
        return None
    bounds = [judged.interval if judged else (score, score) for _, _, score, judged in rows]
    low_x, high_x = min(math.log10(row[1]) for row in rows), max(math.log10(row[1]) for row in rows)
    margin = max(0.05, (high_x - low_x) * 0.06)
    low_x, high_x = low_x - margin, high_x + margin
    low_y, high_y = min(low for low, _ in bounds), max(high for _, high in bounds)
    pad = (high_y - low_y) * 0.06 or 0.1
    low_y, high_y = low_y - pad, high_y + pad

    def across(minutes: float) -> float:
        return LEFT + (math.log10(minutes) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def down(score: float) -> float:
        return HEIGHT - BOTTOM - (score - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    marks = [factor * 10.0**power for power in range(-3, 6) for factor in (1, 2, 5)]
    return FrontPlot(
        points=tuple(
            FrontPoint(
                name=name,
                x=across(minutes),
                y=down(score),
                low=down(bound[0]),
                high=down(bound[1]),
                best=name in summary.front,
                label=name if name in summary.front or len(rows) <= MAX_LABELS else "",
            )
            for (name, minutes, score, _), bound in zip(rows, bounds, strict=True)
        ),
        x_ticks=tuple((across(mark), f"{mark:g}") for mark in marks if low_x <= math.log10(mark) <= high_x),
        y_ticks=tuple((down(tick), label(tick)) for tick in ticks(low_y, high_y)),
        x_label="minutes a run (logarithmic)",
        y_label=summary.metric,
    )


def front_svg(plot: FrontPlot) -> Html:
    """The plot for the page."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    axes = [
        element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        element("line", x1=LEFT, x2=LEFT, y1=TOP, y2=bottom, class_="axis"),
        *[element("text", text, x=x, y=bottom + 18, text_anchor="middle") for x, text in plot.x_ticks],
        *[element("text", text, x=LEFT - 8, y=y + 4, text_anchor="end") for y, text in plot.y_ticks],
        element("text", plot.x_label, x=(LEFT + right) / 2, y=HEIGHT - 8, text_anchor="middle"),
        element("text", plot.y_label, x=LEFT + 6, y=TOP + 6),
    ]
    marks = [
        part
        for point in plot.points
        for part in (
            element("line", x1=point.x, x2=point.x, y1=point.low, y2=point.high, class_="whisker"),
            element("g", element("title", point.name), _dot(point)),
            element("text", point.label, x=point.x + 9, y=point.y + 4),
        )
    ]
    best = sorted((point.x, point.y) for point in plot.points if point.best)
    step = element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in best), class_="step")
    return element(
        "svg",
        element("title", "Cost against quality"),
        *axes,
        step,
        *marks,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        class_="front",
    )


def _dot(point: FrontPoint) -> Html:
    return element("circle", cx=point.x, cy=point.y, r=5.0, class_="point best" if point.best else "point")
