"""The score section: tables, intervals, and paired differences in a chart and in words."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.reports.cells import Entry, Line, table
from rscap.reports.formats import interval_text, score_text, state_note
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun
from rscap.reports.plots import Interval, interval_chart
from rscap.reports.table import ScoreRow, ScoreTable, headline_metric
from rscap.scoring import Comparison


def score_section(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable]) -> Html:
    """All score tables, each with its signature; a note if runs have no scores or cannot be compared."""
    colours = {run.label: run.colour for run in runs}
    missing = [run.label for run in runs if run.scored.sheet is None]
    notes = [element("p", f"{', '.join(missing)}: no scores for this split.", class_="note")] if missing else []
    if len(tables) > 1:
        notes.append(
            element(
                "p",
                f"These scores belong to {len(tables)} different sets of images, references or protocols. They are "
                "in separate tables because they must not be compared with each other.",
                class_="warning",
            )
        )
    return join(*notes, *[_table(one, colours) for one in tables])


def _table(scores: ScoreTable, colours: dict[str, int]) -> Html:
    names = [name if scores.is_higher_better(name) else f"{name}, lower is better" for name in scores.columns]
    return element(
        "div",
        table([*names, "n"], [_line(scores, row, colours) for row in scores.rows], label="scores"),
        _signature(scores),
        _intervals(scores, colours),
        element("p", scores.note, class_="note") if scores.note else None,
        *[_differences(found, colours) for found in (scores.comparison, *scores.foreign) if found],
        class_="table",
    )


def _intervals(scores: ScoreTable, colours: dict[str, int]) -> Html | None:
    metric = headline_metric(scores.rows)
    if metric is None:
        return None
    dots = [
        Interval(
            label=row.label,
            value=row.cells[metric].value,
            low=row.cells[metric].low,
            high=row.cells[metric].high,
            colour=colours.get(row.label),
        )
        for row in scores.rows
    ]
    caption = element("figcaption", f"{metric} ", element("span", "95 % interval over images", class_="quiet"))
    return element("figure", caption, interval_chart(dots, title=f"{metric} with 95 % intervals"))


def _differences(comparison: Comparison, colours: dict[str, int]) -> Html:
    """Dots of all paired differences, and the same in words."""
    dots = [
        Interval(
            label=f"{found.first} − {found.second}",
            value=found.difference,
            low=found.corrected[0],
            high=found.corrected[1],
            colour=colours.get(found.first, 0) if found.distinguishable else None,
        )
        for found in comparison.differences
    ]
    legend = "95 % interval, corrected for the number of comparisons (Holm); hollow: no significant difference"
    caption = element(
        "figcaption", f"Paired differences in {comparison.metric} ", element("span", legend, class_="quiet")
    )
    words = element("ul", *[element("li", found.sentence) for found in comparison.differences])
    return element(
        "figure",
        caption,
        interval_chart(dots, title=f"paired differences in {comparison.metric}", sign=True),
        element(
            "details",
            element("summary", "In words"),
            words,
            *[element("p", f"{note[:1].upper()}{note[1:]}.", class_="quiet") for note in comparison.notes],
        ),
    )


def _line(scores: ScoreTable, row: ScoreRow, colours: dict[str, int]) -> Line:
    colour = colours.get(row.label) if row.kind == "run" else None
    swatch = element("span", "", class_=f"swatch c{colour}" if colour is not None else "swatch c-none")
    flags = [element("span", flag, class_="flag") for flag in (state_note(row), *row.flags) if flag]
    return Line(
        head=join(swatch, row.label, *flags, _unscored(row)),
        entries=[*[_entry(scores, row, metric) for metric in scores.columns], f"{row.n:,}"],
        kind=f"{row.kind} {'' if row.finished else 'unfinished'}".strip(),
    )


def _unscored(row: ScoreRow) -> Html | None:
    return element("span", f"{row.unscored} without a prediction", class_="flag") if row.unscored else None


def _entry(scores: ScoreTable, row: ScoreRow, metric: str) -> Entry:
    cell = row.cells.get(metric)
    best = cell is not None and row.finished and len(scores.rows) > 1 and cell.value == scores.best(metric)
    return Entry(text=score_text(cell), small=interval_text(cell), bold=best)


def _signature(scores: ScoreTable) -> Html:
    parts: list[Html | str] = [element("code", scores.signature())]
    for own, labels in scores.own_signatures().items():
        parts += ["; ", element("code", own), f" for {', '.join(labels)}"]
    legend = "Brackets are 95 % bootstrap intervals over images; bold is the best of a finished row."
    sheets = [own.sheet for own in scores.scored if own.sheet is not None]
    cautions = dict.fromkeys(text for sheet in sheets for text in sheet.extra.get("cautions", {}).values())
    notes = [element("p", f"{text}.") for text in cautions]
    return element("div", element("p", *parts), element("p", legend), *notes, class_="signature")
