"""What a recipe trains on: its examples, the captions of an image in an epoch, and the order of the images.

Pure functions of (seed, epoch, example id): no global random state, nothing to save for a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rscap.data.draw import key, pick, uniform
from rscap.data.source import Source
from rscap.errors import DataError
from rscap.recipe import Recipe
from rscap.records import Example


class _Turn(NamedTuple):
    """The input of a scheme: captions of positive weight, their weights, seed, epoch and example id."""

    captions: Sequence[str]
    weights: Sequence[float]
    seed: int
    epoch: int
    example_id: str


def choose(
    example_captions: Sequence[str],
    scheme: str,
    *,
    seed: int,
    epoch: int,
    example_id: str,
    weights: Sequence[float] | None = None,
) -> tuple[str, ...]:
    """The captions of one example that epoch `epoch` trains on.

    `random`: one, drawn by weight. `first`: the first. `longest`: the one with most words, the first of equals.
    `concat`: all, joined by a space, as one. `cycle`: one; n epochs show each of the n captions once, and with weights
    each in proportion to its own. `all`: all of them (packed into one sequence).

    Args:
        example_captions: K captions in the source's order.
        scheme: one of `SCHEMES`.
        seed: the run's seed.
        epoch: counted from 0.
        example_id: the example's id; two examples draw independently.
        weights: K numbers, not negative; None means equal. A caption of weight 0 is never chosen, by any scheme.

    Raises:
        DataError: an unknown scheme, no caption of positive weight, or weights that do not fit the captions.
    """
    if scheme not in _SCHEMES:
        raise DataError(f"unknown caption scheme {scheme!r}", hint=f"known: {', '.join(SCHEMES)}")
    values = [1.0] * len(example_captions) if weights is None else list(weights)
    if len(values) != len(example_captions) or not all(0 <= value < float("inf") for value in values):
        raise DataError(f"{example_id}: weights {values} do not fit {len(example_captions)} captions")
    kept = [index for index, value in enumerate(values) if value > 0]
    if not kept:
        raise DataError(f"{example_id}: no caption of positive weight to choose from")
    turn = _Turn([example_captions[i] for i in kept], [values[i] for i in kept], seed, epoch, example_id)
    return _SCHEMES[scheme](turn)


def order(ids: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """The epoch's permutation: positions in `ids`, sorted by a hash of (seed, epoch, id).

    The ids come in the same order however the source lists them.
    """
    keys = [key("order", seed, epoch, example_id) for example_id in ids]
    return sorted(range(len(ids)), key=lambda position: (keys[position], ids[position], position))


def _random(turn: _Turn) -> tuple[str, ...]:
    return (turn.captions[pick(turn.weights, "caption", turn.seed, turn.epoch, turn.example_id)],)


def _first(turn: _Turn) -> tuple[str, ...]:
    return (turn.captions[0],)


def _longest(turn: _Turn) -> tuple[str, ...]:
    return (max(turn.captions, key=lambda caption: len(caption.split())),)


def _concat(turn: _Turn) -> tuple[str, ...]:
    return (" ".join(turn.captions),)


def _cycle(turn: _Turn) -> tuple[str, ...]:
    """Smooth weighted round robin from a shuffled start.

    Each epoch adds every caption's weight to its credit; the caption with the most credit is chosen and pays the total.
    """
    start = sorted(range(len(turn.captions)), key=lambda index: key("cycle", turn.seed, turn.example_id, index))
    credit = dict.fromkeys(start, 0.0)
    total = sum(turn.weights)
    chosen = start[0]
    for _ in range(turn.epoch + 1):
        for index in start:
            credit[index] += turn.weights[index]
        chosen = max(start, key=credit.__getitem__)
        credit[chosen] -= total
    return (turn.captions[chosen],)


def _all(turn: _Turn) -> tuple[str, ...]:
    return tuple(turn.captions)


_SCHEMES: dict[str, Callable[[_Turn], tuple[str, ...]]] = {
    "random": _random,
    "first": _first,
    "longest": _longest,
    "concat": _concat,
    "cycle": _cycle,
    "all": _all,
}
SCHEMES: tuple[str, ...] = tuple(_SCHEMES)


def training_examples(source: Source, recipe: Recipe) -> list[Example]:
    """The examples that a recipe trains on: the training split, or `train_limit` examples of it.

    Of these, with `data.reward_share`, the part for the recipe's objective; and none whose references are one sentence
    where `objective.equal_references` is 0.

    Args:
        source: the recipe's data, after its quality rules where it has any.
        recipe: `seed` and the keys above are used.

    Raises:
        DataError: there is no training split, it is smaller than the limit, or nothing of it is left.
    """
    limit, objective = recipe.data.train_limit, recipe.objective
    found = source.subset("train", limit, recipe.seed) if limit else source.split("train")
    if (share := recipe.data.reward_share) is not None:
        part = recipe.data.reward_images or ("rest" if objective is None else "held")
        found = [one for one in found if (uniform("reward", one.id) < share) == (part == "held")]
    if objective is not None and not objective.equal_references:
        found = [one for one in found if len(set(one.captions)) > 1]
    if not found:
        raise DataError(
            f"{source.name}: no training image is left to train on",
            hint="change data.reward_share, or raise objective.equal_references above 0",
        )
    return found


def validation_panel(source: Source, recipe: Recipe) -> list[Example]:
    """The fixed validation images for which captions are generated during training."""
    if not recipe.train.evaluate_every:
        return []
    available = source.splits.get("val", 0)
    return source.subset("val", min(recipe.train.evaluate_images, available), recipe.seed) if available else []
