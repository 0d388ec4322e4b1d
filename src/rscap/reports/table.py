"""Score tables as records, which HTML, CSV, JSON and Markdown print.

Scores of different images, references or protocols are never in one table: a CIDEr without its pool and its n cannot be
compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rscap.errors import ScoreError
from rscap.metrics import METRICS, headline_of, in_order
from rscap.records import ScoreSheet
from rscap.reports.load import LoadedRun, Scored, load_runs
from rscap.scoring import (
    SEEN,
    Comparison,
    column_of,
    compare,
    is_higher_better,
    seen_sentences,
)
from rscap.scoring.comparison import disagreement
from rscap.store import BASELINE_LABELS

RowKind = Literal["run", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One corpus score with its 95 % interval over images, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One run or baseline; `cells` lacks the metrics that were not scored, and names the source of foreign ones."""

    label: str
    kind: RowKind
    state: str
    n: int
    unscored: int
    signature: str
    cells: Mapping[str, Cell]
    warnings: tuple[str, ...] = ()
    """Why the scores do not mean what they seem to, as sentences without the label."""
    flags: tuple[str, ...] = ()
    """The same in two words each, for a narrow cell."""
    untrained: bool = False
    """A base model as it is."""

    @property
    def finished(self) -> bool:
        return self.state == "finished"


# The prompts of training against those of evaluation.


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of training and of evaluation; empty if unknown."""

    trained: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def strange(self) -> tuple[str, ...]:
        """Prompts of the evaluation that training never used."""
        return tuple(words for words in self.asked if words not in self.trained) if self.trained else ()


def prompts_of(run: LoadedRun) -> Prompts:
    """Training's prompts from the run's recipe or the evaluation's settings, evaluation's from the predictions.

    A base model that was not trained has no prompt of training. Without predictions the settings tell the other.
    """
    asked = tuple(dict.fromkeys(prediction.prefix for prediction in run.scored.predictions.values()))
    told = None
    if run.settings:
        told = run.settings.training_prefixes
        if not asked and run.settings.prefix is not None:
            asked = (run.settings.prefix,)
    if told is None:
        told = (run.trained.prompt.training_prefixes or (run.trained.prompt.prefix,)) if run.trained else ()
    return Prompts(trained=told, asked=asked)


def warnings_of(run: LoadedRun) -> tuple[str, ...]:
    """Warnings, without the label, for a model that was evaluated with another prompt, or on images that it saw."""
    sheet, prompts = run.scored.sheet, prompts_of(run)
    seen = seen_sentences(sheet.extra.get(SEEN)) if sheet else []
    if not prompts.strange:
        return tuple(seen)
    return (
        f"was evaluated with the prompt {_said(prompts.strange)} but trained with {_said(prompts.trained)}: "
        "its scores are those of a prompt that it was not trained on",
        *seen,
    )


def _flags_of(run: LoadedRun, sheet: ScoreSheet) -> tuple[str, ...]:
    """What `warnings_of` says, in two words each."""
    flags = ["another prompt"] if prompts_of(run).strange else []
    return (*flags, *(["seen images"] if seen_sentences(sheet.extra.get(SEEN)) else []))


def _said(words: Sequence[str]) -> str:
    return ", ".join(f"“{one}”" for one in words)


# Paired differences between the finished rows of a table, as `rscap.scoring.compare` finds them.


def headline_metric(rows: Sequence[ScoreRow]) -> str | None:
    """The first metric, by the table's order of headlines, that all rows have: CIDEr as a rule."""
    return headline_of([metric for metric in METRICS if rows and all(metric in row.cells for row in rows)])


def comparison_of(rows: Sequence[ScoreRow], scored: Sequence[Scored]) -> tuple[Comparison | None, str]:
    """All pairs of finished rows, best first, so that no difference is negative; or None with the reason."""
    finished = [
        (row, own.sheet) for row, own in zip(rows, scored, strict=True) if row.finished and own.sheet is not None
    ]
    metric = headline_metric([row for row, _ in finished])
    if len(finished) < 2 or metric is None:
        return None, ""
    return _compared(finished, metric, metric)


