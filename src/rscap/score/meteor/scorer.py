"""METEOR 1.5 for English without Java."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rscap.errors import ScoreError
from rscap.score.meteor.counts import count
from rscap.score.meteor.formula import COLUMNS, Floats, meteor
from rscap.score.meteor.index import Index, load
from rscap.score.meteor.lexicon import Lexicon
from rscap.score.meteor.matching import matches
from rscap.score.meteor.normalise import Prefixes, normaliser
from rscap.score.meteor.phrases import Phrases
from rscap.score.meteor.search import align
from rscap.score.meteor.source import Source
from rscap.score.meteor.text import Reader, Text


class Meteor:
    """Scores segments as `java -jar meteor-1.5.jar - - -stdio -l en -norm` does (Denkowski and Lavie, WMT 2014).

    What was learned about words and strings is kept, so a second call is faster and the object grows with the texts it sees.

    Raises:
        MeteorUnavailable: the package pycocoevalcap, whose tables are read, is not installed or is damaged.
    """

    def __init__(self) -> None:
        index = _tables()
        self._lexicon = Lexicon(index)
        self._reader = Reader(normaliser(Prefixes.parse(index.prefix_lines)), self._lexicon, Phrases(index))

    def statistics(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """The counts (`COLUMNS`) of every candidate with its best reference, the first of equals: float64[n, 23].

        Any string will do: line breaks and tabs are space, `|||` is punctuation, an empty string has no words.

        Raises:
            ScoreError: the numbers of candidates and of reference lists differ, or a candidate has no reference.
        """
        _check(candidates, references)
        pairs: dict[tuple[Text, Text], int] = {}
        read = self._reader.read
        numbers = [
            pairs.setdefault((text, read(reference)), len(pairs))
            for candidate, own in zip(candidates, references, strict=True)
            for text in (read(candidate),)
            for reference in own
        ]
        counts = np.array([self._counts(*pair) for pair in pairs], dtype=np.float64).reshape(-1, len(COLUMNS))
        return counts[_best(meteor(counts), np.array(numbers, dtype=np.intp), [len(own) for own in references])]

    def item_scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """METEOR of every candidate with its best reference: float64[n], 0 to 1.

        Raises:
            ScoreError: as `statistics` does.
        """
        return meteor(self.statistics(candidates, references))

    @staticmethod
    def corpus_score(summed_statistics: Floats) -> float | Floats:
        """METEOR of a corpus from the sum over segments of their statistics, float[23]; float[..., 23] gives float[...]."""
        score = meteor(summed_statistics)
        return float(score) if score.ndim == 0 else score

    def _counts(self, candidate: Text, reference: Text) -> tuple[int, ...]:
        """The 23 counts of one candidate with one reference."""
        return count(candidate, reference, align(matches(candidate, reference, self._lexicon.related)))


@cache
def _tables() -> Index:
    return load(Source.find())


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(candidates) != len(references):
        raise ScoreError(f"{len(candidates)} candidates, but references for {len(references)}")
    for number, own in enumerate(references):
        if isinstance(own, str):
            raise ScoreError(
                f"the references of candidate {number} are one string, {own[:60]!r}", hint="pass a list of strings"
            )
        if not own:
            raise ScoreError(f"candidate {number} ({candidates[number][:60]!r}) has no reference")


def _best(scores: Floats, numbers: NDArray[np.intp], lengths: Sequence[int]) -> NDArray[np.intp]:
    """For every segment, whose pairs follow one another in `numbers`, the first pair with the highest score."""
    if not lengths:
        return np.empty(0, dtype=np.intp)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    flat = scores[numbers]
    highest = np.repeat(np.maximum.reduceat(flat, starts), lengths)
    at_top = np.flatnonzero(flat == highest)
    return numbers[at_top[np.searchsorted(at_top, starts)]]
