"""Resampling images: the bootstrap (Efron, Annals of Statistics 7, 1979) on kept statistics, and paired tests.

Tests of differences between two systems that captioned the same images:

* Paired bootstrap (Efron and Tibshirani, "An introduction to the bootstrap", 1993; Koehn, EMNLP 2004): images are drawn
  with replacement, both systems are scored on the same draw. Interval: percentiles. p-value: how often a draw lies as
  far from the observed difference as that difference lies from 0 (two-sided, centred).
* Approximate randomisation (Noreen, "Computer intensive methods for testing hypotheses", 1989; Riezler and Maxwell,
  2005): if the systems were the same, swapping their outputs on any image would change nothing. p-value: how often
  random swaps give a difference at least as large as the observed one.
* Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979) over all pairs that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rscap.scoring.corpus import Floats
from rscap.scoring.measures import Statistics

DRAWS = 10_000
CELLS = 250_000
"""Draws x images held at once: fits the cache, bounds the memory, and does not change the result."""


def resampled_sums(matrix: Floats, draws: int, seed: int) -> Floats:
    """float[draws, K]: sums of the rows [n, K] of `matrix` over `draws` resamples of n rows with replacement."""
    n = len(matrix)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, matrix.shape[1]))
    chunk = max(1, CELLS // n)
    counts = np.empty((chunk, n))
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picks = rng.integers(0, n, size=(rows, n), dtype=np.uint32)  # half the time of 64 bits
        cells = np.add(picks, np.arange(rows)[:, None] * n, dtype=np.int64)
        counts[:rows] = np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n)
        np.matmul(counts[:rows], matrix, out=sums[start : start + rows])
    return sums


def intervals(statistics: Statistics, *, draws: int = DRAWS, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval of every corpus score over resamples of the images; empty where `draws` is 0."""
    n = len(statistics.ids)
    if draws == 0 or n == 0:
        return {}
    resampled = statistics.corpus(resampled_sums(statistics.matrix, draws, seed), n)
    bounds = {metric: np.quantile(values, [0.025, 0.975]) for metric, values in resampled.items()}
    return {metric: (float(low), float(high)) for metric, (low, high) in bounds.items()}


POWER_QUANTILES = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 % and of a power of 80 %, added."""
_ROUNDING = 1e-12


def swapped_sums(first: Floats, second: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Sums of both systems' statistics [n, K] after swapping them on random images: float[draws, K] twice."""
    n = len(first)
    rng = np.random.default_rng(seed)
    moved = np.empty((draws, first.shape[1]))
    chunk = max(1, CELLS // n)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        bits = np.frombuffer(rng.bytes(rows * 8 * -(-n // 64)), dtype=np.uint8).reshape(rows, -1)
        swap = np.unpackbits(bits, axis=1, count=n).astype(np.float64)
        np.matmul(swap, first - second, out=moved[start : start + rows])
    return first.sum(axis=0) - moved, second.sum(axis=0) + moved


def bootstrap_p(resampled: Floats, observed: Floats | float) -> Floats:
    """Two-sided p-value from resampled differences [draws, …], centred at the observed one."""
    return _share(np.abs(resampled - observed), np.abs(observed))


def randomisation_p(swapped: Floats, observed: Floats | float) -> Floats:
    """Two-sided p-value from the differences [draws, …] after random swaps."""
    return _share(np.abs(swapped), np.abs(observed))


def _share(size: Floats, observed: Floats | float) -> Floats:
    """The share of draws that reach the observed size; the observation counts as one (Davison and Hinkley, 1997)."""
    return (1 + (size >= observed - _ROUNDING).sum(axis=0)) / (len(size) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that the chance of any false claim stays at the level of one test."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def images_needed(difference: float, error_images: float, error_seeds: float, n: int) -> int | None:
    """About how many images a 5 % test needs to find a true difference of this size in four of five trials.

    The variance over images falls as 1/n, that over training seeds does not: None where seeds alone hide the
    difference, or where the difference is 0.
    """
    room = (difference / POWER_QUANTILES) ** 2 - error_seeds**2
    if room <= 0 or difference == 0:
        return None
    return max(2, math.ceil(n * error_images**2 / room))
