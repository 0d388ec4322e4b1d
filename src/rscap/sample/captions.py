"""From facts to five sentences: phrases that know their number, and frames that all scene classes share.

The frames are few and common to the classes, so that a sentence says something only through the phrases that fill it:
whoever names the class and gets count, colour or surroundings wrong shares little with the references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four", "five", "six")
"""Number words by value."""

Frames = tuple[str, ...]
"""Ways to say one relation of `{a}` to `{b}`.

`{be}`, `{s}` and `{es}` agree with a, `{there}` (there is, there are) with its first thing; `{b_be}` and `{b_have}`
with b.
"""

NEAR: Frames = ("{a} {be} next to {b} .", "{a} {be} near {b} .", "{there} {a} beside {b} .")
ON: Frames = ("{a} {be} on {b} .", "{there} {a} on {b} .", "{a} {be} surrounded by {b} .")
WITHIN: Frames = ("{a} {be} surrounded by {b} .", "{there} {a} in the middle of {b} .", "{b} {b_be} around {a} .")
AND: Frames = ("{a} and {b} are in the picture .", "{a} and {b} can be seen .", "{there} {a} and {b} .")
IN: Frames = ("{a} {be} in {b} .", "{there} {a} in {b} .", "{b} {b_have} {a} .")
OVER: Frames = ("{a} {be} over {b} .", "{there} {a} over {b} .", "{a} cross{es} {b} .")
BETWEEN: Frames = ("{a} {be} between {b} .", "{there} {a} between {b} .", "{b} {b_be} on both sides of {a} .")


SYNONYMS: dict[str, tuple[str, ...]] = {
    r"\bplane(s?)\b": (r"plane\1", r"airplane\1"),
    r"\bboat(s?)\b": (r"boat\1", r"ship\1"),
    r"\bhouse(s?)\b": (r"house\1", r"building\1"),
    r"\bstorage tank(s?)\b": (r"storage tank\1", r"round tank\1", r"tank\1"),
    r"\btennis court(s?)\b": (r"tennis court\1", r"court\1"),
    r"\bbaseball field(s?)\b": (r"baseball field\1", r"baseball diamond\1"),
    r"\bfootball field\b": ("football field", "football pitch", "field"),
    r"\bstand(s?)\b": (r"stand\1", r"grandstand\1"),
    r"\bpond(s?)\b": (r"pond\1", r"small lake\1"),
    r"\broundabout\b": ("roundabout", "traffic circle"),
    r"\bgreen grass\b": ("green grass", "a green lawn"),
    r"\bbare brown land\b": ("bare brown land", "brown ground"),
    r"\bdry yellow grass\b": ("dry yellow grass", "withered yellow grass"),
    r"\bred soil\b": ("red soil", "red earth"),
    r"\bgray ground\b": ("gray ground", "gray concrete"),
    r"\ba gray road\b": ("a gray road", "a road"),
    r"\ba blue stream\b": ("a blue stream", "a small stream"),
    r"\bsome green trees\b": ("some green trees", "several trees", "trees"),
    r"\bin the picture\b": ("in the picture", "in the image"),
    r"\bmany\b": ("many", "lots of"),
}
"""Words that mean the same here; one of them is taken for each caption."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that can be the subject of a sentence."""

    text: str
    plural: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """Countable things of one colour."""

    count: int
    singular: str
    colour: str = ""

    @property
    def noun(self) -> str:
        return self.singular if self.count == 1 else f"{self.singular}s"

    @property
    def plain(self) -> Phrase:
        """`three boats`."""
        return Phrase(f"{NUMBERS[self.count]} {self.noun}", self.count > 1)

    @property
    def full(self) -> Phrase:
        """`three white boats`."""
        return Phrase(f"{NUMBERS[self.count]} {self.colour} {self.noun}", self.count > 1)


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say of a picture, in any of several frames."""

    frames: Frames
    a: Phrase
    b: Phrase = Phrase("")

    def say(self, rng: np.random.Generator) -> str:
        """The sentence in one of the frames, with one of the synonyms of its words and a capital letter."""
        sentence = self.frames[int(rng.integers(len(self.frames)))].format(
            a=self.a.text,
            b=self.b.text,
            be="are" if self.a.plural else "is",
            there="there is" if self.a.text.startswith(("a ", "one ")) or not self.a.plural else "there are",
            s="" if self.a.plural else "s",
            es="" if self.a.plural else "es",
            b_be="are" if self.b.plural else "is",
            b_have="have" if self.b.plural else "has",
        )
        for pattern, words in SYNONYMS.items():
            sentence = re.sub(pattern, words[int(rng.integers(len(words)))], sentence)
        return sentence[0].upper() + sentence[1:]


def compose(remarks: tuple[Remark, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """Five captions about five different remarks, in random order."""
    return tuple(remarks[index].say(rng) for index in rng.permutation(len(remarks))[:5].tolist())
