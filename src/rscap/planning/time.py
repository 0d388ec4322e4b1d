"""The time of a run: operations of a training step, counted from the shape, over what a card achieves of its peak.

An operation count is two for each weight and token, plus attention. Every factor below names its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rscap.planning.cards import Card
from rscap.planning.sequence import Lengths
from rscap.planning.setting import Setting
from rscap.planning.shapes import Shapes
from rscap.recipe import TowerState

BACKWARD: dict[TowerState, int] = {"frozen": 1, "adapted": 1, "trained": 2}
"""Operations backward over forward: gradients of inputs, and of trainable weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Floating-point operations per image, forward and backward together."""

    vision: float
    projector: float
    language: float
    adapters: float
    head: float
    again: float
    """Recomputed for checkpointing."""

    @property
    def total(self) -> float:
        return self.vision + self.projector + self.language + self.adapters + self.head + self.again


def operations(shapes: Shapes, setting: Setting, *, tokens: float, supervised: float) -> Operations:
    """Operations per image with `tokens` in its packed row, `supervised` of them with a target.

    The last layer computes queries and MLP for supervised tokens only. An adapter costs three times its forward pass.
    """
    seeing, patches = (0.0, 0.0) if setting.cached_features else _vision_forward(shapes)
    language = _language_forward(shapes, tokens, supervised)
    passes = 1 + BACKWARD[setting.state("language_model")]
    vision_passes = 1 + BACKWARD[setting.state("vision_tower")] if setting.trainable("vision_tower") else 1
    upstream = setting.trainable("vision_tower") or setting.trainable("projector")
    projector = 2 * shapes.projector.weights * shapes.vision.tokens
    adapters = _adapter_forward(shapes, setting, tokens, supervised)
    again = 0.0
    if setting.checkpointing:
        again = language - _last_layer(shapes, tokens, supervised) + adapters
        again += seeing if setting.trainable("vision_tower") else 0.0
    return Operations(
        vision=vision_passes * seeing + patches * (2 if setting.state("vision_tower") == "trained" else 1),
        projector=projector * (1 + (BACKWARD[setting.state("projector")] if upstream else 0)),
        language=passes * language,
        adapters=3 * adapters,
        head=passes * 2 * shapes.text.embedding_parameters * supervised,
        again=again,
    )


def _vision_forward(shapes: Shapes) -> tuple[float, float]:
    """Operations of all blocks, and of the patch embedding, whose pixels need no gradient."""
    shape = shapes.vision
    maps = sum(one.weights for one in shape.linears.values())
    layer = 2.0 * maps * shape.tokens + 4 * shape.tokens**2 * shape.width
    return shape.layers * layer, 2.0 * 3 * shape.patch_px**2 * shape.width * shape.tokens


def _language_forward(shapes: Shapes, tokens: float, supervised: float) -> float:
    shape = shapes.text
    maps = sum(one.weights for one in shape.linears.values())
    layer = 2 * maps * tokens + 4 * tokens**2 * shape.heads * shape.head_width
    return (shape.layers - 1) * layer + _last_layer(shapes, tokens, supervised)


def _last_layer(shapes: Shapes, tokens: float, supervised: float) -> float:
    shape = shapes.text
    read = sum(shape.linears[name].weights for name in ("k_proj", "v_proj"))
    asked = sum(one.weights for one in shape.linears.values()) - read
    scores = 4 * tokens * supervised * shape.heads * shape.head_width
    return 2 * read * tokens + 2 * asked * supervised + scores


def _adapter_forward(shapes: Shapes, setting: Setting, tokens: float, supervised: float) -> float:
    """Two operations for each adapter parameter and token; see `_last_layer`."""
    text, vision = shapes.text, shapes.vision
    adapted = {one.name: setting.footprint(one) for one in setting.adapted("language_model", text.linears)}
    sizes = {name: one.products for name, one in adapted.items()}
    read = sum(sizes.get(name, 0) for name in ("k_proj", "v_proj"))
    whole = sum(sizes.values())
    prints = [setting.footprint(one) for one in setting.adapted("vision_tower", vision.linears)]
    seen = vision.layers * vision.tokens * sum(one.products for one in prints)
    said = (text.layers - 1) * whole * tokens + read * tokens + (whole - read) * supervised
    return 2.0 * (said + seen)


ACHIEVED = 0.45
"""Share of a card's peak that large products of a training step achieve; an assumption until measured."""

HALF_SPEED_TOKENS = 300
"""Tokens of a micro batch that reach half of it: all weights are read, however few tokens use them."""

UNPACKED = 0.65
"""Speed with 4- or 8-bit weights over speed without: every pass unpacks them; an assumption."""

SINGLE = 0.25
"""Speed of float32 products over 16-bit ones on a GPU's matrix units; an assumption."""

LAUNCH_SECONDS = 8e-6
KERNELS, ADAPTER_KERNELS = 40, 12
"""Time to launch one kernel, and kernels that a block and an adapter launch in their forward pass: a lower bound on the
time of a micro batch, however small the model; assumptions, rounded from counts of operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """The time of a run, without its evaluations."""

    operations_per_image: float
    tflops: float
    """Achieved, in 10^12 operations per second."""
    images_per_s: float
    captions_per_s: float
    updates: int | None
    seconds: float | None
    """None if the number of images is unknown."""
    basis: str
    """What the throughput is based on."""


def duration(
    shapes: Shapes, setting: Setting, rows: Lengths, card: Card, *, achieved_tflops: float | None = None
) -> Duration:
    """The time of a recipe. `achieved_tflops`, measured on a run, replaces all assumptions."""
    work = operations(shapes, setting, tokens=rows.mean_tokens, supervised=rows.mean_supervised).total
    rate, basis = _rate(setting, rows, card, achieved_tflops)
    size = setting.recipe.train.micro_batch
    computing, starting = size * work / (rate * 1e12), LAUNCH_SECONDS * _kernels(shapes, setting)
    if achieved_tflops is None and starting > computing:
        basis = f"assumes {LAUNCH_SECONDS * 1e6:.0f} µs per kernel launch, more than the card takes to compute"
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
    """Kernels that a micro batch launches: backward twice as many as forward; checkpointing adds a forward pass."""
    text = KERNELS + ADAPTER_KERNELS * len(setting.adapted("language_model", shapes.text.linears))
    vision = KERNELS + ADAPTER_KERNELS * len(setting.adapted("vision_tower", shapes.vision.linears))
    passes = 4 if setting.checkpointing else 3
    seeing = (passes if setting.trainable("vision_tower") else 1) * vision * shapes.vision.layers
    return passes * text * shapes.text.layers + (0 if setting.cached_features else seeing)


def _rate(setting: Setting, rows: Lengths, card: Card, achieved: float | None) -> tuple[float, str]:
    if achieved is not None:
        return achieved, f"{achieved:g} TFLOP/s, as given"
    tokens = setting.recipe.train.micro_batch * rows.mean_tokens
    share = ACHIEVED * tokens / (tokens + HALF_SPEED_TOKENS)
    share *= UNPACKED if setting.quantised("language_model") else 1.0
    share *= SINGLE if setting.product == 4 and not card.measured else 1.0
    peak = f"{card.tflops:.3g} TFLOP/s, {'measured here' if card.measured else 'data sheet'}"
    return share * card.tflops, f"assumes {share:.0%} of peak matmul throughput ({peak})"


def _extent(setting: Setting, rows: Lengths) -> tuple[int | None, float | None]:
    """Updates and images of the whole run."""
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
