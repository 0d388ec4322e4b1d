"""What a judged study says: frozen records, as every table and page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rscap.scoring.comparison import Comparison, Difference

Verdict = Literal["reference", "better", "worse", "undecided", "one seed"]
"""Against the reference row. `one seed`: no row was repeated, so that luck and method cannot be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far scores move when nothing is changed but the training seed, or the images drawn."""

    seed_deviation: float
    """Standard deviation of a row's score between seeds, pooled over the rows."""
    seed_freedom: int
    """Degrees of freedom of that estimate: runs less rows. 0: it is not known."""
    image_error: float
    """Standard error of a row's score over the images drawn, the median of the rows."""
    paired_image_error: float
    """Standard error over images of a difference between two rows on the same images, the median of the pairs."""
    floor: float | None
    """The smallest difference from the reference that this study finds in four of five trials, after correction for
    the number of rows; None where the noise of seeds is not known."""


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
    """1 plus how many rows are better than this one beyond doubt (all pairs, corrected)."""
    worst_rank: int
    """How many rows there are, less those that are worse beyond doubt."""
    more_seeds: int | None
    """Further seeds a row that would settle an undecided difference of the size found; None where it is settled, or
    where no number of seeds would."""
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
    """All pairs, for those who want them."""

    def row(self, name: str) -> RowJudgement:
        return next(row for row in self.rows if row.name == name)


# Cost against quality: what is not beaten on both.


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of `{name: (cost, score)}` that no other is at most as costly and at least as good, by rising cost.

    Of points that are equal in both, all stay.
    """
    return [
        name
        for name, own in sorted(points.items(), key=lambda item: item[1])
        if not any(_dominates(other, own) for other in points.values())
    ]


def _dominates(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other[0] <= own[0] and other[1] >= own[1] and other != own
