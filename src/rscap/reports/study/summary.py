"""A study in numbers: the judgement of its finished runs, the cost of each row, and the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rscap.errors import ScoreError
from rscap.metrics import METRICS, in_order
from rscap.reports.load import LoadedRun
from rscap.reports.study.load import LoadedRow, LoadedStudy
from rscap.scoring.foreign import is_higher_better
from rscap.scoring.judgement import Judgement, RowJudgement, judge, pareto_front


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
    front: tuple[str, ...]
    """Rows that no other beats in both minutes and score."""
    signature: str


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
