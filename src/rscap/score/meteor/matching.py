"""All matches between a candidate and a reference, in the order in which METEOR 1.5 lists them."""

from __future__ import annotations

from typing import NamedTuple

from rscap.score.meteor.lexicon import PARAPHRASE
from rscap.score.meteor.text import Text

SEARCH_WORDS = tuple(tuple(int(share * length) for length in range(64)) for share in (1.0, 0.6, 0.8, 0.5))
"""Words a match counts for during the search, by matcher and length: METEOR rounds them down, so that a stem, a synonym
or a paraphrase of one word counts nothing, and a paraphrase half its words (observed)."""


class Match(NamedTuple):
    """A run of candidate words that may stand for a run of reference words."""

    start: int
    length: int
    candidate_start: int
    candidate_length: int
    matcher: int

    @property
    def mask(self) -> int:
        return (1 << self.length) - 1 << self.start

    @property
    def candidate_mask(self) -> int:
        return (1 << self.candidate_length) - 1 << self.candidate_start

    @property
    def search_words(self) -> int:
        counts = SEARCH_WORDS[self.matcher]
        return counts[self.length] + counts[self.candidate_length]


def matches(candidate: Text, reference: Text, related: list[dict[int, tuple[int, ...]]]) -> list[list[Match]]:
    """The matches that begin at each reference word: by matcher, then by place in the candidate; paraphrases last."""
    rows: list[list[Match]] = [[] for _ in reference.words]
    places = candidate.places
    for word, starts in reference.places.items():
        found = related[word]
        common = found.keys() & places.keys()
        if common:
            row = _word_row(common, found, places)
            for start in starts:
                rows[start] = [Match(start, 1, place, 1, matcher) for matcher, place in row]
    if candidate.spans or reference.spans:
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
    for start, length, paraphrases in reference.spans:
        common = paraphrases.keys() & nodes
        for node in common if len(common) < 2 else sorted(common, key=paraphrases.__getitem__):
            width = candidate.phrase_lengths[node]
            rows[start] += [Match(start, length, place, width, PARAPHRASE) for place in candidate.phrase_places[node]]
    nodes = reference.phrase_places.keys()
    for start, length, paraphrases in candidate.spans:
        common = paraphrases.keys() & nodes
        for node in common if len(common) < 2 else sorted(common, key=paraphrases.__getitem__):
            width = reference.phrase_lengths[node]
            for place in reference.phrase_places[node]:
                rows[place].append(Match(place, width, start, length, PARAPHRASE))
