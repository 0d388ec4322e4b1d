"""A source: the examples that can be used, the rows that cannot, and a digest that pins both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rscap.annotations import UNSPLIT
from rscap.data.contents import Content
from rscap.data.draw import key
from rscap.errors import DataError
from rscap.records import Example, Note, Rejected


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened data set.

    `digest` is the SHA-256 over every example's id, split, source, captions and cheap image identity (file name and
    size in bytes), in order; it changes when a caption, a split or a file's size does, and does not read pixels.
    """

    name: str
    examples: Sequence[Example]
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[Note, ...] = ()
    digest: str
    split_scheme: str = "official"
    normalised: tuple[str, ...] = ()
    """The steps of text normalisation that the captions went through, in order."""
    contents: Mapping[str, Content] = field(default_factory=dict, repr=False)
    """What each image shows, by id, where images were decoded when the source was opened; it is no part of `digest`."""
    apart: str = ""
    """How the names of images that are not found differ from those of the files that there are; or empty."""

    @property
    def splits(self) -> dict[str, int]:
        """The number of examples of each split, in order of first appearance."""
        return dict(Counter(example.split for example in self.examples))

    def split(self, name: str, *, source: str | None = None) -> list[Example]:
        """The examples of one split, in the source's order; with `source`, only those of that origin (`RSICD` …).

        Raises:
            DataError: no such split, or nothing of that origin in it; lists what exists.
        """
        found = [example for example in self.examples if example.split == name]
        if not found:
            there = ", ".join(f"{split} ({n})" for split, n in self.splits.items()) or "none"
            hint = "choose a split scheme such as grouped" if set(self.splits) == {UNSPLIT} else None
            raise DataError(f"{self.name} has no split {name!r}; there is: {there}", hint=hint)
        if source is None:
            return found
        chosen = [example for example in found if example.source == source]
        if not chosen:
            there = ", ".join(f"{origin} ({n})" for origin, n in Counter(example.source for example in found).items())
            raise DataError(f"{self.name} has no {source!r} in split {name!r}; there is: {there}")
        return chosen

    def subset(self, split: str, n: int, seed: int, *, source: str | None = None) -> list[Example]:
        """`n` examples of a split, in the source's order, chosen by a hash of (seed, id).

        The choice does not depend on the order of the rows, and a larger subset contains a smaller one.

        Raises:
            DataError: the split does not exist or has fewer than `n`.
        """
        pool = self.split(split, source=source)
        if not 0 < n <= len(pool):
            raise DataError(f"{self.name}: cannot choose {n} examples of split {split!r}, which has {len(pool)}")
        chosen = set(sorted((example.id for example in pool), key=lambda name: (key("subset", seed, name), name))[:n])
        return [example for example in pool if example.id in chosen]

    def for_training(self) -> Source:
        """This source without its test split: what code that trains is given."""
        return self.with_examples([example for example in self.examples if example.split != "test"])

    def with_examples(self, examples: Sequence[Example]) -> Source:
        """This source with other examples and their digest."""
        return replace(self, examples=examples, digest=digest(examples))


def digest(examples: Iterable[Example]) -> str:
    """SHA-256 over ids, splits, sources, captions and cheap image identity; see `Source`."""
    total = hashlib.sha256()
    for example in examples:
        parts = [
            example.id,
            example.split,
            example.source,
            *example.captions,
            example.image.identity,
        ]
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            total.update(len(data).to_bytes(8, "big") + data)
        total.update(b"\n")
    return total.hexdigest()


def check_rejected(rejected: Sequence[Rejected], *, of: int, allowed: float, way_out: str) -> None:
    """Refuse a data set of which too much cannot be used.

    Raises:
        DataError: more than the share `allowed` is unusable; names the first three. `way_out` is the hint.
    """
    if len(rejected) > allowed * of:
        first = "; ".join(f"{item.row}: {item.reason}" for item in rejected[:3])
        raise DataError(f"{len(rejected)} of {of} examples cannot be used: {first}", hint=way_out)
