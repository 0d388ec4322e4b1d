"""From an alignment to the 23 counts that METEOR is computed from (`formula.COLUMNS`)."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.score.meteor.matching import Match
from rscap.score.meteor.text import Text


def count(candidate: Text, reference: Text, alignment: Sequence[Match]) -> tuple[int, ...]:
    """Words, matched words by matcher, kind and side, and chunks; `alignment` is in the order of the reference.

    One chunk that covers both texts whole counts as none: the corpus score wants it so.
    """
    masks = [0, 0] * 4  # candidate and reference words of each matcher
    chunks = 0
    at = (-1, -1)
    for start, place, matcher, end, candidate_end, mask, candidate_mask, _, _ in alignment:
        masks[2 * matcher] |= candidate_mask
        masks[2 * matcher + 1] |= mask
        chunks += (start, place) != at
        at = (end, candidate_end)
    functions = (candidate.function_mask, reference.function_mask) * 4
    function = [(mask & words).bit_count() for mask, words in zip(masks, functions, strict=True)]
    content = [mask.bit_count() - words for mask, words in zip(masks, function, strict=True)]
    by_matcher = (content[k : k + 2] + function[k : k + 2] for k in range(0, 8, 2))
    sizes = (len(candidate.words), len(reference.words))
    matched = (sum(content[::2]) + sum(function[::2]), sum(content[1::2]) + sum(function[1::2]))
    return (
        *sizes,
        candidate.function_mask.bit_count(),
        reference.function_mask.bit_count(),
        *(number for four in by_matcher for number in four),
        0 if chunks == 1 and matched == sizes else chunks,
        *matched,
    )
