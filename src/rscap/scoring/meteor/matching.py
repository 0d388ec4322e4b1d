"""All matches between a candidate and a reference, in the order in which METEOR 1.5 lists them.

Among them are paraphrases: the phrases of a text that the paraphrase table knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rscap.scoring.meteor.index import LONGEST_PHRASE, ROOT, Index, Ints
from rscap.scoring.meteor.lexicon import PARAPHRASE, Lexicon
from rscap.scoring.meteor.normalise import Span, Text, bits, spread

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


Spans = dict[int, list[tuple[int, int]]]
"""For every word that some word of a candidate may match: (matcher, place in the candidate), sorted."""


def reach(candidate: Text, lexicon: Lexicon) -> Spans:
    """What the words of a candidate may match; the same for all its references."""
    reached: Spans = {}
    for word, places in candidate.places.items():
        for other, matchers in lexicon.related[word].items():
            found = [(matcher, place) for matcher in matchers for place in bits(places)]
            reached[other] = sorted(reached[other] + found) if other in reached else found
    return reached


def matches(candidate: Text, reference: Text, reached: Spans, phrases: Phrases) -> list[list[Match]]:
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


class Phrases:
    """The trie of phrases; what was looked up of a node stays in memory."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lengths: dict[int, int] = {}
        self._ranks: dict[int, dict[int, int]] = {}

    def find(self, texts: Sequence[Sequence[int]]) -> list[tuple[dict[int, int], list[Span]]]:
        """For each text (the positions of each node of the trie, as a mask; the phrases that have paraphrases).

        The words of a text are places in `Index.phrase_words`, or -1. All starts of all texts go down the trie
        together, one word at a time: seven searches in all.
        """
        sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        first = np.cumsum(sizes + 1) - sizes - 1  # a -1 behind each text ends its phrases
        words = np.full(int(sizes.sum()) + len(texts), -1, dtype=np.int64)
        for at, text in zip(first.tolist(), texts, strict=True):
            words[at : at + len(text)] = text
        begins: Ints = np.arange(len(words))
        nodes: Ints = np.full(len(words), ROOT, dtype=np.int64)
        found: list[Ints] = []
        for length in range(1, LONGEST_PHRASE + 1):
            at = begins + length - 1
            known = at < len(words)
            begins, nodes, at = begins[known], nodes[known], at[known]
            nodes = self._children(nodes, words[at])
            begins, nodes = begins[nodes >= 0], nodes[nodes >= 0]
            found.append(np.stack([begins, np.full_like(begins, length), nodes]))
            self._look_up(np.unique(nodes), length)
        return self._by_text(np.concatenate(found, axis=1), first, len(texts))

    def _children(self, nodes: Ints, words: Ints) -> Ints:
        """int[m]: the node that each node reaches with a word; -1 if the trie has no such edge."""
        keys = self._index.phrase_keys
        wanted, inverse = np.unique(nodes * len(self._index.phrase_words) + words, return_inverse=True)
        at = np.asarray(np.searchsorted(keys, wanted))
        inside = np.minimum(at, len(keys) - 1)
        there = keys[inside] == wanted
        return np.where((words >= 0) & there[inverse], at[inverse] + 1, -1)

    def _look_up(self, nodes: Ints, length: int) -> None:
        """Remember the length of each node and the ranks of its paraphrases."""
        bounds, targets = self._index.paraphrase_bounds, self._index.paraphrase_targets
        for node, first, last in zip(nodes.tolist(), bounds[nodes].tolist(), bounds[nodes + 1].tolist(), strict=True):
            if node not in self._ranks:
                self._lengths[node] = length
                self._ranks[node] = (
                    {target: rank for rank, target in enumerate(targets[first:last].tolist())} if first < last else {}
                )

    def _by_text(self, found: Ints, first: Ints, count: int) -> list[tuple[dict[int, int], list[Span]]]:
        """The phrases found, as (place among all words, length, node), sorted into their texts."""
        order = np.lexsort((found[1], found[0]))
        begins, lengths, nodes = found[:, order]
        owner = np.searchsorted(first, begins, side="right") - 1
        result: list[tuple[dict[int, int], list[Span]]] = [({}, []) for _ in range(count)]
        ranks = self._ranks
        columns = (owner, begins - first[owner], lengths, nodes)
        for text, start, length, node in zip(*(column.tolist() for column in columns), strict=True):
            places, spans = result[text]
            places[node] = places.get(node, 0) | 1 << start
            if ranks[node]:
                spans.append((start, length, node))
        return result

    def pairs(self, text: Text, other: Text) -> Iterator[tuple[int, int, int, int]]:
        """(start, length) of the phrases of `text`, each with (start, length) of its paraphrases in `other`.

        Phrases come by start, then length, paraphrases in the order of the table.
        """
        there = other.phrase_places
        nodes = there.keys()
        all_ranks = self._ranks
        for place, length, node in text.spans:
            ranks = all_ranks[node]
            if not nodes.isdisjoint(ranks):
                for paraphrase in sorted(nodes & ranks.keys(), key=ranks.__getitem__):
                    width = self._lengths[paraphrase]
                    for start in bits(there[paraphrase]):
                        yield place, length, start, width