def foreign_comparisons(rows: Sequence[ScoreRow], scored: Sequence[Scored]) -> tuple[Comparison, ...]:
    """The same for every foreign metric that all finished rows have from one source."""
    finished = [
        (row, own.sheet) for row, own in zip(rows, scored, strict=True) if row.finished and own.sheet is not None
    ]
    if len(finished) < 2:
        return ()
    first = finished[0][1]
    shared = {column_of(first, metric): metric for metric in first.extra.get("foreign", {})}
    compared = [
        _compared(finished, column, metric)[0]
        for column, metric in shared.items()
        if all(column in row.cells for row, _ in finished)
    ]
    return tuple(found for found in compared if found is not None)


def _compared(
    finished: Sequence[tuple[ScoreRow, ScoreSheet]], column: str, metric: str
) -> tuple[Comparison | None, str]:
    sign = -1 if finished[0][0].cells[column].higher_is_better else 1
    ordered = sorted(finished, key=lambda pair: sign * pair[0].cells[column].value)
    try:
        return compare({row.label: sheet for row, sheet in ordered}, metric), ""
    except ScoreError as error:
        return None, f"No paired differences: {error.message}."
    except (KeyError, IndexError, ValueError, TypeError) as error:  # a sheet whose kept statistics are damaged
        return None, f"No paired differences: the kept statistics of a sheet cannot be used ({error})."


def headlines(rows: Sequence[ScoreRow], comparison: Comparison | None) -> tuple[str, ...]:
    """What the table says of the best trained run: against baselines and untrained models, then against other runs.

    Where no run was trained, the best one is the subject. Words follow the test, corrected for all pairs of the table;
    the intervals beside them are corrected alike.
    """
    if comparison is None:
        return ()
    kinds = {row.label: row for row in rows}
    names = [system.name for system in comparison.systems]  # best first
    runs = [name for name in names if kinds[name].kind == "run"]
    subjects = [name for name in runs if not kinds[name].untrained] or runs
    if not subjects:
        return ()
    best = subjects[0]
    return tuple(
        sentence
        for sentence in (
            _against(best, [name for name in names if name not in subjects], comparison),
            _against(best, subjects[1:], comparison),
        )
        if sentence
    )


_NAMED = 4
"""Systems that a headline names for each outcome."""


def _against(name: str, others: Sequence[str], comparison: Comparison) -> str:
    """`mine (CIDEr 0.825 [0.741, 0.912], n = 900) is worse than …; it is better than …`; empty without others."""
    outcomes: dict[str, list[str]] = {"worse than": [], _OPEN: [], "better than": []}
    for other in others:
        found = next(one for one in comparison.differences if {one.first, one.second} == {name, other})
        sign = 1 if found.first == name else -1
        low, high = sorted(sign * bound for bound in found.corrected)
        figures = f"{other} ({sign * found.difference:+z.3f} [{low:z.3f}, {high:z.3f}]{disagreement(found)})"
        good = (sign * found.difference > 0) == comparison.higher_is_better
        outcomes[("better than" if good else "worse than") if found.distinguishable else _OPEN].append(figures)
    said = [f"{outcome} {_listed(found)}" for outcome, found in outcomes.items() if found]
    if not said:
        return ""
    system = next(one for one in comparison.systems if one.name == name)
    low, high = system.interval
    pairs = len(comparison.differences)
    corrected = f" Intervals of differences are corrected for {pairs} comparisons (Holm)." if pairs > 1 else ""
    score = f"{comparison.metric} {system.score:.3f} [{low:.3f}, {high:.3f}], n = {comparison.n:,}"
    return f"{name} ({score}) is {'; it is '.join(said)}.{corrected}"


