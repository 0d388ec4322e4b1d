"""`train.gradient_checkpointing = "auto"`: activations are computed again only where the memory at hand asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from rscap.plan.bases import shapes_of_base
from rscap.plan.cards import GIB, Card
from rscap.plan.search import Candidate, Situation, changed
from rscap.plan.sequence import lengths
from rscap.recipe import Recipe

LOOKED_AT = 2_000
"""Training images whose captions are counted; the loop turns checkpointing on by itself if a longer one comes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether to compute activations again, and the bytes that decide it."""

    on: bool
    needed_without: int
    at_hand: int

    def __str__(self) -> str:
        verdict = "on" if self.on else "off"
        without, here = (size / GIB for size in (self.needed_without, self.at_hand))
        return f"gradient checkpointing {verdict}: {without:.1f} GiB needed without, {here:.1f} GiB at hand"


def choose_checkpointing(recipe: Recipe, card: Card) -> Choice:
    """Whether a recipe's training step fits a card without checkpointing, by the arithmetic of `rscap plan`.

    Raises:
        ModelError: the shape of the base model is not known here.
        DataError: the data lie here and cannot be used.
    """
    shapes = shapes_of_base(recipe.model.base)
    rows = lengths(recipe, image_tokens=shapes.vision.tokens, at_most=LOOKED_AT)
    return _choice(recipe, Situation(shapes=shapes, rows=rows, card=card))


def settled(recipe: Recipe, situation: Situation) -> Recipe:
    """The recipe with `auto` replaced by what it comes to on the situation's card."""
    if recipe.train.gradient_checkpointing != "auto":
        return recipe
    return changed(recipe, "train", gradient_checkpointing=_choice(recipe, situation).on)


def _choice(recipe: Recipe, situation: Situation) -> Choice:
    """By the training step alone: captions that are generated in between take no less memory with checkpointing."""
    silent = changed(recipe, "train", gradient_checkpointing=False, evaluate_every=None)
    without = Candidate(recipe=silent, situation=situation)
    return Choice(on=not without.fits, needed_without=without.needed, at_hand=situation.card.bytes)
