"""The score table as records: what HTML, CSV, JSON and Markdown print.

Scores of different images, references or protocols never stand in one table: a CIDEr without its pool and its n is not
a number that can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rscap.records import METRICS, ScoreSheet
from rscap.report.differences import comparison_of, headline
from rscap.report.load import LoadedRun, Scored, load_runs
from rscap.report.prompts import warnings_of
from rscap.report.rows import Cell, Kind, Row
from rscap.score import Comparison, Difference

_BASELINE_LABELS = {"constant": "constant caption", "nearest": "nearest training image"}
_NOT_PROTOCOL = frozenset({"decode", "rscap"})
"""Parts of a signature that may differ between two rows of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Rows that may be compared with each other: same images, references, protocol and pool."""

    split: str
    rows: tuple[Row, ...]
    scored: tuple[Scored, ...]
    """The predictions and sheets behind the rows, in the same order."""
    comparison: Comparison | None
    """Paired differences between the finished rows; None where there are fewer than two, or as `note` says."""
    note: str

    @property
    def headline(self) -> Difference | None:
        """The best finished run against the best baseline, or where there is none against the next run."""
        return headline(self.rows, self.comparison)

    def best(self, metric: str) -> float | None:
        """The highest score of a finished row."""
        return max((row.cells[metric].value for row in self.rows if row.finished and metric in row.cells), default=None)

    def signature(self) -> str:
        """The parts of the signature that all rows share."""
        return "|".join(part for part in self.rows[0].signature.split("|") if self._shared(part))

    def own_signatures(self) -> dict[str, tuple[str, ...]]:
        """What is left of the rows' signatures, such as `decode:greedy-64`, with the labels of its rows."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            own = "|".join(part for part in row.signature.split("|") if not self._shared(part))
            found.setdefault(own, []).append(row.label)
        return {own: tuple(labels) for own, labels in found.items() if own}

    def _shared(self, part: str) -> bool:
        return all(part in row.signature.split("|") for row in self.rows)


def build_table(runs: Sequence[Path], split: str = "test") -> tuple[ScoreTable, ...]:
    """The score tables of several run folders for one split: one table for each set of comparable scores.

    A run without scores has no row. The baselines of a run follow the runs; a baseline that was scored beside several
    runs with the same outcome has one row.

    Raises:
        StoreError: a path is no run folder.
    """
    return tables_of(load_runs(runs, split), split)


def tables_of(runs: Sequence[LoadedRun], split: str) -> tuple[ScoreTable, ...]:
    """As `build_table`, of runs already read."""
    groups: dict[tuple[object, ...], list[tuple[Row, Scored]]] = {}
    for run, scored, kind in _all_scored(runs):
        sheet = scored.sheet
        if sheet is None:
            continue
        rows = groups.setdefault(_comparable(run, sheet), [])
        if kind == "baseline" and any(row.kind == "baseline" and _same(other, scored) for row, other in rows):
            continue
        rows.append((_row(run, scored, sheet, kind, taken=[row.label for row, _ in rows]), scored))
    return tuple(_table(split, group) for group in groups.values())


def _table(split: str, group: Sequence[tuple[Row, Scored]]) -> ScoreTable:
    rows, scored = tuple(row for row, _ in group), tuple(own for _, own in group)
    comparison, note = comparison_of(rows, scored)
    return ScoreTable(split=split, rows=rows, scored=scored, comparison=comparison, note=note)


def _all_scored(runs: Sequence[LoadedRun]) -> Iterator[tuple[LoadedRun, Scored, Kind]]:
    for run in runs:
        yield run, run.scored, "run"
    for run in runs:
        for baseline in run.baselines:
            yield run, baseline, "baseline"


def _comparable(run: LoadedRun, sheet: ScoreSheet) -> tuple[object, ...]:
    parts = [part for part in sheet.signature.split("|") if part.split(":", 1)[0] not in _NOT_PROTOCOL]
    return frozenset(sheet.items), sheet.n, run.references_digest, tuple(parts)


def _baseline_label(name: str) -> str:
    return _BASELINE_LABELS.get(name, name)


def _same(one: Scored, other: Scored) -> bool:
    """Whether a baseline came out alike beside two runs."""
    return (
        one.name == other.name
        and one.sheet is not None
        and other.sheet is not None
        and one.sheet.corpus == other.sheet.corpus
        and one.sheet.items == other.sheet.items
    )


def _row(run: LoadedRun, scored: Scored, sheet: ScoreSheet, kind: Kind, taken: Sequence[str]) -> Row:
    label = run.label if kind == "run" else _baseline_label(scored.name)
    if label in taken:  # another outcome of a baseline of the same name: other training images
        label = f"{label} ({run.label})"
    return Row(
        label=label,
        kind=kind,
        state="finished" if kind == "baseline" else run.state,
        n=sheet.n,
        unscored=sheet.unscored,
        signature=sheet.signature,
        cells={metric: _cell(sheet, metric) for metric in METRICS if metric in sheet.corpus},
        warnings=warnings_of(run) if kind == "run" else (),
    )


def _cell(sheet: ScoreSheet, metric: str) -> Cell:
    low, high = sheet.intervals.get(metric, (None, None))
    return Cell(value=sheet.corpus[metric], low=low, high=high)
