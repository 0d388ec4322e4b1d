"""A study's table as text cells, the same for every format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rscap.records import METRICS
from rscap.report.study.load import Beside
from rscap.report.study.summary import Cost, Summary, SummaryRow
from rscap.score.verdict import probability

DASH = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table, in words."""

    name: str
    kind: str
    """`row`, `zero-shot` or `baseline`."""
    status: str
    reason: str
    seeds: str
    """`2/3`: finished and planned."""
    scores: dict[str, str]
    interval: str
    """Of the study's metric."""
    against: str
    """Difference from the reference with its interval and p-value."""
    verdict: str
    rank: str
    sentence: str
    cost: dict[str, str]


COSTS: dict[str, Callable[[Cost], str]] = {
    "minutes": lambda cost: _number(cost.minutes, "{:.1f}"),
    "captions/s": lambda cost: _number(cost.captions_per_s, "{:.1f}"),
    "peak GiB": lambda cost: _number(cost.peak_bytes / 2**30, "{:.2f}"),
    "trainable": lambda cost: _number(cost.trainable, "{:,.0f}"),
}


def lines(summary: Summary) -> list[Line]:
    """All lines: rows from best to worst, then what was not trained."""
    return [_row(one, summary) for one in summary.rows] + [_beside(one, summary) for one in summary.study.beside]


def shown_metrics(summary: Summary) -> Sequence[str]:
    """Metrics that any line has, in the usual order."""
    there = {metric for one in summary.rows for metric in one.means}
    there |= {metric for one in summary.study.beside for metric in one.sheet.corpus}
    return [metric for metric in METRICS if metric in there]


def noise_sentence(summary: Summary) -> str:
    """The noise floor in words."""
    if summary.judgement is None:
        return f"Not judged: {summary.not_judged}."
    noise, metric = summary.judgement.noise, summary.metric
    images = (
        f"over images, a score has a standard error of {noise.image_error:.3f} and a paired difference one of "
        f"{noise.paired_image_error:.3f} (n = {summary.n:,})"
    )
    if noise.floor is None:
        return f"One seed a row: how far seeds move a score is not known, so nothing is decided; {images}."
    return (
        f"Between seeds {metric} moves by {noise.seed_deviation:.3f} (standard deviation, {noise.seed_freedom} degrees "
        f"of freedom); {images}. A true difference from {summary.study.reference} of {noise.floor:.3f} is found in "
        "four of five studies of this size; smaller ones often are not."
    )


def _row(one: SummaryRow, summary: Summary) -> Line:
    judged = one.judged
    against = judged.against if judged else None
    return Line(
        name=one.row.name,
        kind="row",
        status=one.row.status,
        reason=one.row.reason,
        seeds=f"{len(one.row.finished)}/{len(one.row.runs)}",
        scores={metric: _score(value, one.deviations.get(metric)) for metric, value in one.means.items()},
        interval=f"[{judged.interval[0]:.3f}, {judged.interval[1]:.3f}]" if judged else "",
        against=(
            f"{against.difference:+z.3f} [{against.interval[0]:z.3f}, {against.interval[1]:z.3f}], "
            f"{probability(against.p_holm)}"
            if against
            else ""
        ),
        verdict=judged.verdict if judged else "",
        rank=_rank(judged.best_rank, judged.worst_rank) if judged else "",
        sentence=judged.sentence if judged else "",
        cost={name: show(one.cost) for name, show in COSTS.items()},
    )


def _beside(one: Beside, summary: Summary) -> Line:
    bounds = one.sheet.intervals.get(summary.metric)
    return Line(
        name=one.name,
        kind=one.kind,
        status="finished",
        reason="",
        seeds="",
        scores={metric: _score(value, None) for metric, value in one.sheet.corpus.items()},
        interval=f"[{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "",
        against="",
        verdict="",
        rank="",
        sentence="" if one.sheet.n == summary.n or not summary.n else f"of other images: n = {one.sheet.n:,}",
        cost=dict.fromkeys(COSTS, ""),
    )


def _score(value: float, deviation: float | None) -> str:
    return f"{value:.3f}" if deviation is None else f"{value:.3f} (sd {deviation:.3f})"


def _rank(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best}–{worst}"


def _number(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else DASH
