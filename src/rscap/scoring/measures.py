"""Measures compute metrics: they give every image a score, or statistics that add up over images.

The table `rscap.metrics` names the measure of each metric; `find` imports it. Statistics are all that score sheets,
bootstrap and comparisons need: no texts.

Statistics are kept per image: with them any subset or resample of the images is scored without the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from rscap.errors import ScoreError
from rscap.metrics import TABLE, known
from rscap.scoring.corpus import Corpus, Floats

if TYPE_CHECKING:
    from rscap.scoring.pool import IdfPool


from collections.abc import Collection
from dataclasses import field
from functools import cached_property

import numpy as np

from rscap.metrics import METRICS, in_order
from rscap.scoring.corpus import Ints


class MetricUnavailable(ScoreError):
    """A metric cannot be computed here; the others can. A score sheet leaves it out and says why."""


@dataclass(frozen=True, slots=True)
class Material:
    """n images as the metrics of a protocol see them."""

    corpus: Corpus
    references: Sequence[Sequence[str]]
    """As prepared by the protocol, in the order given; `corpus` has them sorted."""
    pool: IdfPool | None
    """Document frequencies; None under the protocol `sentence`."""
    processes: int = 1
    """The most processes that a slow measure may use."""

    @property
    def candidates(self) -> list[str]:
        """The n captions, as prepared by the protocol."""
        return [self.corpus.texts[place] for place in self.corpus.candidate.tolist()]


@dataclass(frozen=True, slots=True)
class Averaged:
    """A metric whose corpus score is the mean of its item scores."""

    item_scores: Callable[[Material], Floats]
    """float[n]: the score of each image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """Metrics whose corpus scores follow from statistics that are summed over images."""

    key: str
    """The name of its rows under `statistics` in a score sheet."""
    names: tuple[str, ...]
    """The metrics."""
    columns: tuple[str, ...]
    """Names of the K statistics of an image."""
    statistics: Callable[[Material], Floats] | None
    """float[n, K]; None where they come from elsewhere, and no metric of the table is theirs."""
    scores: Callable[[Floats], Mapping[str, Floats]]
    """From sums [..., K] of rows to the score of each metric, [...]."""


Measure = Averaged | Summed


def find(metric: str, protocol: str) -> Measure:
    """The measure that computes a metric of the table under a protocol.

    Raises:
        ScoreError: the protocol does not define the metric.
    """
    line = known(metric)
    address = line and (line.sentence_by if protocol == "sentence" else line.computed_by)
    if not address:
        raise ScoreError(f"protocol {protocol} does not define {metric}")
    return _imported(address)


def summed_measures() -> Iterator[Summed]:
    """Every measure of the table that keeps statistics, once."""
    for address in dict.fromkeys(metric.computed_by for metric in TABLE):
        measure = _imported(address)
        if isinstance(measure, Summed):
            yield measure


@cache
def _imported(address: str) -> Measure:
    module, _, attribute = address.partition(":")
    measure: Measure = getattr(import_module(module), attribute)
    return measure


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
            elif measure.statistics and measure not in sums:
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
