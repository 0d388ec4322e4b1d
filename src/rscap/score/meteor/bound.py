"""How good an alignment could be at best: the search is spared where another reference is sure to score higher."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rscap.score.meteor.formula import DELTA, WEIGHTS, blend
from rscap.score.meteor.lexicon import EXACT, SYNONYM
from rscap.score.meteor.matching import Match
from rscap.score.meteor.text import Text


def upper_bound(candidate: Text, reference: Text, rows: Sequence[Sequence[Match]]) -> float:
    """A number no smaller than the METEOR of any alignment made of these matches.

    Every word counts as matched by the heaviest matcher that reaches it. With c >= 1 chunks, and J words that may follow
    another word of their chunk, at most J + c words are matched, so fragmentation is smallest for one chunk.
    """
    matches = list(chain.from_iterable(rows))
    ends = {(match.end, match.candidate_end) for match in matches}
    covered = [0] * 4
    candidate_covered = [0] * 4
    joined = candidate_joined = 0
    for start, place, matcher, _, _, mask, candidate_mask, _, _ in matches:
        covered[matcher] |= mask
        candidate_covered[matcher] |= candidate_mask
        follows = (start, place) in ends
        joined |= mask if follows else mask & (mask - 1)
        candidate_joined |= candidate_mask if follows else candidate_mask & (candidate_mask - 1)
    precision, words = _share(candidate_covered, candidate_joined, candidate)
    recall, reference_words = _share(covered, joined, reference)
    if not words or not reference_words:
        return 0.0
    whole = words == len(candidate.words) and reference_words == len(reference.words)
    return blend(precision, recall, 0.0 if whole else 2 / (words + reference_words))


def _share(covered: Sequence[int], joined: int, text: Text) -> tuple[float, int]:
    """(highest precision or recall, most words that one chunk can hold) of one side."""
    exact = covered[EXACT]
    synonym = covered[SYNONYM] & ~exact
    union = covered[0] | covered[1] | covered[2] | covered[3]
    rest = union & ~exact & ~synonym
    functions = text.function_mask
    weighted = (
        WEIGHTS[EXACT] * _weight(exact, functions)
        + WEIGHTS[SYNONYM] * _weight(synonym, functions)
        + max(WEIGHTS[1], WEIGHTS[3]) * _weight(rest, functions)
    )
    return weighted / text.weight if weighted else 0.0, min(union.bit_count(), joined.bit_count() + 1)


def _weight(words: int, functions: int) -> float:
    """What words weigh: DELTA for a content word, 1 - DELTA for a function word."""
    return DELTA * words.bit_count() + (1 - 2 * DELTA) * (words & functions).bit_count()
