"""The score table as records: what HTML, CSV, JSON and Markdown print.

Scores of different images, references or protocols never stand in one table: a CIDEr without its pool and its n is not
a number that can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rscap.records import METRICS, ScoreSheet
from rscap.report.load import LoadedRun, Scored, load_runs

Kind = Literal["run", "baseline"]

_BASELINE_LABELS = {"constant": "constant caption", "nearest": "nearest training image"}
_NOT_PROTOCOL = frozenset({"decode", "rscap"})
"""Parts of a signature that may differ between two rows of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One corpus score with its 95 % interval over images, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run or baseline; `cells` lacks the metrics that were not scored."""

    label: str
    kind: Kind
    state: str
    n: int
    unscored: int
    signature: str
    cells: Mapping[str, Cell]

    @property
    def finished(self) -> bool:
        return self.state == "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Rows that may be compared with each other: same images, references, protocol and pool."""

    split: str
    rows: tuple[Row, ...]
    sheets: tuple[ScoreSheet, ...]
    """The sheets behind the rows, in the same order."""

    def best(self, metric: str) -> float | None:
        """The highest score of a finished row."""
        return max((row.cells[metric].value for row in self.rows if row.finished and metric in row.cells), default=None)

    def signatures(self) -> dict[str, tuple[str, ...]]:
        """Each signature with the labels of its rows; one entry where all agree."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            found.setdefault(row.signature, []).append(row.label)
        return {signature: tuple(labels) for signature, labels in found.items()}


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
    groups: dict[tuple[object, ...], list[tuple[Row, ScoreSheet]]] = {}
    for run, scored, kind in _all_scored(runs):
        sheet = scored.sheet
        if sheet is None:
            continue
        rows = groups.setdefault(_comparable(run, sheet), [])
        if kind == "baseline" and any(_same(row, other, scored.name, sheet) for row, other in rows):
            continue
        rows.append((_row(run, scored, sheet, kind, taken=[row.label for row, _ in rows]), sheet))
    return tuple(
        ScoreTable(split=split, rows=tuple(row for row, _ in rows), sheets=tuple(sheet for _, sheet in rows))
        for rows in groups.values()
    )


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


def _same(row: Row, sheet: ScoreSheet, name: str, other: ScoreSheet) -> bool:
    return (
        row.kind == "baseline"
        and row.label.startswith(_baseline_label(name))
        and sheet.corpus == other.corpus
        and sheet.items == other.items
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
    )


def _cell(sheet: ScoreSheet, metric: str) -> Cell:
    low, high = sheet.intervals.get(metric, (None, None))
    return Cell(value=sheet.corpus[metric], low=low, high=high)
