"""The page of a study: one HTML file with table, verdicts, cost against quality, and all images and captions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from rscap.reports.html import Html, PageSection, element, frame, join
from rscap.reports.origin import PageOrigin
from rscap.reports.plots import Interval, interval_chart, label, ticks
from rscap.reports.study.browser import browser_data
from rscap.reports.study.formats import COSTS, DASH, Line, baseline_sentence, lines, noise_sentence, shown_metrics
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


_ORDERS = (
    ("given", "as in the data"),
    ("worst", "worst first"),
    ("best", "best first"),
    ("gained", "gained most"),
    ("lost", "lost most"),
)


def study_page(summary: Summary, origin: PageOrigin | None = None) -> str:
    """The whole page as HTML text; `origin` says where the study lies, seen from the page."""
    study = summary.study
    unfinished = [one.row for one in summary.rows if one.row.status not in ("finished", "excluded")]
    warnings = [f"{row.name}: {row.status}{f', {row.reason}' if row.reason else ''}" for row in unfinished]
    script = files(__package__).joinpath("browser.js").read_text(encoding="utf-8")
    return frame(
        [
            PageSection("table", "Rows", _table(summary)),
            PageSection("verdicts", "Verdicts", _verdicts(summary)),
            PageSection("cost", "Cost and quality", _front(summary)),
            PageSection("images", "Images and captions", _browser()),
        ],
        title=f"{study.name} · ablation report",
        kicker="Ablation report",
        heading=study.name,
        facts=[
            f"{len(study.rows)} rows",
            f"{len(study.sheets())} finished runs",
            f"{summary.n:,} {study.split} images",
        ],
        lede=[text for text in (baseline_sentence(summary), noise_sentence(summary)) if text],
        warnings=[element("p", text, class_="warning") for text in [*warnings, *study.missing, *study.seen()]],
        written_from=f"the folder of the study {study.name}",
        origin=origin,
        styles=["study/study.css"],
        scripts=[
            Html(f'<script type="application/json" id="browser-data">{_embedded(browser_data(summary))}</script>'),
            Html(f"<script>{script}</script>"),
        ],
    )


def _embedded(value: object) -> str:
    """JSON that cannot close the script element around it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _table(summary: Summary) -> Html:
    metrics = shown_metrics(summary)
    heads = ["", "status", "seeds", *metrics, "95 %", "against the reference", "rank", *COSTS]
    return join(
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *[element("th", text, scope="col") for text in heads])),
                element("tbody", *[_line(line, metrics) for line in lines(summary)]),
                class_="study sortable",
            ),
            class_="table",
            style="overflow-x:auto",
        ),
        element(
            "p",
            f"Scores are means over seeds (sd: standard deviation over the row's own seeds). The interval is that of "
            f"{summary.metric}, over images and seeds. Ranks are statistically supported, corrected for all pairs.",
            class_="note",
        ),
        element("p", element("code", summary.signature), class_="note"),
    )


def _line(line: Line, metrics: Sequence[str]) -> Html:
    status = line.status if line.kind == "row" else line.kind
    cells = [
        element("td", line.name),
        element("td", status, title=line.reason or None, class_="words"),
        element("td", line.seeds),
        *[_number(line.scores.get(metric)) for metric in metrics],
        element("td", line.interval, class_="quiet"),
        _against(line),
        element("td", line.rank),
        *[_number(text or None) for text in line.cost.values()],
    ]
    kinds = {"row": None if line.scores else "lost"}
    return element("tr", *cells, class_=kinds.get(line.kind, "beside"))


def _number(text: str | None) -> Html:
    """The number, with what follows in brackets below it in small type."""
    value, _, rest = (text or "").partition(" ")
    small = element("span", rest.strip("()"), class_="interval") if rest else None
    return element("td", value or DASH, small, data_value=value.replace(",", "") or "-1")


def _against(line: Line) -> Html:
    value, _, rest = line.against.partition(" ")
    kind = f"verdict-{line.verdict}" if line.verdict in ("better", "worse") else None
    small = element("span", rest, class_="interval") if rest else None
    return element("td", element("span", value, class_=kind), small, data_value=value or "-99")


def _verdicts(summary: Summary) -> Html:
    judged = summary.judgement
    if judged is None:
        return element("p", noise_sentence(summary), class_="note")
    marks = [
        Interval(
            label=row.name,
            value=row.against.difference,
            low=row.against.corrected[0],
            high=row.against.corrected[1],
            colour={"better": 3, "worse": 7}.get(row.verdict, 0),
        )
        for row in judged.rows
        if row.against is not None
    ]
    chart = interval_chart(marks, title=f"{judged.metric} minus {judged.reference}", sign=True)
    return join(
        element("p", f"{judged.metric} minus that of {judged.reference}, on the same images.", class_="note"),
        chart,
        element(
            "ul", *[element("li", element("b", row.name), f": {row.sentence}") for row in judged.rows], class_="groups"
        ),
    )


def _front(summary: Summary) -> Html:
    plot = front_plot(summary)
    if plot is None:
        return element("p", "Fewer than two rows have both a score and a time.", class_="note")
    return join(
        front_svg(plot),
        element("p", f"Green: no other row is both as fast and as good: {', '.join(summary.front)}.", class_="note"),
    )


def _browser() -> Html:
    orders = [element("option", text, value=value) for value, text in _ORDERS]
    return join(
        element(
            "form",
            element("label", "run", element("select", id="browser-run")),
            element("label", "compared with", element("select", id="browser-against")),
            element("label", "order", element("select", *orders, id="browser-order")),
            element("label", "score from", element("input", id="browser-low", type="number", step="0.1")),
            element("label", "to", element("input", id="browser-high", type="number", step="0.1")),
            element("label", "source", element("select", id="browser-source")),
            element("label", "flag", element("select", id="browser-flag")),
            element("label", "words", element("input", id="browser-words", type="search")),
            class_="browser",
            onsubmit="return false",
        ),
        element(
            "p",
            element("span", "", id="browser-count"),
            " · words are ",
            element("span", "green", class_="hit"),
            " where a reference has them, ",
            element("span", "red", class_="miss"),
            " where none has, dotted where the compared run does not use them.",
            class_="note",
        ),
        element("div", "", id="browser-list"),
        element("button", "", id="browser-more", class_="more", type="button"),
    )
