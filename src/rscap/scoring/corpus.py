"""The captions to be scored: n candidates, each with its references, over one table of distinct texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from rscap.scoring.ngrams import Bags, Floats, Ints, NgramTable, count_ngrams


@dataclass(frozen=True)
class Overlap:
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
    def overlap(self) -> Overlap:
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
        return Overlap(
            pair=pair,
            entry=entry,
            gram=grams[theirs],
            candidate_count=counts[places[entry]],
            reference_count=counts[theirs],
        )

    def lengths(self, texts: Ints) -> Floats:
        """float[len(texts)]: words of the given texts."""
        return self.bags.lengths[texts].astype(np.float64)