_OPEN = "not significantly different from"


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_NAMED], *([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


_NOT_PROTOCOL = frozenset({"decode", "rscap", "foreign", "content", "seen", "selected"})
"""Parts of a signature that may differ between two rows of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Rows that may be compared with each other: same images, references, protocol and pool."""

    split: str
    rows: tuple[ScoreRow, ...]
    scored: tuple[Scored, ...]
    """The predictions and sheets behind the rows, in the same order."""
    comparison: Comparison | None
    """Paired differences between the finished rows; None for fewer than two rows, or for the reason in `note`."""
    note: str
    foreign: tuple[Comparison, ...] = ()
    """The same for each foreign metric that all finished rows have."""

    @property
    def columns(self) -> tuple[str, ...]:
        """rscap's own metrics, then the foreign ones of any row."""
        others = dict.fromkeys(column for row in self.rows for column in row.cells if column not in METRICS)
        return (*METRICS, *others)

    @property
    def headlines(self) -> tuple[str, ...]:
        """The best trained run against baselines and untrained models, and against the other runs, a sentence each."""
        return headlines(self.rows, self.comparison)

    def best(self, metric: str) -> float | None:
        """The best score of a finished row."""
        values = [row.cells[metric].value for row in self.rows if row.finished and metric in row.cells]
        return (max if self.is_higher_better(metric) else min)(values, default=None)

    def is_higher_better(self, column: str) -> bool:
        """The direction of a column's metric."""
        return all(row.cells[column].higher_is_better for row in self.rows if column in row.cells)

    def signature(self) -> str:
        """The parts of the signature that all rows share."""
        return "|".join(part for part in self.rows[0].signature.split("|") if self._shared(part))

    def own_signatures(self) -> dict[str, tuple[str, ...]]:
        """The parts of the signature that differ, such as `decode:greedy-64`, with the labels of their rows."""
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
    groups: dict[tuple[object, ...], list[tuple[ScoreRow, Scored]]] = {}
    for run, scored, kind in _all_scored(runs):
        sheet = scored.sheet
        if sheet is None:
            continue
        rows = groups.setdefault(_comparable(run, sheet), [])
        if kind == "baseline" and any(row.kind == "baseline" and _same(other, scored) for row, other in rows):
            continue
        rows.append((_row(run, scored, sheet, kind, taken=[row.label for row, _ in rows]), scored))
    return tuple(_table(split, group) for group in groups.values())


def _table(split: str, group: Sequence[tuple[ScoreRow, Scored]]) -> ScoreTable:
    rows, scored = tuple(row for row, _ in group), tuple(own for _, own in group)
    comparison, note = comparison_of(rows, scored)
    return ScoreTable(
        split=split,
        rows=rows,
        scored=scored,
        comparison=comparison,
        note=note,
        foreign=foreign_comparisons(rows, scored),
    )


def _all_scored(runs: Sequence[LoadedRun]) -> Iterator[tuple[LoadedRun, Scored, RowKind]]:
    for run in runs:
        yield run, run.scored, "run"
    for run in runs:
        for baseline in run.baselines:
            yield run, baseline, "baseline"


def _comparable(run: LoadedRun, sheet: ScoreSheet) -> tuple[object, ...]:
    parts = [part for part in sheet.signature.split("|") if part.split(":", 1)[0] not in _NOT_PROTOCOL]
    return frozenset(sheet.items), sheet.n, run.references_digest, tuple(parts)


def _same(one: Scored, other: Scored) -> bool:
    """Whether a baseline has the same scores in two runs."""
    return (
        one.name == other.name
        and one.sheet is not None
        and other.sheet is not None
        and one.sheet.corpus == other.sheet.corpus
        and one.sheet.items == other.sheet.items
    )


def _row(run: LoadedRun, scored: Scored, sheet: ScoreSheet, kind: RowKind, taken: Sequence[str]) -> ScoreRow:
    label = run.label if kind == "run" else BASELINE_LABELS.get(scored.name, scored.name)
    if label in taken:  # another outcome of a baseline of the same name: other training images
        label = f"{label} ({run.label})"
    return ScoreRow(
        label=label,
        kind=kind,
        state="finished" if kind == "baseline" else run.state,
        n=sheet.n,
        unscored=sheet.unscored,
        signature=sheet.signature,
        cells={column_of(sheet, metric): _cell(sheet, metric) for metric in in_order(sheet.corpus)},
        warnings=warnings_of(run) if kind == "run" else (),
        flags=_flags_of(run, sheet) if kind == "run" else (),
        untrained=kind == "run" and run.untrained,
    )


def _cell(sheet: ScoreSheet, metric: str) -> Cell:
    low, high = sheet.intervals.get(metric, (None, None))
    return Cell(value=sheet.corpus[metric], low=low, high=high, higher_is_better=is_higher_better(sheet, metric))
