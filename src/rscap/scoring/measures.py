"""Measures compute metrics: they give every image a score, or statistics that add up over images.

The table `rscap.metrics` names the measure of each metric; `find` imports it. Statistics are all that score sheets,
bootstrap and comparisons need: no texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from rscap.errors import ScoreError
from rscap.metrics import TABLE, known
from rscap.scoring.corpus import Corpus
from rscap.scoring.ngrams import Floats

if TYPE_CHECKING:
    from rscap.scoring.pool import IdfPool


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
    statistics: Callable[[Material], Floats]
    """float[n, K]"""
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
