"""From facts to five sentences: number words, agreement, and the choice of templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four", "five", "six")
"""Number words by value; larger counts are `many`."""

Templates = tuple[tuple[str, ...], ...]
"""Sentences grouped by what they speak of; a caption takes one sentence from a group."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Things that a template can name in any number: `{boat.Some} {boat.be} …`."""

    count: int
    singular: str
    colour: str = ""

    @property
    def n(self) -> str:
        return NUMBERS[self.count] if self.count < len(NUMBERS) else "many"

    @property
    def noun(self) -> str:
        return self.singular if self.count == 1 else f"{self.singular}s"

    @property
    def be(self) -> str:
        return "is" if self.count == 1 else "are"

    @property
    def has(self) -> str:
        return "has" if self.count == 1 else "have"

    @property
    def s(self) -> str:
        """Ending of a verb: one boat lie+s, two boats lie."""
        return "s" if self.count == 1 else ""

    @property
    def some(self) -> str:
        return f"{self.n} {self.noun}"

    @property
    def tinted(self) -> str:
        return f"{self.n} {self.colour} {self.noun}"

    @property
    def Some(self) -> str:  # noqa: N802 - the capital letter is what it adds
        return self.some.capitalize()

    @property
    def Tinted(self) -> str:  # noqa: N802
        return self.tinted.capitalize()


def compose(groups: Templates, words: Mapping[str, object], rng: np.random.Generator) -> tuple[str, ...]:
    """Five captions, each from another group of templates, in random order."""
    chosen: Sequence[int] = rng.permutation(len(groups))[:5].tolist()
    sentences = []
    for index in chosen:
        variants = groups[index]
        sentence = variants[int(rng.integers(len(variants)))].format(**words)
        sentences.append(sentence[0].upper() + sentence[1:])
    return tuple(sentences)
