"""Judging a study: which rows differ from the reference row, how rows rank, and how many more seeds are needed.

A row is a method; its runs differ in their seed alone. A run's score varies with the seed (order of the data, initial
weights) and with the images that happen to be in the evaluation set. `judge` resamples the images, the same ones for
all rows, and adds the variance between seeds, pooled over the rows, as Student's t. A row whose variance is more than
nine times that of the others uses its own estimate, with its own few degrees of freedom. The pooled variance contains
a little of the images' variance too, so intervals err on the wide side.

Rows are compared with the reference after Holm's correction for the number of rows; ranks come from all pairs, after
Holm's correction for the number of pairs. `pareto_front` sets cost against score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist, median
from typing import Literal

from rscap.errors import ScoreError
from rscap.records import ScoreSheet
from rscap.scoring.comparison import LEVEL, Comparison, Difference, SystemScore, disagreement, figures_of
from rscap.scoring.resampling import DRAWS
from rscap.scoring.systems import Resampled

Verdict = Literal["reference", "better", "worse", "undecided", "one seed"]
"""Against the reference row. `one seed`: no row was repeated, so that luck cannot be separated from the method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The spread of scores when only the training seed changes, or only the images drawn."""

    seed_deviation: float
    """Standard deviation of a row's score between seeds, pooled over the rows."""
    seed_freedom: int
    """Degrees of freedom of that estimate: runs minus rows. 0: no row was repeated."""
    image_error: float
    """Standard error of a row's score over the images drawn, the median of the rows."""
    paired_image_error: float
    """Standard error over images of a difference between two rows on the same images, the median of the pairs."""
    floor: float | None
    """The smallest true difference from the reference that this study detects with a power of 80 %, after correction
    for the number of rows; None where no row was repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowJudgement:
    """One row of a study."""

    name: str
    score: float
    """Mean over seeds."""
    interval: tuple[float, float]
    """95 %, over images and seeds."""
    seeds: int
    against: Difference | None
    """This row minus the reference, corrected for the number of rows; None for the reference itself."""
    verdict: Verdict
    best_rank: int
    """1 plus the number of rows that are significantly better (all pairs, corrected)."""
    worst_rank: int
    """The number of rows minus those that are significantly worse."""
    more_seeds: int | None
    """Further seeds per row that detect a true difference of the size found with a power of 80 %; None where the
    verdict is clear, or where no number of seeds is enough."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A whole study on one metric: rows from the best score to the worst."""

    metric: str
    n: int
    reference: str
    rows: tuple[RowJudgement, ...]
    noise: Noise
    comparison: Comparison
    """All pairs of rows."""

    def row(self, name: str) -> RowJudgement:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)


_POWER = 0.8
_DRAWS_A_PAIR = 3
_MOST_SEEDS = 200


def judge(
    sheets: Mapping[tuple[str, int], ScoreSheet],
    *,
    reference: str,
    metric: str = "CIDEr",
    draws: int = DRAWS,
    seed: int = 0,
) -> Judgement:
    """Judge a study.

    Args:
        sheets: `{(row, seed): sheet}`, all of the same images under the same conditions; finished runs only.
        reference: the row that the others are compared with.
        metric: one that all sheets have.
        draws: resamples of the images, or more where many pairs need finer p-values.
        seed: of the resampling.

    Raises:
        ScoreError: the reference is not among the rows, there are fewer than two rows, or the sheets cannot be
            compared (see `compare`).
    """
    rows = list(dict.fromkeys(row for row, _ in sheets))
    if reference not in rows:
        raise ScoreError(
            f"the reference {reference!r} has no finished run; rows that have: {', '.join(rows) or 'none'}"
        )
    named = {f"{row} seed {number}": sheet for (row, number), sheet in sheets.items()}
    systems = {f"{row} seed {number}": row for row, number in sheets}
    pairs = len(rows) * (len(rows) - 1) // 2
    enough = math.ceil(_DRAWS_A_PAIR * pairs / LEVEL)  # a p-value of 1 in `draws` must survive the correction
    resampled = Resampled.of(named, metric, systems=systems, draws=max(draws, enough), seed=seed)
    compared = resampled.comparison()
    place = rows.index(reference)
    beside = [(row, reference) if rows.index(row) < place else (reference, row) for row in rows if row != reference]
    against = {one.first: one for one in (_turned(pair, reference) for pair in resampled.differences(beside))}
    noise = _noise(compared, reference)
    judged = [_row(own, compared, against.get(own.name), reference) for own in compared.systems]
    return Judgement(
        metric=metric,
        n=compared.n,
        reference=reference,
        rows=tuple(sorted(judged, key=lambda row: row.score, reverse=compared.higher_is_better)),
        noise=noise,
        comparison=compared,
    )


