"""The page of a study: one HTML file with table, verdicts, cost against quality, and all images and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rscap.reports import cells
from rscap.reports.browser import browser_section
from rscap.reports.cells import Entry, table
from rscap.reports.html import Html, PageSection, element, frame, join
from rscap.reports.origin import PageOrigin
from rscap.reports.plots import Interval, interval_chart
from rscap.reports.study.formats import COSTS, DASH, Line, baseline_sentence, lines, noise_sentence, shown_metrics
from rscap.reports.study.front import front_plot, front_svg
from rscap.reports.study.images import browser_of_study
from rscap.reports.study.summary import Summary


def study_page(summary: Summary, origin: PageOrigin | None = None) -> str:
    """The whole page as HTML text; `origin` says where the study lies, seen from the page."""
    study = summary.study
    unfinished = [one.row for one in summary.rows if one.row.status not in ("finished", "excluded")]
    states = [f"{row.name} ({row.status}{f': {row.reason}' if row.reason else ''})" for row in unfinished]
    warnings = [f"Not finished, and in part or not at all in these figures: {'; '.join(states)}."] if states else []
    browser = browser_of_study(summary)
    sections = [
        PageSection("table", "Rows", _table(summary)),
        PageSection("verdicts", "Verdicts", _verdicts(summary)),
        PageSection("cost", "Cost and quality", _front(summary)),
    ]
    if browser is not None:
        sections.append(PageSection("images", "Images and captions", browser_section()))
    return frame(
        sections,
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
        browser=browser,
    )


def _table(summary: Summary) -> Html:
    metrics = shown_metrics(summary)
    others = [metric for metric in metrics if metric != summary.metric]  # what decides stands in view, before the rest
    columns = ["status", "seeds", summary.metric, "95 %", "against the reference", "rank", *others, *COSTS]
    colours = {one.row.name: one.row.colour for one in summary.rows}
    return join(
        table(
            columns,
            [_line(line, summary.metric, others, colours) for line in lines(summary)],
            label="rows of the study",
            texts=1,
            sortable=True,
        ),
        element(
            "p",
            f"Scores are means over seeds (sd: standard deviation over the row's own seeds). The interval is that of "
            f"{summary.metric}, over images and seeds. Differences and ranks are corrected for their number (Holm).",
            class_="note",
        ),
        element("p", element("code", summary.signature), class_="note"),
    )


def _line(line: Line, metric: str, others: Sequence[str], colours: Mapping[str, int]) -> cells.Line:
    swatch = f"c{colours[line.name]}" if line.kind == "row" else "c0" if line.kind == "zero-shot" else "c-none"
    entries = [
        Entry(text=line.status if line.kind == "row" else line.kind, tip=line.reason),
        Entry(text=line.seeds),
        _number(line.scores.get(metric)),
        Entry(text=line.interval or DASH, value=line.interval.strip("[").partition(",")[0] or None),
        _against(line),
        Entry(text=line.rank or DASH),
        *[_number(line.scores.get(other)) for other in others],
        *[_number(text or None) for text in line.cost.values()],
    ]
    return cells.Line(
        head=join(element("span", "", class_=f"swatch {swatch}"), line.name),
        entries=entries,
        kind="baseline" if line.kind != "row" else "" if line.scores else "unfinished",
    )


def _number(text: str | None) -> Entry:
    """The number, with what follows in brackets below it in small type."""
    value, _, rest = (text or "").partition(" ")
    return Entry(text=value or DASH, small=rest.strip("()"), value=value.replace(",", "") or "-1")


def _against(line: Line) -> Entry:
    value, _, rest = line.against.partition(" ")
    kind = line.verdict if line.verdict in ("better", "worse") else ""
    return Entry(text=value or DASH, small=rest, kind=kind, value=value or "-99")


def _verdicts(summary: Summary) -> Html:
    judged = summary.judgement
    if judged is None:
        return element("p", noise_sentence(summary), class_="note")
    colours = {one.row.name: one.row.colour for one in summary.rows}
    marks = [
        Interval(
            label=row.name,
            value=row.against.difference,
            low=row.against.corrected[0],
            high=row.against.corrected[1],
            colour=colours[row.name] if row.verdict in ("better", "worse") else None,
        )
        for row in judged.rows
        if row.against is not None
    ]
    chart = interval_chart(marks, title=f"{judged.metric} minus {judged.reference}", sign=True)
    return join(
        element(
            "p",
            f"{judged.metric} minus that of {judged.reference}, on the same images; 95 % intervals, corrected for the "
            "number of rows (Holm); hollow: no significant difference.",
            class_="note",
        ),
        chart,
        element(
            "ul", *[element("li", element("b", row.name), f": {row.sentence}") for row in judged.rows], class_="groups"
        ),
    )


def _front(summary: Summary) -> Html:
    plot = front_plot(summary)
    if plot is None:
        return element("p", "Fewer than two rows have both a score and a time.", class_="note")
    best = ", ".join(summary.front)
    return join(
        front_svg(plot),
        element("p", f"Ringed and joined: no other row is both as fast and as good: {best}.", class_="note"),
    )
