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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two systems on the same images: `first` minus `second`."""

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
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


_MANY = 1_000_000


def sentence(found: Difference, metric: str, n: int, comparisons: int, *, higher_is_better: bool = True) -> str:
    """Say which of two systems is better, or that they do not differ significantly and how many images it would take.

    `a and b do not differ significantly at n = 50 (CIDEr +0.041 [-0.090, 0.172], p = 0.54); detecting a difference of
    this size needs about 1,900 images.`
    """
    (low, high), size = found.interval, found.difference
    corrected = f" after Holm's correction for {comparisons} comparisons" if comparisons > 1 else ""
    figures = f"{metric} {size:+z.3f} [{low:z.3f}, {high:z.3f}], {probability(found.p_holm)}{corrected}"
    if found.distinguishable:
        better, worse = (found.first, found.second) if (size > 0) == higher_is_better else (found.second, found.first)
        return f"{better} is better than {worse} at n = {n:,} ({figures})."
    outlook = _outlook(size, found.images_needed, n)
    return f"{found.first} and {found.second} do not differ significantly at n = {n:,} ({figures}); {outlook}."


def probability(p: float) -> str:
    """`p = 0.54`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"


def _outlook(difference: float, needed: int | None, n: int) -> str:
    if difference == 0:
        return "their scores are equal"
    if needed is None:
        return "more images alone would not detect a difference of this size, more replicates may"
    if needed > _MANY:
        return "detecting a difference of this size needs more than a million images"
    return f"detecting a difference of this size needs about {rounded(max(needed, n + 1)):,} images"


def rounded(count: int) -> int:
    """Two significant digits, upwards."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
