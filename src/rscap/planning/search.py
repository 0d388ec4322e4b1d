"""Search settings that fit a card without changing an update: micro batch x accumulation stays fixed.

`train.gradient_checkpointing = "auto"` is resolved here too: on only if the available memory demands it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rscap.planning.cards import GIB, RESERVE, Card
from rscap.planning.drawing import drawing, drawing_seconds
from rscap.planning.memory import Memory, training_memory
from rscap.planning.parameters import Device, Setting
from rscap.planning.sequence import Lengths, lengths
from rscap.planning.shapes import Shapes, shapes_of_base
from rscap.planning.time import Duration, duration
from rscap.planning.timeline import generation_moving
from rscap.recipe import TOWERS, Recipe, Tower

WORTH = 0.95
"""The recipe's own setting stays unless a change brings the time below this share."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a search holds fixed: the model, the rows and the card."""

    shapes: Shapes
    rows: Lengths
    card: Card
    achieved_tflops: float | None = None

    @property
    def device(self) -> Device:
        return "cuda" if self.card.device == "cuda" else "cpu"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe in a situation: whether it fits, and its time."""

    recipe: Recipe
    situation: Situation

    @cached_property
    def setting(self) -> Setting:
        return Setting(self.recipe, self.situation.device)

    @cached_property
    def memory(self) -> Memory:
        batch = self.situation.rows.micro_batch(self.recipe.train.micro_batch)
        return training_memory(self.situation.shapes, self.setting, batch)

    @cached_property
    def generating(self) -> int:
        """Temporary bytes while captions are generated between steps; 0 if none are."""
        if self.recipe.train.evaluate_every is None:
            return 0
        return generation_moving(self.situation.shapes, self.setting, prefix=self.situation.rows.prefix)

    @cached_property
    def drawing(self) -> int:
        """Temporary bytes while an [objective] draws the captions of a micro batch; 0 without one."""
        rows, asked = self.situation.rows, self.recipe.objective
        if asked is None or rows.drawn is None:
            return 0
        return generation_moving(self.situation.shapes, self.setting, prefix=rows.prefix, drawn=rows.drawn)

    @property
    def moving(self) -> int:
        return max(self.memory.moving, self.generating, self.drawing)

    @property
    def reserve(self) -> int:
        """Bytes set aside for fragmentation and for the error of the prediction."""
        return round(RESERVE * self.moving)

    @property
    def needed(self) -> int:
        return self.memory.fixed + self.moving + self.reserve + self.situation.card.overhead

    @property
    def shortfall(self) -> int:
        """Bytes by which the card is too small; negative if some stay free."""
        return self.needed - self.situation.card.bytes

    @property
    def fits(self) -> bool:
        return self.shortfall <= 0

    @cached_property
    def duration(self) -> Duration:
        here = self.situation
        return duration(
            here.shapes,
            self.setting,
            here.rows,
            here.card,
            achieved_tflops=here.achieved_tflops,
            drawing=(drawing(here.shapes, self.setting, here.rows).total, self._drawing_seconds),
        )

    @property
    def _drawing_seconds(self) -> float:
        here = self.situation
        return drawing_seconds(here.shapes, self.setting, here.rows, here.card)

    @property
    def drawing_share(self) -> float:
        """Of the time, what drawing captions takes."""
        here, work = self.situation, self.duration.operations_per_image
        if here.achieved_tflops is not None:
            return drawing(here.shapes, self.setting, here.rows).total / work
        return self._drawing_seconds / (self.recipe.train.micro_batch * self.seconds_per_image)

    @property
    def seconds_per_image(self) -> float:
        return 1.0 / self.duration.images_per_s


def with_settings(recipe: Recipe, section: str, **values: Any) -> Recipe:
    """The recipe with some keys of a section replaced."""
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def candidates(recipe: Recipe, situation: Situation) -> Iterator[list[Candidate]]:
    """Level by level, the fewest changes of precision first: all micro batches, with and without checkpointing."""
    for level in _quantisations(recipe):
        yield [
            _with_decoding(Candidate(recipe=one, situation=situation))
            for one in (
                _batched(level, micro, checkpointing=again)
                for again in (False, True)
                for micro in _micro_batches(level)
            )
        ]


def best(level: list[Candidate]) -> Candidate | None:
    """The fastest candidate that fits, if any."""
    fitting = [one for one in level if one.fits]
    if not fitting:
        return None
    return min(fitting, key=lambda one: one.seconds_per_image)


def _micro_batches(recipe: Recipe) -> list[int]:
    """Sizes that divide the images of an update, largest first."""
    update = recipe.train.micro_batch * recipe.train.accumulation
    return [size for size in range(update, 0, -1) if update % size == 0]


def _batched(recipe: Recipe, micro_batch: int, *, checkpointing: bool) -> Recipe:
    update = recipe.train.micro_batch * recipe.train.accumulation
    return with_settings(
        recipe,
        "train",
        micro_batch=micro_batch,
        accumulation=update // micro_batch,
        gradient_checkpointing=checkpointing,
    )


def _quantisations(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe's own precision; then 4 bits for the language model; then for every tower that is not `trained`."""
    yield recipe
    whole = set(recipe.towers.in_state("trained"))
    previous = set(recipe.model.quantise) if recipe.model.quantisation == "nf4" else set()
    steps: tuple[set[Tower], ...] = ({"language_model"}, set(TOWERS))
    for step in steps:
        quantise = (previous | step) - whole
        if quantise and quantise != previous:
            ordered = tuple(tower for tower in TOWERS if tower in quantise)
            yield with_settings(recipe, "model", quantisation="nf4", quantise=ordered)
            previous = quantise


