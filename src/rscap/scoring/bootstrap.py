"""Resampling images: the bootstrap (Efron, Annals of Statistics 7, 1979) on kept statistics."""

from __future__ import annotations

import numpy as np

from rscap.scoring.ngrams import Floats
from rscap.scoring.statistics import Statistics

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
