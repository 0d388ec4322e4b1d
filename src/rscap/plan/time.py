"""How long a run takes: its operations over what a card achieves of its peak. Every factor says where it is from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rscap.plan.cards import Card
from rscap.plan.flops import operations
from rscap.plan.sequence import Lengths
from rscap.plan.setting import Setting
from rscap.plan.shapes import Shapes

ACHIEVED = 0.45
"""Share of a card's peak that large products of a training step achieve; an assumption until measured."""

HALF_SPEED_TOKENS = 300
"""Tokens of a micro batch at which half of that is reached: weights are read however few tokens use them."""

UNPACKED = 0.65
"""Speed with 4- or 8-bit weights over that without: they are unpacked in every pass; an assumption."""

SINGLE = 0.25
"""Speed of float32 products over 16-bit ones on a GPU's matrix units; an assumption."""

LAUNCH_SECONDS = 8e-6
KERNELS, ADAPTER_KERNELS = 40, 12
"""To start one kernel, and how many a block and an adapter in it start in their forward pass: the least time of a
micro batch, however small the model; assumptions, rounded from counts of operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A run in time, without its evaluations."""

    operations_per_image: float
    tflops: float
    """Achieved, 10^12 operations a second."""
    images_per_s: float
    captions_per_s: float
    updates: int | None
    seconds: float | None
    """None where the number of images is not known."""
    basis: str
    """What the throughput rests on."""


def duration(
    shapes: Shapes, setting: Setting, rows: Lengths, card: Card, *, achieved_tflops: float | None = None
) -> Duration:
    """The time of a recipe. `achieved_tflops` is what a run was seen to achieve; it replaces all assumptions."""
    work = operations(shapes, setting, tokens=rows.mean_tokens, supervised=rows.mean_supervised).total
    rate, basis = _rate(setting, rows, card, achieved_tflops)
    size = setting.recipe.train.micro_batch
    computing, starting = size * work / (rate * 1e12), LAUNCH_SECONDS * _kernels(shapes, setting)
    if achieved_tflops is None and starting > computing:
        basis = f"{LAUNCH_SECONDS * 1e6:.0f} us a kernel (assumed): the model is too small to keep the card busy"
        computing = starting
    images_per_s = size / computing
    updates, images = _extent(setting, rows)
    seconds = None if images is None else images / images_per_s
    if (limit := setting.recipe.train.max_minutes) is not None:
        seconds = min(60 * limit, math.inf if seconds is None else seconds)
    return Duration(
        operations_per_image=work,
        tflops=images_per_s * work / 1e12,
        images_per_s=images_per_s,
        captions_per_s=images_per_s * rows.captions,
        updates=updates,
        seconds=seconds,
        basis=basis,
    )


def _kernels(shapes: Shapes, setting: Setting) -> int:
    """Kernels that a micro batch starts: backward twice as many as forward, and forward again with checkpointing."""
    text = KERNELS + ADAPTER_KERNELS * len(setting.adapted("language_model", shapes.text.linears))
    vision = KERNELS + ADAPTER_KERNELS * len(setting.adapted("vision_tower", shapes.vision.linears))
    passes = 4 if setting.checkpointing else 3
    seeing = (passes if setting.learns("vision_tower") else 1) * vision * shapes.vision.layers
    return passes * text * shapes.text.layers + (0 if setting.cached_features else seeing)


def _rate(setting: Setting, rows: Lengths, card: Card, achieved: float | None) -> tuple[float, str]:
    if achieved is not None:
        return achieved, f"{achieved:g} TFLOP/s as given"
    tokens = setting.recipe.train.micro_batch * rows.mean_tokens
    share = ACHIEVED * tokens / (tokens + HALF_SPEED_TOKENS)
    share *= UNPACKED if setting.quantised("language_model") else 1.0
    share *= SINGLE if setting.product == 4 and not card.measured else 1.0
    peak = f"measured here, {card.tflops:.3g}" if card.measured else f"data sheet, {card.tflops:.3g}"
    return share * card.tflops, f"peak of products ({peak} TFLOP/s) x {share:.2f} achieved (assumed)"


def _extent(setting: Setting, rows: Lengths) -> tuple[int | None, float | None]:
    """Updates and images of the run."""
    train = setting.recipe.train
    update = train.micro_batch * train.accumulation
    updates = None
    if rows.images is not None:
        updates = math.ceil(math.ceil(rows.images / update) * train.epochs)
    for limit in (train.max_steps, _updates_of_tokens(setting, rows)):
        if limit is not None:
            updates = limit if updates is None else min(updates, limit)
    if updates is None:
        return None, None
    whole = math.inf if rows.images is None else rows.images * train.epochs
    return updates, min(float(updates * update), whole)


def _updates_of_tokens(setting: Setting, rows: Lengths) -> int | None:
    train = setting.recipe.train
    if train.max_tokens is None:
        return None
    return math.ceil(train.max_tokens / (rows.mean_supervised * train.micro_batch * train.accumulation))
