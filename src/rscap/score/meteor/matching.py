"""All matches between a candidate and a reference, in the order in which METEOR 1.5 lists them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from rscap.score.meteor.lexicon import PARAPHRASE
from rscap.score.meteor.text import Text

SEARCH_SHARES = (1.0, 0.6, 0.8, 0.5)
"""What share of its words a match counts for during the search, by matcher. METEOR rounds the words of either side
down, so that a stem, a synonym or a paraphrase of one word counts nothing (observed)."""


class Match(NamedTuple):
    """A run of candidate words that may stand for a run of reference words; the last six fields follow from the rest."""

    start: int
    candidate_start: int
    matcher: int
    end: int
    candidate_end: int
    mask: int
    candidate_mask: int
    search_words: int
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
        (1 << length) - 1 << start,
        (1 << candidate_length) - 1 << candidate_start,
        int(share * length) + int(share * candidate_length),
        abs(start - candidate_start),
    )


def matches(candidate: Text, reference: Text, related: list[dict[int, tuple[int, ...]]]) -> list[list[Match]]:
    """The matches that begin at each reference word: by matcher, then by place in the candidate; paraphrases last."""
    rows: list[list[Match]] = [[] for _ in reference.words]
    places = candidate.places
    words = places.keys()
    for word, starts in reference.places.items():
        found = related[word]
        common = found.keys() & words
        if common:
            row = _word_row(common, found, places)
            for start in starts:
                rows[start] = [match(start, 1, place, 1, matcher) for matcher, place in row]
    _add_paraphrases(rows, candidate, reference)
    return rows


def _word_row(
    common: set[int], found: dict[int, tuple[int, ...]], places: dict[int, list[int]]
) -> list[tuple[int, int]]:
    """(matcher, place in the candidate) of one reference word, sorted."""
    if len(common) == 1:
        (word,) = common
        return [(matcher, place) for matcher in found[word] for place in places[word]]
    return sorted((matcher, place) for word in common for matcher in found[word] for place in places[word])


def _add_paraphrases(rows: list[list[Match]], candidate: Text, reference: Text) -> None:
    """First paraphrases of reference phrases found in the candidate, then the other way round."""
    nodes = candidate.phrase_places.keys()
    for start, length, ranks in reference.spans:
        if not nodes.isdisjoint(ranks):
            for node in sorted(nodes & ranks.keys(), key=ranks.__getitem__):
                width, places = candidate.phrase_places[node]
                rows[start] += [match(start, length, place, width, PARAPHRASE) for place in places]
    nodes = reference.phrase_places.keys()
    for start, length, ranks in candidate.spans:
        if not nodes.isdisjoint(ranks):
            for node in sorted(nodes & ranks.keys(), key=ranks.__getitem__):
                width, places = reference.phrase_places[node]
                for place in places:
                    rows[place].append(match(place, width, start, length, PARAPHRASE))
