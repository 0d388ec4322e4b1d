"""Phrases of a text that the paraphrase table knows, and their paraphrases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rscap.scoring.meteor.index import ROOT, Index
from rscap.scoring.meteor.normalise import Text, bits


class Phrases:
    """The trie of phrases, with what was looked up kept in memory."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._base = len(index.phrase_words)
        self._children: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._ranks: dict[int, dict[int, int]] = {}

    def find(self, words: Sequence[int]) -> tuple[dict[int, int], list[tuple[int, int, int]]]:
        """(where each node of the trie stands in a text, as a mask; start, length, node of phrases with paraphrases).

        `words` are places in `Index.phrase_words`, or -1.
        """
        places: dict[int, int] = {}
        spans = []
        children, base, ranks = self._children, self._base, self._ranks
        for start in range(len(words)):
            node = ROOT
            for length, word in enumerate(words[start:], start=1):
                if word < 0:
                    break
                key = node * base + word
                node = children.get(key, 0) or self._child(key, length)
                if node < 0:
                    break
                places[node] = places.get(node, 0) | 1 << start
                if ranks[node]:
                    spans.append((start, length, node))
        return places, spans

    def _child(self, key: int, length: int) -> int:
        """The node that an edge leads to, -1 where there is no such edge; its paraphrases are looked up with it."""
        index = self._index
        at = int(np.searchsorted(index.phrase_keys, key))
        if at == len(index.phrase_keys) or index.phrase_keys[at] != key:
            self._children[key] = -1
            return -1
        node = self._children[key] = at + 1
        self._lengths[node] = length
        first, last = index.paraphrase_bounds[node : node + 2].tolist()
        targets = index.paraphrase_targets[first:last].tolist()
        self._ranks[node] = {target: rank for rank, target in enumerate(targets)}
        return node

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