def _turned(pair: Difference, second: str) -> Difference:
    """The same pair with `second` as what is subtracted."""
    if pair.second == second:
        return pair
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        difference=-pair.difference,
        interval=(-pair.interval[1], -pair.interval[0]),
        corrected=(-pair.corrected[1], -pair.corrected[0]),
        sentence="",
    )


def _row(own: SystemScore, compared: Comparison, against: Difference | None, reference: str) -> RowJudgement:
    better, worse = _clearly_apart(own.name, compared)
    verdict = _verdict(against, compared)
    others = len(compared.systems) - 1
    more = None
    if against is not None and verdict in ("undecided", "one seed"):
        fewest = min(one.replicates for one in compared.systems if one.name in (own.name, reference))
        more = _more_seeds(against, compared, others, fewest)
    return RowJudgement(
        name=own.name,
        score=own.score,
        interval=own.interval,
        seeds=own.replicates,
        against=against,
        verdict=verdict,
        best_rank=1 + better,
        worst_rank=len(compared.systems) - worse,
        more_seeds=more,
        sentence=_sentence(against, verdict, compared, reference),
    )


def _clearly_apart(name: str, compared: Comparison) -> tuple[int, int]:
    """How many rows are significantly better than this one, and how many worse; none where no row was repeated."""
    if not compared.seed_freedom:
        return 0, 0
    mine = [
        pair.difference if pair.second == name else -pair.difference  # the other row minus this one
        for pair in compared.differences
        if name in (pair.first, pair.second) and pair.distinguishable
    ]
    above, below = sum(one > 0 for one in mine), sum(one < 0 for one in mine)
    return (above, below) if compared.higher_is_better else (below, above)


def _verdict(against: Difference | None, compared: Comparison) -> Verdict:
    if against is None:
        return "reference"
    if not compared.seed_freedom:
        return "one seed"
    if not against.distinguishable:
        return "undecided"
    return "better" if (against.difference > 0) == compared.higher_is_better else "worse"


def _quantiles(comparisons: int) -> float:
    """Normal quantiles of a test at 5 %, split among all comparisons, and of a power of 80 %, added."""
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / 2 / max(1, comparisons)) + normal.inv_cdf(_POWER)


def _more_seeds(against: Difference, compared: Comparison, comparisons: int, have: int) -> int | None:
    """Seeds per row, beyond those of the row that has fewer, that detect a true difference of the size found.

    Normal quantiles replace Student's, so with few degrees of freedom it takes a little more.
    """
    if not compared.seed_freedom:
        return 1 if against.difference else None  # a second one shows what seeds do at all
    room = (abs(against.difference) / _quantiles(comparisons)) ** 2 - against.error_images**2
    if room <= 0:
        return None
    variance = against.error_seeds**2 / (1 / have + 1 / have)  # of one run, were both rows run as often
    needed = math.ceil(2 * max(variance, compared.seed_deviation**2) / room)
    return max(needed - have, 1) if needed <= _MOST_SEEDS else None


def _noise(compared: Comparison, reference: str) -> Noise:
    pairs = [pair for pair in compared.differences if reference in (pair.first, pair.second)]
    images = median(pair.error_images for pair in compared.differences)
    floor = None
    if compared.seed_freedom:
        errors = [math.hypot(pair.error_images, pair.error_seeds) for pair in pairs]
        floor = _quantiles(len(pairs)) * median(errors)
    return Noise(
        seed_deviation=compared.seed_deviation,
        seed_freedom=compared.seed_freedom,
        image_error=median(system.error_images for system in compared.systems),
        paired_image_error=images,
        floor=floor,
    )


def _sentence(against: Difference | None, verdict: Verdict, compared: Comparison, reference: str) -> str:
    if against is None:
        return "the row that the others are compared with"
    figures = f"{compared.metric} {figures_of(against, len(compared.systems) - 1, of='rows')}{disagreement(against)}"
    if verdict in ("better", "worse"):
        return f"{verdict} than {reference} ({figures})"
    if verdict == "one seed":
        return f"one seed per row: these runs differ by {figures} over images; whether the methods differ is unknown"
    return f"no significant difference from {reference} ({figures})"


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of `{name: (cost, score)}` that no other point beats in both cost and score, by rising cost.

    One point beats another if it costs at most as much, scores at least as high, and differs from it.
    """
    return [
        name
        for name, own in sorted(points.items(), key=lambda item: item[1])
        if not any(_dominates(other, own) for other in points.values())
    ]


def _dominates(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other[0] <= own[0] and other[1] >= own[1] and other != own
