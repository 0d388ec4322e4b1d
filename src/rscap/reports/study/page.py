"""The page of a study: one HTML file with table, verdicts, cost against quality, and all images and captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from rscap.reports.html import Html, PageSection, element, frame, join
from rscap.reports.plots import Interval, interval_chart
from rscap.reports.study.browser import browser_data
from rscap.reports.study.formats import COSTS, DASH, Line, lines, noise_sentence, shown_metrics
from rscap.reports.study.front import front_plot, front_svg
from rscap.reports.study.summary import Summary

_ORDERS = (
    ("given", "as in the data"),
    ("worst", "worst first"),
    ("best", "best first"),
    ("gained", "gained most"),
    ("lost", "lost most"),
)


def study_page(summary: Summary) -> str:
    """The whole page as HTML text."""
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
        lede=[noise_sentence(summary)],
        warnings=[element("p", text, class_="warning") for text in [*warnings, *study.missing, *study.seen()]],
        written_from=f"the folder of the study {study.name}",
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
            low=row.against.interval[0],
            high=row.against.interval[1],
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
