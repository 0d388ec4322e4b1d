"""The result of a comparison of systems: records, and one plain sentence for every pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEVEL = 0.05
"""A difference is claimed where its corrected p-value is below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemScore:
    """One system: its score, the mean over its replicates."""

    name: str
    score: float
    interval: tuple[float, float]
    """95 %, over images and, where any system has replicates, over seeds."""
    replicates: int
    error_images: float = 0.0
    """Standard error of the score over the images drawn."""
    decode: str = ""
    """How its captions were decoded, such as `greedy-24`; several ways of its replicates with commas between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two systems on the same images: `first` minus `second`."""

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    """95 %, of this pair alone."""
    corrected: tuple[float, float]
    """The same interval, widened as Holm's correction asks of this pair: where the test is the bootstrap, it excludes 0
    exactly where `p_holm` is below LEVEL."""
    p_bootstrap: float
    """Over images and, where there are replicates, seeds."""
    p_randomisation: float
    """Over images alone."""
    p_holm: float
    """Holm-corrected: of the randomisation test or, with replicates, of the bootstrap, which includes the seeds."""
    images_needed: int | None
    """For a test at 5 % with a power of 80 %; None where no number of images is enough."""
    sentence: str
    error_images: float = 0.0
    """Standard error of the difference over the images drawn."""
    error_seeds: float = 0.0
    """Standard error of the difference over training seeds; 0 where no system has replicates."""

    @property
    def distinguishable(self) -> bool:
        """Whether the corrected p-value is below LEVEL."""
        return self.p_holm < LEVEL

    @property
    def excludes_zero(self) -> bool:
        """Whether the corrected interval lies on one side of 0."""
        return self.corrected[0] > 0 or self.corrected[1] < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All systems, and all their pairs, on one metric."""

    metric: str
    n: int
    conditions: Mapping[str, str]
    systems: tuple[SystemScore, ...]
    differences: tuple[Difference, ...]
    draws: int
    seed: int
    notes: tuple[str, ...]
    seed_deviation: float = 0.0
    """Standard deviation of a score between replicates, pooled over systems."""
    seed_freedom: int = 0
    """Degrees of freedom of `seed_deviation`; 0 where no system has replicates."""
    higher_is_better: bool = True
    """The direction of the metric."""

    def __str__(self) -> str:
        """One sentence a pair, then what else a reader should know."""
        return "\n".join([*(one.sentence for one in self.differences), *self.notes])


def sentence(found: Difference, metric: str, n: int, comparisons: int, *, higher_is_better: bool = True) -> str:
    """Say which of two systems is better, or that they do not differ significantly.

    `a and b do not differ significantly at n = 50 (CIDEr +0.041 [-0.090, 0.172], p = 0.54).`
    """
    figures = f"{metric} {figures_of(found, comparisons)}"
    if found.distinguishable:
        better, worse = (
            (found.first, found.second) if (found.difference > 0) == higher_is_better else (found.second, found.first)
        )
        return f"{better} is better than {worse} at n = {n:,} ({figures}{disagreement(found)})."
    return (
        f"{found.first} and {found.second} do not differ significantly at n = {n:,} ({figures}{disagreement(found)})."
    )


def figures_of(found: Difference, comparisons: int, *, of: str = "comparisons") -> str:
    """`+0.041 [-0.090, 0.172], p = 0.54, interval and p after Holm's correction for 3 comparisons`."""
    low, high = found.corrected
    corrected = f", interval and p after Holm's correction for {comparisons} {of}" if comparisons > 1 else ""
    return f"{found.difference:+z.3f} [{low:z.3f}, {high:z.3f}], {probability(found.p_holm)}{corrected}"


def disagreement(found: Difference) -> str:
    """`; borderline: …` where the interval, a bootstrap, and the test that decides do not agree; else nothing."""
    if found.distinguishable == found.excludes_zero:
        return ""
    return f"; borderline: the interval {'excludes' if found.excludes_zero else 'includes'} 0, the test says otherwise"


def probability(p: float) -> str:
    """`p = 0.54`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"
