"""All matches between a candidate and a reference, in the order in which METEOR 1.5 lists them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from rscap.scoring.meteor.lexicon import PARAPHRASE, Lexicon
from rscap.scoring.meteor.phrases import Phrases
from rscap.scoring.meteor.texts import Text, bits, spread

SEARCH_SHARES = (1.0, 0.6, 0.8, 0.5)
"""What share of its words a match counts for during the search, by matcher. METEOR rounds the words of either side
down, so that a stem, a synonym or a paraphrase of one word counts nothing (observed)."""

WORD_BITS = 48


class Match(NamedTuple):
    """A run of candidate words that may stand for a run of reference words; the last fields follow from the rest."""

    start: int
    candidate_start: int
    matcher: int
    end: int
    candidate_end: int
    mask: int
    """The words it takes: bit 2k for word k of the reference, bit 2k + 1 for word k of the candidate."""
    gain: int
    """Words it counts for in the search, shifted left by WORD_BITS."""
    distance: int


@lru_cache(maxsize=1 << 17)
def match(start: int, length: int, candidate_start: int, candidate_length: int, matcher: int) -> Match:
    """The match of `length` reference words with `candidate_length` candidate words; equal ones are one object."""
    share = SEARCH_SHARES[matcher]
    return Match(
        start,
        candidate_start,
        matcher,
        start + length,
        candidate_start + candidate_length,
        spread(length) << 2 * start | spread(candidate_length) << 2 * candidate_start + 1,
        int(share * length) + int(share * candidate_length) << WORD_BITS,
        abs(start - candidate_start),
    )


Reach = dict[int, list[tuple[int, int]]]
"""For every word that some word of a candidate may match: (matcher, place in the candidate), sorted."""


def reach(candidate: Text, lexicon: Lexicon) -> Reach:
    """What the words of a candidate may match; the same for all its references."""
    reached: Reach = {}
    for word, places in candidate.places.items():
        for other, matchers in lexicon.related[word].items():
            found = [(matcher, place) for matcher in matchers for place in bits(places)]
            reached[other] = sorted(reached[other] + found) if other in reached else found
    return reached


def matches(candidate: Text, reference: Text, reached: Reach, phrases: Phrases) -> list[list[Match]]:
    """The matches that begin at each reference word: by matcher, then by place in the candidate; paraphrases last.

    First come paraphrases of reference phrases found in the candidate, then the other way round.
    """
    rows = [
        [match(start, 1, place, 1, matcher) for matcher, place in reached[word]] if word in reached else []
        for start, word in enumerate(reference.words)
    ]
    for start, length, place, width in phrases.pairs(reference, candidate):
        rows[start].append(match(start, length, place, width, PARAPHRASE))
    for place, width, start, length in phrases.pairs(candidate, reference):
        rows[start].append(match(start, length, place, width, PARAPHRASE))
    return rows
