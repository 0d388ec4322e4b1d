"""Phrases of a text that the paraphrase table knows, and their paraphrases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rscap.score.meteor.index import ROOT, Index


class Phrases:
    """The trie of phrases, with what was looked up kept in memory."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._base = len(index.phrase_words)
        self._children: dict[int, int] = {}
        self._paraphrases: dict[int, dict[int, int]] = {}

    def spans(self, words: Sequence[int]) -> list[tuple[int, int, int]]:
        """(start, length, node) of every phrase that is a path of the trie; `words` are places in `phrase_words` or -1."""
        found = []
        for start in range(len(words)):
            node = ROOT
            for end in range(start, len(words)):
                if words[end] < 0 or (node := self._child(node, words[end])) < 0:
                    break
                found.append((start, end + 1 - start, node))
        return found

    def _child(self, node: int, word: int) -> int:
        key = node * self._base + word
        child = self._children.get(key)
        if child is None:
            keys = self._index.phrase_keys
            at = int(np.searchsorted(keys, key))
            child = self._children[key] = at + 1 if at < len(keys) and keys[at] == key else -1
        return child

    def paraphrases(self, node: int) -> dict[int, int]:
        """The paraphrases of a phrase, each with its rank in the table; empty for a node that is no phrase of its own."""
        ranks = self._paraphrases.get(node)
        if ranks is None:
            bounds = self._index.paraphrase_bounds
            targets = self._index.paraphrase_targets[bounds[node] : bounds[node + 1]].tolist()
            ranks = self._paraphrases[node] = {target: rank for rank, target in enumerate(targets)}
        return ranks
