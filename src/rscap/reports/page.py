"""The report page of runs: one HTML file with styles and pictures inside, which fetches nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from rscap.reports import details, scores, training
from rscap.reports.browser import browser_of_runs, browser_section
from rscap.reports.details import content_section, diagnostics_section
from rscap.reports.html import Html, PageSection, element, frame
from rscap.reports.load import LoadedRun
from rscap.reports.origin import PageOrigin
from rscap.reports.table import ScoreTable, warnings_of
from rscap.store import STATUS


def page(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable], split: str, origin: PageOrigin | None = None) -> str:
    """The whole page as HTML text; `origin` says where the runs lie, seen from the page."""
    named = ", ".join(run.label for run in runs)
    browser = browser_of_runs(runs, tables)
    return frame(
        _sections(runs, tables, browser is not None),
        title=f"{named} · captioning report",
        kicker="Image captioning report",
        heading=" · ".join(run.label for run in runs),
        facts=_facts(runs, split),
        lede=[sentence for table in tables for sentence in table.headlines],
        warnings=_warnings(runs),
        written_from=_count(len(runs), "run folder"),
        origin=origin,
        browser=browser,
    )


def _sections(runs: Sequence[LoadedRun], tables: Sequence[ScoreTable], has_browser: bool) -> list[PageSection]:
    builders: list[tuple[str, str, Callable[[], Html | None]]] = [
        ("scores", "Scores", lambda: scores.score_section(runs, tables)),
        ("images", "Images and captions", lambda: browser_section() if has_browser else None),
        ("training", "Training", lambda: training.training_section(runs)),
        ("content", "Content errors", lambda: content_section(tables)),
        ("diagnostics", "Diagnostics", lambda: diagnostics_section(tables)),
        ("data", "Data", lambda: details.data(runs)),
        ("provenance", "Provenance", lambda: details.provenance(runs)),
        ("recipes", "Recipes", lambda: details.recipes(runs)),
    ]
    built = [(address, heading, build()) for address, heading, build in builders]
    return [PageSection(address, heading, content) for address, heading, content in built if content is not None]


def _facts(runs: Sequence[LoadedRun], split: str) -> list[str]:
    images = _count(max((run.scored.sheet.n for run in runs if run.scored.sheet), default=0), f"{split} image")
    known = [run.provenance for run in runs if run.provenance]
    base = _named("base model", [one.base.name for one in known])
    data = _named("data", [one.data.name for one in known])
    ended = max((run.status.ended for run in runs if run.status and run.status.ended), default="")
    return [images, *base, *data, *([_date(ended)] if ended else [])]


def _warnings(runs: Sequence[LoadedRun]) -> list[Html]:
    """Runs that did not finish, and prompts that differ from training."""
    told = [(run, f" {_state_text(run)}") for run in runs if not run.finished]
    told += [(run, f" {text}.") for run in runs for text in warnings_of(run)]
    return [element("p", element("b", run.label), text, class_="warning") for run, text in told]


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
