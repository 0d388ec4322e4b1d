"""Which examples make up each update, and in which order, as a pure function of the recipe.

An update is `micro_batch x accumulation` images; the last one of an epoch may be smaller, so that no example is left
out. Several processes divide the images of each update among them, whatever `accumulation` says, and every process puts
its own into micro batches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from PIL.Image import Image

from rscap.captioner.batch import Batch, Encoder, PackedRow
from rscap.captioner.loader import grouped
from rscap.data import choose, order
from rscap.data.augment import turn, vary
from rscap.data.draw import key
from rscap.recipe import Recipe
from rscap.records import Example

CaptionWeights = Mapping[str, tuple[float, ...]]
"""Weights of the captions of an example, by its id; captions of other examples have equal weights."""

T = TypeVar("T")

_NO_WEIGHTS: CaptionWeights = {}
_AUGMENTATIONS: dict[str, Callable[..., Image] | None] = {"none": None, "turns": turn, "full": vary}


Place = tuple[int, int]
"""(epoch, position in the list of examples)"""


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
        return cls(per_epoch, total if train.max_steps is None else min(total, train.max_steps))


@dataclass(frozen=True, slots=True)
class Share:
    """The images of every update that this process takes: each `of`-th, from number `rank` on."""

    rank: int = 0
    of: int = 1

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        return items[self.rank :: self.of]

    def number(self, index: int) -> int:
        """A number that no other micro batch of the update has, for this process's `index`-th one."""
        return self.rank + index * self.of


ALONE = Share()


def encode_for_training(
    example: Example, *, recipe: Recipe, encoder: Encoder, epoch: int, weights: CaptionWeights
) -> PackedRow:
    """Encode an example with the prompt, captions and augmentation of this epoch."""
    change = _AUGMENTATIONS[recipe.data.augment]
    if change is not None:
        change = partial(change, captions=example.captions, seed=recipe.seed, epoch=epoch, example_id=example.id)
    captions = _captions(example, recipe, epoch, weights)
    return encoder(example, prefix=_prefix(recipe, example.id, epoch), captions=captions, change=change)


def _captions(example: Example, recipe: Recipe, epoch: int, weights: CaptionWeights) -> tuple[str, ...]:
    scheme, name = recipe.data.captions, example.id
    return choose(example.captions, scheme, seed=recipe.seed, epoch=epoch, example_id=name, weights=weights.get(name))


def _prefix(recipe: Recipe, example_id: str, epoch: int) -> str:
    several = recipe.prompt.training_prefixes
    return several[key("prefix", recipe.seed, epoch, example_id) % len(several)] if several else recipe.prompt.prefix


def planned(
    ids: Sequence[str], recipe: Recipe, *, start: int = 0, length: Callable[[Place], int], share: Share = ALONE
) -> Iterator[list[Sequence[Place]]]:
    """Endless updates from number `start` on, each a list of the micro batches of `share`, each a list of places.

    It loads no image, so a resumed run continues at once.
    """
    train = recipe.train
    size = train.micro_batch * train.accumulation
    per_epoch = math.ceil(len(ids) / size)
    for epoch in itertools.count(start // per_epoch):
        places = [(epoch, position) for position in order(ids, seed=recipe.seed, epoch=epoch)]
        begin = size * (start % per_epoch) if epoch == start // per_epoch else 0
        for update in chunks(places[begin:], size):
            yield bucketed(update, train.micro_batch, length, share)


def bucketed(update: Sequence[T], size: int, length: Callable[[T], int], share: Share = ALONE) -> list[Sequence[T]]:
    """The examples of an update that `share` takes, in micro batches of similar length, the longest first.

    The update keeps its examples, and its loss is a sum, so only the padding changes. If the longest examples do not
    fit in memory, the first update shows it. Since examples are dealt out in order of length, the shares of all
    processes differ by one example at most and have nearly as many tokens.
    """
    ordered = sorted(update, key=length, reverse=True) if len(update) > size or share.of > 1 else update
    return list(chunks(share.mine(ordered), size))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Pieces of `size` items, in order; the last may be shorter."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def updates(
    examples: Sequence[Example],
    recipe: Recipe,
    encoder: Encoder,
    weights: CaptionWeights = _NO_WEIGHTS,
    *,
    start: int = 0,
    share: Share = ALONE,
) -> Iterator[list[Batch]]:
    """Endless updates from number `start` on, each a list of the micro batches that this process takes."""
    ids = [example.id for example in examples]
    tokens = TokenCounts(encoder.prompter.layout.tokenizer)

    def length(place: Place) -> int:
        epoch, example = place[0], examples[place[1]]
        return tokens(_prefix(recipe, example.id, epoch), *_captions(example, recipe, epoch, weights))

    plan, shown = itertools.tee(planned(ids, recipe, start=start, length=length, share=share))
    reader = Reader(examples, recipe, encoder, weights)
    loaded = grouped(
        itertools.chain.from_iterable(shown),
        reader.encode,
        name=reader.name,
        pad=encoder.prompter.pad,
        workers=recipe.data.workers,
    )
    for micro_batches in plan:
        yield [next(loaded) for _ in micro_batches]


@dataclass(slots=True)
class TokenCounts:
    """Counts the tokens of texts; each text is tokenised once."""

    tokenizer: Any
    _known: dict[str, int] = field(default_factory=dict)

    def __call__(self, *texts: str) -> int:
        """The number of tokens of all texts together."""
        if fresh := [text for text in texts if text not in self._known]:
            encoded = self.tokenizer(fresh, add_special_tokens=False)["input_ids"]
            self._known.update(zip(fresh, map(len, encoded), strict=True))
        return sum(self._known[text] for text in texts)


@dataclass(frozen=True, slots=True)
class Reader:
    """Encodes the example at a place; data workers receive a copy."""

    examples: Sequence[Example]
    recipe: Recipe
    encoder: Encoder
    weights: CaptionWeights

    def encode(self, place: Place) -> PackedRow:
        epoch, position = place
        return encode_for_training(
            self.examples[position], recipe=self.recipe, encoder=self.encoder, epoch=epoch, weights=self.weights
        )

    def name(self, place: Place) -> str:
        return self.examples[place[1]].id
