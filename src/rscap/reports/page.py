"""The report page: one HTML file with its style and pictures inside, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files

import rscap
from rscap.reports import details, scores, training
from rscap.reports.details import diagnostics_section
from rscap.reports.figure import figure
from rscap.reports.html import Html, element, join
from rscap.reports.load import LoadedRun
from rscap.reports.table import ScoreTable, warnings_of
from rscap.store import STATUS

Section = tuple[str, str, Html]  # address, heading, content


def page(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable], split: str) -> str:
    """The whole page as HTML text."""
    sections = _sections(runs, tables)
    head = join(
        Html('<meta charset="utf-8">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"rscap {rscap.__version__}"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", _title(runs)),
        Html(f"<style>{files(__package__).joinpath('style.css').read_text(encoding='utf-8')}</style>"),
    )
    links = [element("a", heading, href=f"#{address}") for address, heading, _ in sections]
    body = join(
        element("header", *_heading(runs, tables, split), element("nav", *links, aria_label="sections")),
        element("main", *[_section(*section) for section in sections]),
        element("footer", f"Written by rscap {rscap.__version__} from {_count(len(runs), 'run folder')}."),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _sections(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable]) -> list[Section]:
    builders: list[tuple[str, str, Callable[[], Html | None]]] = [
        ("scores", "Scores", lambda: scores.score_section(runs, tables)),
        ("images", "Images and captions", lambda: _figure(runs)),
        ("training", "Training", lambda: training.training_section(runs)),
        ("diagnostics", "Diagnostics", lambda: diagnostics_section(tables)),
        ("data", "Data", lambda: details.data(runs)),
        ("provenance", "Provenance", lambda: details.provenance(runs)),
        ("recipes", "Recipes", lambda: details.recipes(runs)),
    ]
    built = [(address, heading, build()) for address, heading, build in builders]
    return [(address, heading, content) for address, heading, content in built if content is not None]


def _section(address: str, heading: str, content: Html) -> Html:
    return element("section", element("h2", heading), content, id=address)


def _title(runs: Sequence[LoadedRun]) -> str:
    return f"{', '.join(run.label for run in runs)} · captioning report"


def _heading(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable], split: str) -> list[Html]:
    facts = [_count(max((run.scored.sheet.n for run in runs if run.scored.sheet), default=0), f"{split} image")]
    known = [run.provenance for run in runs if run.provenance]
    facts += _named("base model", [one.base.name for one in known])
    facts += _named("data", [one.data.name for one in known])
    ended = max((run.status.ended for run in runs if run.status and run.status.ended), default="")
    facts += [_date(ended)] if ended else []
    states = [
        element("p", element("b", run.label), f" {_state_text(run)}", class_="warning")
        for run in runs
        if not run.finished
    ]
    return [
        element("p", "Image captioning report", class_="kicker"),
        element("h1", " · ".join(run.label for run in runs)),
        element("p", "  ·  ".join(facts), class_="facts"),
        *[element("p", table.headline.sentence, class_="lede") for table in tables if table.headline],
        *states,
        *[
            element("p", element("b", run.label), f" {text}.", class_="warning")
            for run in runs
            for text in warnings_of(run)
        ],
    ]


def _state_text(run: LoadedRun) -> str:
    if run.status is None:
        return f"has no readable {STATUS}: whether it finished is not known."
    if run.state == "failed":
        reason = f": {run.status.error}" if run.status.error else ""
        return f"failed{reason}. Its numbers are those of an unfinished run."
    if run.state == "interrupted":
        return "was interrupted and can be resumed. Its numbers are provisional."
    return "has not finished: it is still running or was cut off. Its numbers are provisional."


def _named(word: str, names: Sequence[str | None]) -> list[str]:
    distinct = sorted({name for name in names if name})
    return [f"{word} {', '.join(distinct)}"] if distinct else []


def _date(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M %Z").strip()
    except ValueError:
        return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _figure(runs: Sequence[LoadedRun]) -> Html | None:
    content = figure(runs)
    if content is None:
        return element("p", "No run kept panel images for this split.", class_="note")
    legend = element(
        "p",
        "A word is ",
        element("span", "green", class_="hit"),
        " where at least one reference of the image has it and ",
        element("span", "red and underlined", class_="miss"),
        " where none has, or none so often. CIDEr is the item score of the caption.",
        class_="note",
    )
    return join(legend, content)
