"""Histograms as SVG and ranked bars as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.data.inspection import Histogram
from rscap.report.html import Html, element
from rscap.report.plots import label, ticks

_WIDTH, _HEIGHT = 480.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 10.0, 40.0


def histogram(bins: Histogram, *, title: str, x_label: str) -> Html:
    """Bars over a linear axis; the number of each bar is its tooltip."""
    low, high = bins.edges[0], bins.edges[-1]
    most = max([*bins.counts, 1])

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(count: float) -> float:
        return _HEIGHT - _BOTTOM - count / most * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(y_of(count), label(count)) for count in ticks(0, most, 4)]
    for left, right, count in zip(bins.edges[:-1], bins.edges[1:], bins.counts, strict=True):
        if count:
            parts.append(_bar(x_of(left), x_of(right), y_of(count), f"{label(left)} to {label(right)}: {count:,}"))
    for tick in ticks(low, high, 6):
        parts.append(element("text", label(tick), x=x_of(tick), y=_HEIGHT - _BOTTOM + 17, text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(element("text", x_label, x=middle, y=_HEIGHT - 5, text_anchor="middle", class_="axis"))
    drawing = element(
        "svg", *parts, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=title, class_="chart"
    )
    return element("figure", element("figcaption", title), drawing)


def ranking(items: Sequence[tuple[str, int]], *, title: str) -> Html:
    """Names with bars as long as their counts, in the order given."""
    most = max([count for _, count in items] + [1])
    rows = [
        element(
            "li",
            element("span", name, class_="what"),
            element("span", element("i", "", style=f"width:{count / most:.1%}"), class_="length"),
            element("span", f"{count:,}", class_="number"),
        )
        for name, count in items
    ]
    return element("figure", element("figcaption", title), element("ol", *rows, class_="ranking"))


def _bar(left: float, right: float, top: float, tip: str) -> Html:
    gap = min(1.5, (right - left) / 6)
    height = _HEIGHT - _BOTTOM - top
    bar = element("rect", x=left + gap / 2, y=top, width=right - left - gap, height=height, class_="bar")
    return element("g", element("title", tip), bar)


def _grid(y: float, text: str) -> Html:
    line = element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
    return Html(line + element("text", text, x=_LEFT - 7, y=y + 4, text_anchor="end"))
