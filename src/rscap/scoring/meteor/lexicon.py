"""Words as numbers, and which words METEOR lets match: the same, of one stem, or of one WordNet synset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

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


class WordTable:
    """A sorted table of words that remembers the places it has looked up."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._places: dict[str, int] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Search for all these words at once."""
        fresh = [word for word in words if word not in self._places]
        self._places.update(zip(fresh, places(self._words, fresh), strict=True))

    def place(self, word: str) -> int:
        """The place of a word in the table, -1 if it is not there."""
        if word not in self._places:
            self.learn([word])
        return self._places[word]


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
        self._phrase_words = WordTable(index.phrase_words)
        self._synset_words = WordTable(index.synset_words)
        self._exception_words = WordTable(index.exception_words)

    def learn(self, words: Iterable[str]) -> None:
        """Number all these words; the tables are searched once for all of them."""
        fresh = [word for word in words if word not in self.ids]
        self._phrase_words.learn(fresh)
        self._exception_words.learn(fresh)
        self._synset_words.learn(dict.fromkeys([*fresh, *(base for word in fresh for base in _regular_bases(word))]))
        for word in fresh:
            self.number(word)

    def number(self, word: str) -> int:
        """The number of a word."""
        known = self.ids.get(word)
        return self._add(word) if known is None else known

    def _add(self, word: str) -> int:
        number = self.ids[word] = len(self.related)
        self.is_function.append(word in self._function_words)
        self.phrase_word.append(self._phrase_words.place(word))
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
        own = self._synset_words.place(word)
        synsets = set(_row(index.synset_bounds, index.synset_ids, own)) if own >= 0 else set()
        irregular = self._exception_words.place(word)
        if irregular >= 0:
            for base in _row(index.exception_bounds, index.exception_bases, irregular):
                synsets.update(_row(index.synset_bounds, index.synset_ids, base))
        else:
            regular = next((at for base in _regular_bases(word) if (at := self._synset_words.place(base)) >= 0), -1)
            if regular >= 0:
                synsets.update(_row(index.synset_bounds, index.synset_ids, regular))
        return synsets


def _regular_bases(word: str) -> list[str]:
    """The forms that a word may be inflected from, in the order in which WordNet tries them."""
    if len(word) <= 2:
        return []
    return [
        word.removesuffix(ending) + replacement
        for ending, replacement in DETACHMENT
        if word.endswith(ending) and not (ending == "s" and word.endswith("ss"))
    ]


def places(table: Words, words: Sequence[str]) -> list[int]:
    """The place of each word in a sorted table, -1 if it is not there."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    # NumPy would shorten a longer word and drop NUL characters at the end; no table holds either.
    wanted = np.array([b"" if len(one) > table.itemsize or b"\0" in one else one for one in encoded], dtype=table.dtype)
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return np.where((table[at] == wanted) & (wanted != b""), at, -1).tolist()


def _row(bounds: Ints, values: Ints, row: int) -> list[int]:
    found: list[int] = values[bounds[row] : bounds[row + 1]].tolist()
    return found
