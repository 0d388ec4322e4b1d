"""From an alignment to the 23 counts that METEOR is computed from (`formula.COLUMNS`)."""

from __future__ import annotations

from collections.abc import Sequence

from rscap.scoring.meteor.matching import Match
from rscap.scoring.meteor.texts import Text, spread


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
