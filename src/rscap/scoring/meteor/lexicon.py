"""Words as numbers, and which words METEOR lets match: the same, of one stem, or of one WordNet synset."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from rscap.scoring.meteor.index import Index, Ints, Words
from rscap.scoring.meteor.stemmer import stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
"""The matchers, in the order in which METEOR runs them."""

DETACHMENT = (
    *(
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    *(("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    *(("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
)
"""WordNet's endings of inflected forms (morphy): nouns, verbs, adjectives."""


class Lexicon:
    """Gives every distinct word a number, and keeps for it all other words seen so far that it may match.

    `related[w]` maps a word to the matchers that join it with w; the memory grows with the distinct words seen.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._function_words = index.function_words
        self.ids: dict[str, int] = {}
        self.related: list[dict[int, tuple[int, ...]]] = []
        self.is_function: list[bool] = []
        self.phrase_word: list[int] = []
        self._stems: defaultdict[str, list[int]] = defaultdict(list)
        self._synsets: defaultdict[int, list[int]] = defaultdict(list)

    def number(self, word: str) -> int:
        """The number of a word."""
        known = self.ids.get(word)
        return self._add(word) if known is None else known

    def _add(self, word: str) -> int:
        number = self.ids[word] = len(self.related)
        self.is_function.append(word in self._function_words)
        self.phrase_word.append(place(self._index.phrase_words, word))
        matchers: dict[int, tuple[int, ...]] = {number: (EXACT,)}
        root = stem(word)
        for other in self._stems[root]:
            matchers[other] = (STEM,)
        self._stems[root].append(number)
        for synset in self.synsets(word):
            sharing = self._synsets[synset]
            for other in sharing:
                found = matchers.get(other, ())
                if SYNONYM not in found:
                    matchers[other] = (*found, SYNONYM)
            sharing.append(number)
        self.related.append(matchers)
        for other, found in matchers.items():
            self.related[other][number] = found
        return number

    def synsets(self, word: str) -> set[int]:
        """The synsets of a word and of its base forms: the irregular ones, or else the first regular one in WordNet."""
        index = self._index
        own = place(index.synset_words, word)
        synsets = set(_row(index.synset_bounds, index.synset_ids, own)) if own >= 0 else set()
        irregular = place(index.exception_words, word)
        if irregular >= 0:
            for base in _row(index.exception_bounds, index.exception_bases, irregular):
                synsets.update(_row(index.synset_bounds, index.synset_ids, base))
        elif len(word) > 2 and (base := self._regular_base(word)) >= 0:
            synsets.update(_row(index.synset_bounds, index.synset_ids, base))
        return synsets

    def _regular_base(self, word: str) -> int:
        """The place of the first base form that WordNet knows, -1 where there is none."""
        for ending, replacement in DETACHMENT:
            if word.endswith(ending) and not (ending == "s" and word.endswith("ss")):
                base = place(self._index.synset_words, word.removesuffix(ending) + replacement)
                if base >= 0:
                    return base
        return -1


def place(words: Words, word: str) -> int:
    """Where a sorted table holds a word, -1 where it does not."""
    encoded = word.encode("utf-8", "surrogatepass")
    if len(encoded) > words.itemsize:  # numpy would compare the shortened word
        return -1
    at = int(np.searchsorted(words, encoded))
    return at if at < len(words) and words[at] == encoded else -1


def _row(bounds: Ints, values: Ints, row: int) -> list[int]:
    found: list[int] = values[bounds[row] : bounds[row + 1]].tolist()
    return found
