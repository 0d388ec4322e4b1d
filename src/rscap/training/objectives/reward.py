"""How good a drawn caption is: CIDEr-D with an end-of-sentence word, other metrics, one's own function, or their sum.

Without the end-of-sentence word a caption that breaks off ("a plane parked on the") loses nothing, and models learn to
break off (ruotianluo/self-critical.pytorch, issue 43; meshed-memory-transformer, issue 46). It stands behind every
reference, and behind a candidate that ended by itself, in the reward alone: the scores of evaluations are ordinary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rscap import scoring
from rscap.errors import RecipeError, TrainingError
from rscap.recipe import ObjectiveSection
from rscap.records import Example
from rscap.scoring import IdfPool, cider_rewards
from rscap.scoring.corpus import Floats
from rscap.scoring.protocol import prepare_remembered

END = "<eos>"
"""The end-of-sentence word. No caption holds it: the tokenizer of `coco` takes it apart."""

OwnReward = Callable[[Sequence[str], Sequence[Sequence[str]]], Sequence[float]]
"""(captions, references of each) to one number each, larger for better ones."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A caption to be rewarded."""

    caption: str
    ended: bool
    """By `<eos>`, and not by the length limit."""
    references: tuple[str, ...]


_BY_HEART = 1.5
"""Captions drawn of training images score this much higher than the best captions of validation images only if they are
known by heart: drawn captions score lower than the best ones. On nano 2.2 where training images had been learned by
heart, .6 on images that had not (docs/reward.md)."""


def by_heart(drawn: float, on_validation: float) -> bool:
    """Whether mean rewards, of drawn captions of training images and of validation images, show memorised images."""
    return drawn > _BY_HEART * max(on_validation, 0.0) and drawn > 0


Part = Callable[[Sequence[Drawn]], Floats]


@dataclass(frozen=True, slots=True)
class Reward:
    """The weighted sum of the parts of a recipe's `[objective.reward]`; an empty caption earns 0."""

    parts: tuple[tuple[float, Part], ...]

    @classmethod
    def of(cls, section: ObjectiveSection, examples: Sequence[Example]) -> Reward:
        """The reward of a recipe, with document frequencies of the references of `examples`.

        Raises:
            RecipeError: a function that cannot be imported; names it.
        """
        parts = [(weight, _part(name, section, examples)) for name, weight in section.reward.items()]
        return cls(tuple(parts))

    def __call__(self, drawn: Sequence[Drawn]) -> Floats:
        """float[n]: the reward of each caption, which depends on no other."""
        total = np.zeros(len(drawn))
        spoken = [place for place, one in enumerate(drawn) if one.caption]
        if spoken:
            told = [drawn[place] for place in spoken]
            total[spoken] = sum(weight * part(told) for weight, part in self.parts)
        return total


def _part(name: str, section: ObjectiveSection, examples: Sequence[Example]) -> Part:
    if ":" in name:
        return _Own(name, _imported(name))
    if name == "CIDEr":
        return _Cider.of([example.captions for example in examples], end=section.end_word)
    return _Metric(name)


@dataclass(frozen=True, slots=True)
class _Cider:
    """CIDEr-D on its own scale, tokenised as under the protocol `coco`."""

    pool: IdfPool
    end: bool

    @classmethod
    def of(cls, references: Sequence[Sequence[str]], *, end: bool) -> _Cider:
        """With the document frequencies of these references."""
        prepared = [_with_end(own, [end] * len(own)) for own in references]
        return cls(IdfPool.build(prepared, protocol="raw"), end)

    def __call__(self, drawn: Sequence[Drawn]) -> Floats:
        candidates = _with_end([one.caption for one in drawn], [self.end and one.ended for one in drawn])
        references = [_with_end(one.references, [self.end] * len(one.references)) for one in drawn]
        return cider_rewards(candidates, references, self.pool)


def _with_end(captions: Sequence[str], ended: Sequence[bool]) -> list[str]:
    words = prepare_remembered("coco", captions)
    return [f"{text} {END}" if end else text for text, end in zip(words, ended, strict=True)]


@dataclass(frozen=True, slots=True)
class _Metric:
    """The scores of each caption by a metric of rscap's own, under the protocol `coco`."""

    name: str

    def __call__(self, drawn: Sequence[Drawn]) -> Floats:
        ids = [str(number) for number in range(len(drawn))]
        captions = dict(zip(ids, (one.caption for one in drawn), strict=True))
        references: Mapping[str, Any] = dict(zip(ids, (one.references for one in drawn), strict=True))
        sheet = scoring.score_captions(captions, references, metrics=[self.name], draws=0)
        return np.array([sheet.items[one][self.name] for one in ids])


@dataclass(frozen=True, slots=True)
class _Own:
    """Scores by a function of the user's."""

    name: str
    function: OwnReward

    def __call__(self, drawn: Sequence[Drawn]) -> Floats:
        found = self.function([one.caption for one in drawn], [one.references for one in drawn])
        values = np.asarray(found, dtype=float)
        if values.shape != (len(drawn),) or not np.isfinite(values).all():
            raise TrainingError(
                f"the reward {self.name} gave {values.shape} numbers for {len(drawn)} captions, or one not finite",
                hint="it takes captions and the references of each, and returns one finite number a caption",
            )
        return values


def _imported(name: str) -> OwnReward:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"objective.reward: {name} cannot be imported: {error}",
            hint="`module:function`, with the module on PYTHONPATH",
        ) from None
    if not callable(found):
        raise RecipeError(f"objective.reward: {name} is a {type(found).__name__} and no function")
    function: OwnReward = found
    return function
