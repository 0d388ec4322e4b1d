"""METEOR 1.5 for English without Java: from texts to alignments, and to the 23 counts of `formula.COLUMNS`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import itemgetter

import numpy as np

from rscap.errors import ScoreError
from rscap.scoring.meteor.formula import COLUMNS, Floats, meteor, segment
from rscap.scoring.meteor.index import Index, MeteorFiles, load
from rscap.scoring.meteor.lexicon import EXACT, Lexicon
from rscap.scoring.meteor.matching import Match, Phrases, match, matches, reach
from rscap.scoring.meteor.normalise import Prefixes, Text, Texts, normaliser, spread
from rscap.scoring.meteor.search import align, upper_bound

ROUNDING = 1e-9
"""Scores and bounds this close may be equal."""


class Meteor:
    """Scores segments as `java -jar meteor-1.5.jar - - -stdio -l en -norm` does (Denkowski and Lavie, WMT 2014).

    What was learned about words and strings is kept: a second call is faster, and the object grows with the texts it
    sees.

    Raises:
        MeteorUnavailable: the package pycocoevalcap, whose tables are read, is not installed or is damaged.
    """

    def __init__(self) -> None:
        index = _tables()
        self._lexicon = Lexicon(index)
        self._phrases = Phrases(index)
        self._texts = Texts(normaliser(Prefixes.parse(index.prefix_lines)), self._lexicon, self._phrases)

    def statistics(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """The counts (`COLUMNS`) of every candidate with its best reference, the first of equals: float64[n, 23].

        Any string will do: line breaks and tabs are space, `|||` is punctuation, an empty string has no words.

        Raises:
            ScoreError: the numbers of candidates and of reference lists differ, or a candidate has no reference.
        """
        _check(candidates, references)
        texts = iter(
            self._texts.read([text for one, own in zip(candidates, references, strict=True) for text in (one, *own)])
        )
        rows = [self._best(next(texts), [next(texts) for _ in own]) for own in references]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(COLUMNS))

    def item_scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """METEOR of every candidate with its best reference: float64[n], 0 to 1.

        Raises:
            ScoreError: as `statistics` does.
        """
        return meteor(self.statistics(candidates, references))

    @staticmethod
    def corpus_score(summed_statistics: Floats) -> float | Floats:
        """METEOR of a corpus from its segments' summed statistics: float[23] to float, float[..., 23] to float[...]."""
        score = meteor(summed_statistics)
        return float(score) if score.ndim == 0 else score

    def _best(self, candidate: Text, references: Sequence[Text]) -> tuple[int, ...]:
        """The 23 counts with the best reference. The most promising reference is aligned first; those that even at best
        would score lower are not aligned at all."""
        if candidate.words and candidate in references:
            return _identical(candidate)
        reached = reach(candidate, self._lexicon)
        boards = [
            (upper_bound(candidate, reference, rows), -number, reference, rows)
            for number, reference in enumerate(dict.fromkeys(references))
            for rows in (matches(candidate, reference, reached, self._phrases),)
        ]
        best: tuple[float, int, tuple[int, ...]] = (-1.0, 0, ())
        for bound, order, reference, rows in sorted(boards, key=itemgetter(0), reverse=True):
            if bound < best[0] - ROUNDING:
                break
            counts = count(candidate, reference, align(rows))
            best = max(best, (segment(counts), order, counts))  # of equals the first reference
        return best[2]


@cache
def _tables() -> Index:
    return load(MeteorFiles.find())


def _identical(text: Text) -> tuple[int, ...]:
    """The counts of a text with itself: METEOR does not search there, and a crowded beam might lose the obvious."""
    return count(text, text, [match(place, 1, place, 1, EXACT) for place in range(len(text.words))])


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


def count(candidate: Text, reference: Text, alignment: Sequence[Match]) -> tuple[int, ...]:
    """Words, matched words by matcher, kind and side, and chunks; `alignment` is in the order of the reference.

    One chunk that covers both texts whole counts as none: the corpus score wants it so.
    """
    matched = [0] * 4  # by matcher, masks as in Match.mask
    chunks = 0
    at = (-1, -1)
    for start, place, matcher, end, candidate_end, mask, _, _ in alignment:
        matched[matcher] |= mask
        chunks += (start, place) != at
        at = (end, candidate_end)
    sizes = (len(candidate.words), len(reference.words))
    candidate_bits, reference_bits = spread(sizes[0]) << 1, spread(sizes[1])
    functions = candidate.functions << 1 | reference.functions
    by_matcher: list[int] = []
    for mask in matched:
        for part in (mask & ~functions, mask & functions):
            by_matcher += ((part & candidate_bits).bit_count(), (part & reference_bits).bit_count())
    words = (sum(by_matcher[::2]), sum(by_matcher[1::2]))
    return (
        *sizes,
        candidate.functions.bit_count(),
        reference.functions.bit_count(),
        *by_matcher,
        0 if chunks == 1 and words == sizes else chunks,
        *words,
    )
