"""The page of a study: one HTML file with table, verdicts, cost against quality, and every image and caption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

import rscap
from rscap.reports.html import Html, element, join
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
    style = files("rscap.reports").joinpath("style.css").read_text(encoding="utf-8")
    own = files(__package__)
    head = join(
        Html('<meta charset="utf-8">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"rscap {rscap.__version__}"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{summary.study.name} · ablation report"),
        Html(f"<style>{style}{own.joinpath('study.css').read_text(encoding='utf-8')}</style>"),
    )
    sections = [
        ("table", "Rows", _table(summary)),
        ("verdicts", "Verdicts", _verdicts(summary)),
        ("cost", "Cost and quality", _front(summary)),
        ("images", "Images and captions", _browser()),
    ]
    links = [element("a", heading, href=f"#{address}") for address, heading, _ in sections]
    body = join(
        element("header", *_heading(summary), element("nav", *links, aria_label="sections")),
        element("main", *[_section(*section) for section in sections]),
        element("footer", f"Written by rscap {rscap.__version__} from the folder of the study {summary.study.name}."),
        Html(f'<script type="application/json" id="browser-data">{_embedded(browser_data(summary))}</script>'),
        Html(f"<script>{own.joinpath('browser.js').read_text(encoding='utf-8')}</script>"),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _embedded(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _section(address: str, heading: str, content: Html) -> Html:
    return element("section", element("h2", heading), content, id=address)


def _heading(summary: Summary) -> list[Html]:
    study = summary.study
    unfinished = [one.row for one in summary.rows if one.row.status not in ("finished", "excluded")]
    warnings = [f"{row.name}: {row.status}{f', {row.reason}' if row.reason else ''}" for row in unfinished]
    facts = [f"{len(study.rows)} rows", f"{len(study.sheets())} finished runs", f"{summary.n:,} {study.split} images"]
    return [
        element("p", "Ablation report", class_="kicker"),
        element("h1", study.name),
        element("p", "  ·  ".join(facts), class_="facts"),
        element("p", noise_sentence(summary), class_="lede"),
        *[element("p", text, class_="warning") for text in [*warnings, *study.missing, *study.seen()]],
    ]


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
            f"{summary.metric}, over images and seeds. Ranks are those that hold beyond doubt, all pairs corrected.",
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
    """The number, and below it in small what stands in brackets behind it."""
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
        element("p", f"Green: no other row is both as quick and as good: {', '.join(summary.front)}.", class_="note"),
    )


def _browser() -> Html:
    orders = [element("option", text, value=value) for value, text in _ORDERS]
    return join(
        element(
            "form",
            element("label", "run", element("select", id="browser-run")),
            element("label", "beside", element("select", id="browser-against")),
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
            " where none has, dotted where the run beside does not say them.",
            class_="note",
        ),
        element("div", "", id="browser-list"),
        element("button", "", id="browser-more", class_="more", type="button"),
    )
