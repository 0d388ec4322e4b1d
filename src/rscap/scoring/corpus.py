"""Texts as integers: every n-gram of one to four words has a number, every text is a bag of numbered counts.

A `Corpus` holds the captions to be scored: n candidates, each with its references, over one table of distinct texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class NgramOverlap:
    """n-grams that a candidate shares with one of its references: one entry per (pair, n-gram), E in all."""

    pair: Ints
    """int[E]: which reference of the corpus (a place in `Corpus.reference`)."""
    entry: Ints
    """int[E]: which entry of the candidates' bags."""
    gram: Ints
    candidate_count: Ints
    reference_count: Ints


@dataclass(frozen=True)
class Corpus:
    """n images: candidate and references as numbers of distinct texts, n-grams counted once per distinct text."""

    texts: tuple[str, ...]
    table: NgramTable
    bags: Bags
    candidate: Ints
    """int[n]: the text of each image's candidate."""
    reference: Ints
    """int[P]: the texts of all references, image by image."""
    image: Ints
    """int[P]: the image of each reference, ascending."""

    @classmethod
    def build(cls, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Corpus:
        """Count the n-grams of white-space separated texts. Every image has at least one reference."""
        place = {text: i for i, text in enumerate(dict.fromkeys(chain(chain.from_iterable(references), candidates)))}
        reference = np.fromiter((place[t] for own in references for t in own), dtype=np.int64)
        split = [text.split() for text in place]
        in_references = reference.max(initial=-1) + 1  # references were numbered first
        known = sorted(set(chain.from_iterable(split[:in_references])))
        other = sorted(set(chain.from_iterable(split[in_references:])).difference(known))
        table, bags = count_ngrams(split, [*known, *other])
        return cls(
            texts=tuple(place),
            table=table,
            bags=bags,
            candidate=np.fromiter((place[t] for t in candidates), dtype=np.int64, count=len(candidates)),
            reference=reference,
            image=np.repeat(np.arange(len(references)), [len(own) for own in references]),
        )

    def __len__(self) -> int:
        return len(self.candidate)

    def with_candidates(self, candidate: Ints) -> Corpus:
        """The same images and references with other candidates, given as numbers of texts."""
        return replace(self, candidate=candidate)

    @cached_property
    def first_reference(self) -> Ints:
        """int[n]: where each image's references start."""
        return np.searchsorted(self.image, np.arange(len(self)))

    @cached_property
    def candidate_entries(self) -> tuple[Ints, Ints]:
        """Entries of the candidates' bags: (places in the bags, image), ascending by (image, n-gram)."""
        return self.bags.rows(self.candidate)

    @cached_property
    def document_frequency(self) -> Ints:
        """int[G]: in how many images' references each n-gram occurs."""
        distinct = np.unique(self.image * len(self.texts) + self.reference)
        image, text = np.divmod(distinct, len(self.texts))
        places, owner = self.bags.rows(text)
        occurrences = np.sort(image[owner] * self.table.size + self.bags.grams[places])
        fresh = np.append(True, occurrences[1:] != occurrences[:-1])
        return np.bincount(occurrences[fresh[: len(occurrences)]] % max(1, self.table.size), minlength=self.table.size)

    @cached_property
    def overlap(self) -> NgramOverlap:
        """Every n-gram that a candidate shares with a reference of its image, with both counts."""
        places, image = self.candidate_entries
        grams, counts = self.bags.grams, self.bags.counts
        wanted = image * self.table.size + grams[places]
        in_candidates = np.zeros(self.table.size, dtype=bool)
        in_candidates[grams[places]] = True
        theirs, pair = self.bags.rows(self.reference)
        shared = in_candidates[grams[theirs]]  # drops most entries before the search
        theirs, pair = theirs[shared], pair[shared]
        key = self.image[pair] * self.table.size + grams[theirs]
        entry = np.minimum(np.searchsorted(wanted, key), max(0, len(wanted) - 1))
        hit = wanted[entry] == key
        theirs, pair, entry = theirs[hit], pair[hit], entry[hit]
        return NgramOverlap(
            pair=pair,
            entry=entry,
            gram=grams[theirs],
            candidate_count=counts[places[entry]],
            reference_count=counts[theirs],
        )

    def lengths(self, texts: Ints) -> Floats:
        """float[len(texts)]: words of the given texts."""
        return self.bags.lengths[texts].astype(np.float64)
