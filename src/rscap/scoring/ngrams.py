"""Texts as integers: every n-gram of one to four words has a number, every text is a bag of numbered counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ORDERS = 4
"""The longest n-gram that BLEU-4 and CIDEr look at, in words."""


@dataclass(frozen=True)
class NgramTable:
    """All n-grams of orders 1 to 4 of some texts. An n-gram's number is its place: words first, then bigrams …

    `keys[k]` (k = 0, 1, 2 for orders 2, 3, 4) is sorted and holds `parent * len(words) + word`, where `parent` is the
    place of the n-gram without its last word among those of the order below, and `word` the place of that last word.
    """

    words: tuple[str, ...]
    keys: tuple[Ints, ...]

    @cached_property
    def offsets(self) -> Ints:
        """int[5]: the number of the first n-gram of each order, and the total."""
        sizes = [len(self.words), *(len(keys) for keys in self.keys)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def size(self) -> int:
        return int(self.offsets[-1])

    @cached_property
    def order(self) -> Ints:
        """int[size]: order minus one of every n-gram."""
        return np.repeat(np.arange(ORDERS), np.diff(self.offsets))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def translate(self, other: NgramTable) -> Ints:
        """int[size]: for every n-gram of this table its number in `other`, or -1 where `other` does not have it."""
        word = np.fromiter((other._places.get(w, -1) for w in self.words), dtype=np.int64, count=len(self.words))
        numbers = [word]
        parents = word
        for order, (mine, theirs) in enumerate(zip(self.keys, other.keys, strict=True), start=1):
            parent, last = np.divmod(mine, max(1, len(self.words)))
            above, below = parents[parent], word[last]
            key = above * len(other.words) + below
            place = np.searchsorted(theirs, key)
            found = (above >= 0) & (below >= 0) & (place < len(theirs))
            found[found] = theirs[place[found]] == key[found]
            parents = np.where(found, place, -1)
            numbers.append(np.where(found, place + other.offsets[order], -1))
        return np.concatenate(numbers)


@dataclass(frozen=True)
class Bags:
    """n-gram counts of T texts as compressed rows: row t is `grams[starts[t]:starts[t + 1]]`, ascending."""

    starts: Ints
    grams: Ints
    counts: Ints
    lengths: Ints
    """int[T]: words per text."""

    def rows(self, texts: Ints) -> tuple[Ints, Ints]:
        """The entries of the given texts one after another: (places in `grams`, which of `texts` each belongs to)."""
        sizes = self.starts[texts + 1] - self.starts[texts]
        owner = np.repeat(np.arange(len(texts)), sizes)
        shift = self.starts[texts] - (np.cumsum(sizes) - sizes)
        return np.arange(len(owner)) + shift[owner], owner


def count_ngrams(texts: Sequence[Sequence[str]], words: Sequence[str]) -> tuple[NgramTable, Bags]:
    """Number all n-grams of `texts`, whose words are all in `words`, and count them per text."""
    places = {word: place for place, word in enumerate(words)}
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    numbered = map(places.__getitem__, chain.from_iterable(texts))
    flat = np.fromiter(numbered, dtype=np.int64, count=int(lengths.sum()))
    owner = np.repeat(np.arange(len(texts)), lengths)
    left = np.cumsum(lengths)[owner] - np.arange(len(flat))  # words from here to the end of the text
    numbers, owners, keys = [flat], [owner], []
    current, starts, offset = flat, np.arange(len(flat)), len(words)
    for order in range(2, ORDERS + 1):
        fits = left[starts] >= order
        starts = starts[fits]
        key = current[fits] * len(words) + flat[starts + order - 1]
        distinct, current = np.unique(key, return_inverse=True)
        keys.append(distinct)
        numbers.append(current + offset)
        owners.append(owner[starts])
        offset += len(distinct)
    table = NgramTable(words=tuple(words), keys=tuple(keys))
    return table, _bags(np.concatenate(owners), np.concatenate(numbers), lengths, table.size)


def _bags(owner: Ints, number: Ints, lengths: Ints, size: int) -> Bags:
    pairs = np.sort(owner * max(1, size) + number)
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])) if len(pairs) else pairs
    text, gram = np.divmod(pairs[first], max(1, size))
    counts = np.diff(np.append(first, len(pairs)))
    starts = np.searchsorted(text, np.arange(len(lengths) + 1))
    return Bags(starts=starts, grams=gram, counts=counts, lengths=lengths)
