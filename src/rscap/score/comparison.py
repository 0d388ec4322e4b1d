"""What a comparison finds: frozen records, as every table and page shows them."""

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
    """Holm-corrected; of the randomisation test, or with replicates of the bootstrap, which knows the seeds."""
    images_needed: int | None
    """For a test at 5 % with a power of 80 %; None where no number of images would do."""
    sentence: str
    error_images: float = 0.0
    """Standard error of the difference over the images drawn."""
    error_seeds: float = 0.0
    """Standard error of the difference over training seeds; 0 where no system has replicates."""

    @property
    def distinguishable(self) -> bool:
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