def _with_decoding(candidate: Candidate) -> Candidate:
    """The same with fewer images decoded together, if only generation does not fit; captions stay the same."""
    while not candidate.fits and candidate.generating > max(candidate.memory.moving, candidate.drawing):
        size = candidate.recipe.generate.least_batch
        if size == 1:
            break
        recipe = with_settings(candidate.recipe, "generate", batch_size=size // 2)
        candidate = Candidate(recipe=recipe, situation=candidate.situation)
    return candidate


LOOKED_AT = 2_000
"""Training images whose captions are counted; if a longer one does not fit, the loop turns checkpointing on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether to use gradient checkpointing, and the bytes that decide it."""

    on: bool
    needed_without: int
    available: int

    def __str__(self) -> str:
        verdict = "on" if self.on else "off"
        without, here = (size / GIB for size in (self.needed_without, self.available))
        return f"gradient checkpointing {verdict}: {without:.1f} GiB needed without, {here:.1f} GiB available"


def choose_checkpointing(recipe: Recipe, card: Card) -> Choice:
    """Decide by the estimate of `rscap plan` whether a recipe's training step needs checkpointing on a card.

    Raises:
        ModelError: the shape of the base model is unknown.
        DataError: the data are local and cannot be used.
    """
    shapes = shapes_of_base(recipe.model.base, split=bool(recipe.model.image_splitting))
    rows = lengths(recipe, shapes=shapes, at_most=LOOKED_AT)
    return _choice(with_precision(recipe, card), Situation(shapes=shapes, rows=rows, card=card))


def with_precision(recipe: Recipe, card: Card) -> Recipe:
    """The recipe with `model.dtype = "auto"` resolved for a card, as a run on it would resolve it."""
    return recipe if recipe.model.dtype != "auto" else with_settings(recipe, "model", dtype=card.best_dtype)


def settled(recipe: Recipe, situation: Situation) -> Recipe:
    """The recipe with `train.gradient_checkpointing = "auto"` resolved for the situation's card."""
    if recipe.train.gradient_checkpointing != "auto":
        return recipe
    return with_settings(recipe, "train", gradient_checkpointing=_choice(recipe, situation).on)


def _choice(recipe: Recipe, situation: Situation) -> Choice:
    """Decide by the backward pass alone: generating and drawing captions take no less memory with checkpointing."""
    silent = with_settings(recipe, "train", gradient_checkpointing=False, evaluate_every=None)
    silent = silent.model_copy(update={"objective": None})
    without = Candidate(recipe=silent, situation=situation)
    return Choice(on=not without.fits, needed_without=without.needed, available=situation.card.bytes)
