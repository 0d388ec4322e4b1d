"""How good an alignment could be at best: the search is spared where another reference is sure to score higher."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rscap.score.meteor.formula import DELTA, WEIGHTS, blend
from rscap.score.meteor.lexicon import EXACT, SYNONYM
from rscap.score.meteor.matching import Match
from rscap.score.meteor.text import Text, spread

OTHER_WEIGHT = max(WEIGHTS[1], WEIGHTS[3])


def upper_bound(candidate: Text, reference: Text, rows: Sequence[Sequence[Match]]) -> float:
    """A number no smaller than the METEOR of any alignment made of these matches.

    Every word counts as matched by the heaviest matcher that reaches it. With c chunks, and J words that may follow
    another word of their chunk, at most J + c words are matched, so fragmentation is smallest for one chunk.
    """
    matches = list(chain.from_iterable(rows))
    ends = {(match.end, match.candidate_end) for match in matches}
    covered = [0] * 4
    joined = 0
    for start, place, matcher, _, _, mask, _, _ in matches:
        covered[matcher] |= mask
        joined |= mask if (start, place) in ends else mask ^ (1 << 2 * start | 2 << 2 * place)
    exact, stem, synonym, paraphrase = covered
    union = exact | stem | synonym | paraphrase
    parts = (exact, synonym & ~exact, union & ~exact & ~synonym)
    precision, words = _share(parts, union, joined, candidate, 1)
    recall, reference_words = _share(parts, union, joined, reference, 0)
    if not words or not reference_words:
        return 0.0
    whole = words == len(candidate.words) and reference_words == len(reference.words)
    return blend(precision, recall, 0.0 if whole else 2 / (words + reference_words))


def _share(parts: Sequence[int], union: int, joined: int, text: Text, side: int) -> tuple[float, int]:
    """(highest precision or recall, most words that one chunk can hold) of one side."""
    bits = spread(len(text.words)) << side
    words = min((union & bits).bit_count(), (joined & bits).bit_count() + 1)
    if not words:
        return 0.0, 0
    weighted = 0.0
    for part, weight in zip(parts, (WEIGHTS[EXACT], WEIGHTS[SYNONYM], OTHER_WEIGHT), strict=True):
        if own := part & bits:
            content = (own & ~(text.functions << side)).bit_count()
            weighted += weight * (DELTA * content + (1 - DELTA) * (own.bit_count() - content))
    return weighted / text.weight, words
