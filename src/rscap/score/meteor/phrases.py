"""Phrases of a text that the paraphrase table knows, and their paraphrases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rscap.score.meteor.index import ROOT, Index
from rscap.score.meteor.text import Text, bits


class Phrases:
    """The trie of phrases, with what was looked up kept in memory."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._base = len(index.phrase_words)
        self._lengths: dict[int, int] = {}
        self._children: dict[int, int] = {}
        self._paraphrases: dict[int, dict[int, int]] = {}

    def spans(self, words: Sequence[int]) -> list[tuple[int, int, int]]:
        """(start, length, node) of every run of words that begins a known phrase; `words` are places in `phrase_words`
        or -1."""
        found = []
        children, lengths, base, count = self._children, self._lengths, self._base, len(words)
        for start in range(count):
            node = ROOT
            for end in range(start, count):
                word = words[end]
                if word < 0:
                    break
                key = node * base + word
                node = children.get(key, 0) or self._child(key)
                if node < 0:
                    break
                found.append((start, end + 1 - start, node))
                lengths[node] = end + 1 - start
        return found

    def _child(self, key: int) -> int:
        """The node that an edge leads to, -1 where there is no such edge."""
        keys = self._index.phrase_keys
        at = int(np.searchsorted(keys, key))
        child = self._children[key] = at + 1 if at < len(keys) and keys[at] == key else -1
        return child

    def pairs(self, text: Text, other: Text) -> Iterator[tuple[int, int, int, int]]:
        """(place, length) of phrases of `text`, in order, each with (place, length) of its paraphrases in `other`, which
        come in the order of the table."""
        there = other.phrase_places
        nodes = there.keys()
        for place, length, node in text.spans:
            ranks = self._paraphrases[node]
            if not nodes.isdisjoint(ranks):
                for paraphrase in sorted(nodes & ranks.keys(), key=ranks.__getitem__):
                    width = self._lengths[paraphrase]
                    for start in bits(there[paraphrase]):
                        yield place, length, start, width

    def paraphrases(self, node: int) -> dict[int, int]:
        """The paraphrases of a phrase, each with its rank in the table; empty where a node is only the begin of phrases."""
        ranks = self._paraphrases.get(node)
        if ranks is None:
            first, last = self._index.paraphrase_bounds[node : node + 2].tolist()
            targets = self._index.paraphrase_targets[first:last].tolist()
            ranks = self._paraphrases[node] = {target: rank for rank, target in enumerate(targets)}
        return ranks
