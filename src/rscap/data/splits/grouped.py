"""The grouped split: what is nearly the same image, or has the very same captions, is on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rscap.data.audit.duplicates import find_duplicates
from rscap.data.draw import uniform
from rscap.data.groups import connected
from rscap.data.source import Note
from rscap.records import Example

_SHARES = (("train", 0.8), ("val", 0.9), ("test", 1.0))


def assign_grouped(examples: Sequence[Example]) -> tuple[list[Example], list[Note]]:
    """Split by groups of duplicates; each group goes to train (80 %), val or test (10 % each) by a hash of its ids.

    Two examples are in one group when their images are duplicates (exact, near, flipped or turned: see
    `find_duplicates`), when their caption lists are equal, or when a chain of such pairs joins them.
    """
    pairs = [(pair.first, pair.second) for pair in find_duplicates(examples).pairs]
    groups = connected(len(examples), [*pairs, *_same_captions(examples)])
    names = [""] * len(examples)
    for members in groups:
        smallest = min(examples[index].id for index in members)
        drawn = uniform("grouped", smallest)
        for index in members:
            names[index] = next(split for split, edge in _SHARES if drawn < edge)
    largest = max(map(len, groups))
    text = f"{len(groups)} groups of {len(examples)} images, the largest of {largest}; no group crosses a split"
    return [replace(example, split=name) for example, name in zip(examples, names, strict=True)], [
        Note("all rows", text)
    ]


def _same_captions(examples: Sequence[Example]) -> list[tuple[int, int]]:
    first: dict[tuple[str, ...], int] = {}
    return [(first.setdefault(tuple(sorted(example.captions)), index), index) for index, example in enumerate(examples)]
