"""Sufficient statistics per image: with them any subset or resample of the images is scored without the texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rscap.metrics import METRICS, in_order
from rscap.scoring.corpus import Corpus
from rscap.scoring.measures import Averaged, Material, MetricUnavailable, Summed, find
from rscap.scoring.ngrams import Floats, Ints


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of n images, in the order of `ids`."""

    ids: tuple[str, ...]
    means: Mapping[str, Floats] = field(default_factory=dict)
    """Metrics whose corpus score is the mean of their item scores, float[n] each."""
    sums: Mapping[Summed, Floats] = field(default_factory=dict)
    """float[n, K] for each measure whose corpus scores follow from sums."""

    @cached_property
    def matrix(self) -> Floats:
        """float[n, K]: all statistics side by side; `corpus` takes sums of its rows."""
        parts = [values[:, None] for values in self.means.values()]
        parts += self.sums.values()
        return np.concatenate(parts, axis=1) if parts else np.empty((len(self.ids), 0))

    def corpus(self, sums: Floats, weight: float) -> dict[str, Floats]:
        """Corpus scores of (weighted) sums [..., K] of rows of `matrix`, whose weights add up to `weight`."""
        scores = {metric: sums[..., place] / weight for place, metric in enumerate(self.means)}
        at = len(self.means)
        for measure, values in self.sums.items():
            width = values.shape[1]
            scores |= measure.scores(sums[..., at : at + width])
            at += width
        return {metric: scores[metric] for metric in in_order(scores)}

    def corpus_scores(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Corpus scores of all images, or of those that `rows` (places or a mask) selects."""
        part = self.matrix if rows is None else self.matrix[rows]
        return {metric: float(score) for metric, score in self.corpus(part.sum(axis=0), len(part)).items()}

    def item_scores(self) -> dict[str, Floats]:
        """float[n] per metric: every image as a corpus of one."""
        return self.corpus(self.matrix, 1)

    def of_metric(self, metric: str) -> Statistics:
        """The statistics of one metric alone, images sorted by id."""
        order = np.array(sorted(range(len(self.ids)), key=self.ids.__getitem__))
        ids = tuple(self.ids[place] for place in order)
        if metric in self.means:
            return Statistics(ids=ids, means={metric: self.means[metric][order]})
        return Statistics(
            ids=ids, sums={measure: rows[order] for measure, rows in self.sums.items() if metric in measure.names}
        )


def mean_statistics(several: Sequence[Statistics]) -> Statistics:
    """The mean over replicates of the same images and metrics."""
    first = several[0]
    return Statistics(
        ids=first.ids,
        means={metric: np.mean([own.means[metric] for own in several], axis=0) for metric in first.means},
        sums={measure: np.mean([own.sums[measure] for own in several], axis=0) for measure in first.sums},
    )


def measured(
    ids: tuple[str, ...], material: Material, metrics: Collection[str], protocol: str
) -> tuple[Statistics, list[str]]:
    """(statistics of the metrics of the table; a note on each metric that cannot be computed here)."""
    means: dict[str, Floats] = {}
    sums: dict[Summed, Floats] = {}
    notes = []
    for metric in METRICS:
        if metric not in metrics:
            continue
        measure = find(metric, protocol)
        try:
            if isinstance(measure, Averaged):
                means[metric] = measure.item_scores(material)
            elif measure not in sums:
                sums[measure] = measure.statistics(material)
        except MetricUnavailable as error:
            notes.append(f"{metric} is not scored: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return Statistics(ids=ids, means=means, sums=sums), notes


def shuffled(corpus: Corpus, seed: int) -> Corpus:
    """The same images, each with the candidate of another one: a random cycle through all images."""
    order: Ints = np.random.default_rng(seed).permutation(len(corpus))
    candidate = np.empty_like(corpus.candidate)
    candidate[order] = corpus.candidate[np.roll(order, 1)]
    return corpus.with_candidates(candidate)
