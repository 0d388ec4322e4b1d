"""The order of things: which examples make up each update, as a pure function of the recipe.

An update is `accumulation` micro batches; an epoch's last update may be smaller, so that no example is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from PIL.Image import Image

from rscap.batch import Batch, Encoder, Row, batches
from rscap.data import choose, order
from rscap.data.augment import turn, vary
from rscap.data.draw import key
from rscap.recipe import Recipe
from rscap.records import Example

CaptionWeights = Mapping[str, tuple[float, ...]]
"""What the captions of an example weigh, by its id; examples that are not named have equal weights."""

_NO_WEIGHTS: CaptionWeights = MappingProxyType({})
_AUGMENTATIONS: dict[str, Callable[..., Image] | None] = {"none": None, "turns": turn, "full": vary}


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many updates a run has."""

    steps_per_epoch: int
    total_steps: int

    @classmethod
    def of(cls, recipe: Recipe, examples: int) -> Schedule:
        train = recipe.train
        per_epoch = math.ceil(examples / (train.micro_batch * train.accumulation))
        total = math.ceil(per_epoch * train.epochs)
        return cls(per_epoch, min(total, train.max_steps) if train.max_steps else total)


def encode_for_training(
    example: Example, *, recipe: Recipe, encoder: Encoder, epoch: int, weights: CaptionWeights
) -> Row:
    """Encode an example with prompt, captions and image as this epoch shows them."""
    seed, name = recipe.seed, example.id
    captions = choose(
        example.captions, recipe.data.captions, seed=seed, epoch=epoch, example_id=name, weights=weights.get(name)
    )
    change = _AUGMENTATIONS[recipe.data.augment]
    if change is not None:
        change = partial(change, captions=example.captions, seed=seed, epoch=epoch, example_id=name)
    return encoder(example, prefix=_prefix(recipe, name, epoch), captions=captions, change=change)


def _prefix(recipe: Recipe, example_id: str, epoch: int) -> str:
    several = recipe.prompt.training_prefixes
    return several[key("prefix", recipe.seed, epoch, example_id) % len(several)] if several else recipe.prompt.prefix


def updates(
    examples: Sequence[Example], recipe: Recipe, encoder: Encoder, weights: CaptionWeights = _NO_WEIGHTS
) -> Iterator[list[Batch]]:
    """Endless updates, epoch after epoch, each a list of micro batches."""
    epoch = 0
    while True:
        positions = order([example.id for example in examples], seed=recipe.seed, epoch=epoch)
        stream = batches(
            [examples[position] for position in positions],
            partial(encode_for_training, recipe=recipe, encoder=encoder, epoch=epoch, weights=weights),
            size=recipe.train.micro_batch,
            pad=encoder.prompter.pad,
            workers=recipe.data.workers,
        )
        update: list[Batch] = []
        for batch in stream:
            update.append(batch)
            if len(update) == recipe.train.accumulation:
                yield update
                update = []
        if update:
            yield update
        epoch += 1
