"""A study in numbers: the judgement of its finished runs, the cost of each row, and the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rscap.errors import ScoreError
from rscap.metrics import METRICS, in_order
from rscap.reports.formats import with_interval
from rscap.reports.load import LoadedRun
from rscap.reports.study.load import LoadedRow, LoadedStudy
from rscap.scoring.comparison import Difference
from rscap.scoring.foreign import is_higher_better
from rscap.scoring.judgement import Judgement, RowJudgement, judge, pareto_front
from rscap.scoring.systems import Resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of a row, as medians over its seeds; NaN if unknown."""

    minutes: float
    """Time in the training loop, over all sessions; from start to end of a run if that is unknown."""
    captions_per_s: float
    peak_bytes: float
    trainable: float
    """Trainable parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """One line of the study's table."""

    row: LoadedRow
    judged: RowJudgement | None
    """None if no run finished, or the study cannot be judged."""
    means: dict[str, float]
    """Mean over seeds of every metric."""
    deviations: dict[str, float]
    """Standard deviation over this row's own seeds; absent for one seed."""
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A study's table, from the best score to the worst; rows without a finished run last."""

    study: LoadedStudy
    metric: str
    n: int
    rows: tuple[SummaryRow, ...]
    judgement: Judgement | None
    not_judged: str
    """Why there is no judgement; empty where there is one."""
    beside: tuple[Difference, ...]
    """Every row with a finished run minus every untrained system, both from the best to the worst, corrected for the
    number of these pairs."""
    not_beside: str
    """Why there are none; empty where there are, or where no untrained system was scored."""
    higher_is_better: bool
    front: tuple[str, ...]
    """Rows that no other beats in both minutes and score."""
    signature: str

    def score(self, name: str) -> str:
        """`0.853 [0.840, 0.866]`: the score of a row or of an untrained system."""
        judged = next((one for one in self.judgement.rows if one.name == name), None) if self.judgement else None
        if judged is not None:
            return with_interval(judged.score, judged.interval)
        for other in self.study.untrained:
            if other.name == name:
                return with_interval(other.sheet.corpus[self.metric], other.sheet.intervals.get(self.metric))
        return with_interval(next(one.means[self.metric] for one in self.rows if one.row.name == name), None)


def summarise(study: LoadedStudy, *, metric: str = "CIDEr") -> Summary:
    """Judge a study and put its table together.

    Raises:
        ScoreError: an unknown metric.
    """
    sheets = list(study.sheets().values())
    names = in_order(dict.fromkeys([*METRICS, *(name for sheet in sheets for name in sheet.corpus)]))
    if metric not in names:
        raise ScoreError(f"unknown metric {metric!r}", hint=f"known: {', '.join(names)}")
    sign = 1 if all(is_higher_better(sheet, metric) for sheet in sheets) else -1
    judgement, reason = _judged(study, metric)
    rows = [_summary_row(row, judgement) for row in study.rows]
    rows.sort(key=lambda one: -sign * one.means.get(metric, -sign * math.inf))
    beside, not_beside = _beside(study, metric, [one.row.name for one in rows if metric in one.means], sign)
    points = {
        one.row.name: (one.cost.minutes, sign * one.means[metric])
        for one in rows
        if metric in one.means and math.isfinite(one.cost.minutes)
    }
    return Summary(
        study=study,
        metric=metric,
        n=sheets[0].n if sheets else 0,
        rows=tuple(rows),
        judgement=judgement,
        not_judged=reason,
        beside=beside,
        not_beside=not_beside,
        higher_is_better=sign > 0,
        front=tuple(pareto_front(points)),
        signature=_common([sheet.signature for sheet in sheets]),
    )


def _judged(study: LoadedStudy, metric: str) -> tuple[Judgement | None, str]:
    sheets = study.sheets()
    if len({row for row, _ in sheets}) < 2:
        return None, "fewer than two rows have a finished run"
    try:
        return judge(sheets, reference=study.reference, metric=metric), ""
    except ScoreError as error:
        return None, error.message


def _beside(study: LoadedStudy, metric: str, rows: Sequence[str], sign: int) -> tuple[tuple[Difference, ...], str]:
    """Rows against untrained systems, or the reason why not."""
    others = [one for one in study.untrained if metric in one.sheet.corpus]
    others.sort(key=lambda one: -sign * one.sheet.corpus[metric])
    if not others or not rows:
        return (), ""
    if same := [one.name for one in others if one.name in rows]:
        return (), f"a row is named {same[0]}, like a baseline"
    trained = {f"{row} seed {seed}": (row, sheet) for (row, seed), sheet in study.sheets().items() if row in rows}
    sheets = {name: sheet for name, (_, sheet) in trained.items()} | {one.name: one.sheet for one in others}
    systems = {name: row for name, (row, _) in trained.items()} | {one.name: one.name for one in others}
    try:
        resampled = Resampled.of(sheets, metric, systems=systems, untrained=[one.name for one in others])
    except ScoreError as error:
        return (), error.message
    return resampled.differences([(row, one.name) for row in rows for one in others]), ""


def _summary_row(row: LoadedRow, judgement: Judgement | None) -> SummaryRow:
    runs = [one.run for one in row.finished if one.run is not None]
    scores = [one.scored.sheet.corpus for one in runs if one.scored.sheet is not None]
    known = [metric for metric in in_order(scores[0] if scores else ()) if all(metric in own for own in scores)]
    judged = next((one for one in judgement.rows if one.name == row.name), None) if judgement else None
    return SummaryRow(
        row=row,
        judged=judged,
        means={metric: statistics.fmean(corpus[metric] for corpus in scores) for metric in known},
        deviations={metric: statistics.stdev(corpus[metric] for corpus in scores) for metric in known}
        if len(scores) > 1
        else {},
        cost=_cost(runs),
    )


def _cost(runs: Sequence[LoadedRun]) -> Cost:
    peaks = [[step.memory_bytes for step in run.steps if step.memory_bytes is not None] for run in runs]
    return Cost(
        minutes=_median([minutes(run) for run in runs]),
        captions_per_s=_median([_median([step.captions_per_s for step in run.steps]) for run in runs]),
        peak_bytes=_median([max(own, default=None) for own in peaks]),
        trainable=_median([float(sum(part.trainable for part in run.parameters.values())) for run in runs]),
    )


def minutes(run: LoadedRun) -> float:
    """The minutes of a run; NaN if unknown."""
    if run.status is None:
        return math.nan
    seconds = run.status.seconds if run.status.loop_seconds is None else run.status.loop_seconds
    return math.nan if seconds is None else seconds / 60


def _median(values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def _common(signatures: Sequence[str]) -> str:
    """The parts that all signatures share, in their order."""
    if not signatures:
        return ""
    others = [set(signature.split("|")) for signature in signatures[1:]]
    return "|".join(part for part in signatures[0].split("|") if all(part in other for other in others))
