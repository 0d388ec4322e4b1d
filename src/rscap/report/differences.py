"""Paired differences between the finished rows of a table, as `rscap.score.compare` finds them."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.errors import ScoreError
from rscap.records import METRICS
from rscap.report.load import Scored
from rscap.report.rows import Row
from rscap.score import Comparison, Difference, compare


def headline_metric(rows: Sequence[Row]) -> str | None:
    """CIDEr where all rows have it, else the next metric that all have."""
    return next((metric for metric in reversed(METRICS) if rows and all(metric in row.cells for row in rows)), None)


def comparison_of(rows: Sequence[Row], scored: Sequence[Scored]) -> tuple[Comparison | None, str]:
    """All finished rows against each other, best first, so that no difference is negative; or None with the reason."""
    finished = [
        (row, own.sheet) for row, own in zip(rows, scored, strict=True) if row.finished and own.sheet is not None
    ]
    metric = headline_metric([row for row, _ in finished])
    if len(finished) < 2 or metric is None:
        return None, ""
    finished.sort(key=lambda pair: -pair[0].cells[metric].value)
    try:
        return compare({row.label: sheet for row, sheet in finished}, metric), ""
    except ScoreError as error:
        return None, f"No paired differences: {error.message}."
    except (KeyError, IndexError, ValueError, TypeError) as error:  # a sheet whose kept statistics are damaged
        return None, f"No paired differences: the kept statistics of a sheet cannot be used ({error})."


def headline(rows: Sequence[Row], comparison: Comparison | None) -> Difference | None:
    """The best run against the best baseline, or where there is none against the next run."""
    if comparison is None:
        return None
    kinds = {row.label: row.kind for row in rows}
    names = [system.name for system in comparison.systems]  # best first
    runs = [name for name in names if kinds[name] == "run"]
    others = [name for name in names if kinds[name] == "baseline"] or runs[1:]
    if not runs or not others:
        return None
    pair = {runs[0], others[0]}
    return next(found for found in comparison.differences if {found.first, found.second} == pair)
