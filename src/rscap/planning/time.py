"""The time of a run: what the slower of host and card needs for the micro batches of a recipe.

The card computes products (operations counted from the shape, two for each weight and token, plus attention, over what
it achieves of its peak) and passes over activations (bytes over its bandwidth). The host starts the kernels. Factors
were measured on an H200 with random weights at the geometry of 3B models (28 November 2026, docs/speed.md); for other
cards they are assumptions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rscap.planning.cards import Card
from rscap.planning.parameters import Setting
from rscap.planning.sequence import Lengths
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
    seeing, patches = (0.0, 0.0) if setting.cached_features else vision_forward(shapes)
    language = language_forward(shapes, tokens, supervised)
    passes = 1 + BACKWARD[setting.state("language_model")]
    vision_passes = 1 + BACKWARD[setting.state("vision_tower")] if setting.trainable("vision_tower") else 1
    upstream = setting.trainable("vision_tower") or setting.trainable("projector")
    projector = 2 * shapes.projector.weights * shapes.vision.tokens
    adapters = adapter_forward(shapes, setting, tokens, supervised)
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


def vision_forward(shapes: Shapes) -> tuple[float, float]:
    """Operations of all blocks, and of the patch embedding, whose pixels need no gradient."""
    shape = shapes.vision
    maps = sum(one.weights for one in shape.linears.values())
    layer = 2.0 * maps * shape.tokens + 4 * shape.tokens**2 * shape.width
    return shape.layers * layer, 2.0 * 3 * shape.patch_px**2 * shape.width * shape.tokens


def language_forward(shapes: Shapes, tokens: float, supervised: float) -> float:
    """Operations of all blocks; see `_last_layer`."""
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


def adapter_forward(shapes: Shapes, setting: Setting, tokens: float, supervised: float) -> float:
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


ACHIEVED = 0.6
"""Share of a card's peak that products of a training step achieve: 600 of 989 TFLOP/s at 3B parameters."""

UNPACKED = 0.88
"""Speed of products with 4- or 8-bit weights over that without, which every pass unpacks."""

SINGLE = 0.07
"""Speed of float32 products over 16-bit ones on a GPU: 67 of 989 TFLOP/s by the data sheet, without TF32."""

BANDWIDTH = 0.87
"""Share of a card's memory bandwidth that passes over activations achieve: 4.2 of 4.8 TB/s."""

NORM_BYTES, MLP_BYTES = 280, 70
"""Traffic of such passes, forward and backward, per token: for every number of each norm's input, and for every number
as wide as the MLP. From kernel times of models with Gemma and Gemma 2, with adapters, less the passes saved since."""

KERNEL_SECONDS = 20e-6
"""Time in which the host starts one kernel, Python included."""

BLOCK, CAPPED_BLOCK, SIGHT = (45, 61), (75, 100), (12, 14)
"""Kernels of a block of Gemma, of Gemma 2 and of SigLIP, forward and backward: operators counted as dispatched."""

ADAPTER, REST = (5, 10), 115
"""Kernels of an adapter on a linear layer, forward and backward; and of all that is in no block."""

CPU_ACHIEVED, HALF_SPEED_TOKENS = 0.45, 300
"""Share of a CPU's peak of products that a training step achieves, and tokens of a micro batch that reach half of it;
assumptions."""

HALF_SPEED_BRANCHES = 100
"""Captions, of all images together, that reach half of it where they grow by a token at a time, without gradients: from
the times of benchmarks/reward_step.py."""


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
    shapes: Shapes,
    setting: Setting,
    rows: Lengths,
    card: Card,
    *,
    achieved_tflops: float | None = None,
    drawing: tuple[float, float] = (0.0, 0.0),
) -> Duration:
    """The time of a recipe. `achieved_tflops`, measured on a run, replaces all assumptions.

    `drawing` are the operations of an image's drawn captions, and the seconds of a micro batch's.
    """
    work = operations(shapes, setting, tokens=rows.mean_tokens, supervised=rows.mean_supervised).total
    size = setting.recipe.train.micro_batch
    if achieved_tflops is not None:
        step, basis = size * (work + drawing[0]) / (achieved_tflops * 1e12), f"{achieved_tflops:g} TFLOP/s, as given"
    else:
        how = _on_cpu if setting.device == "cpu" else _on_gpu
        step, basis = how(shapes, setting, rows, card, size * work)
        step += drawing[1]
    work += drawing[0]
    images_per_s = size / step
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


def _on_cpu(shapes: Shapes, setting: Setting, rows: Lengths, card: Card, work: float) -> tuple[float, str]:
    """Seconds of a micro batch of `work` operations, and what they are based on."""
    share = achieved_on_cpu(setting.recipe.train.micro_batch * rows.mean_tokens)
    return work / (share * card.tflops * 1e12), f"assumes {share:.0%} of peak matmul throughput ({_peak(card)})"


def achieved_on_cpu(tokens: float, *, half: float = HALF_SPEED_TOKENS) -> float:
    """Share of a CPU's peak that products of a pass over so many tokens achieve."""
    return CPU_ACHIEVED * tokens / (tokens + half)


def achieved_on_gpu(setting: Setting, card: Card) -> float:
    """Operations a second that products achieve."""
    return _share_of_gpu(setting, card) * card.tflops * 1e12


def _share_of_gpu(setting: Setting, card: Card) -> float:
    share = ACHIEVED * (UNPACKED if setting.quantised("language_model") else 1.0)
    return share * (SINGLE if setting.product == 4 and not card.measured else 1.0)


def _on_gpu(shapes: Shapes, setting: Setting, rows: Lengths, card: Card, work: float) -> tuple[float, str]:
    """Likewise: the host starts kernels while the card computes, and the slower of both decides."""
    share = _share_of_gpu(setting, card)
    bandwidth = math.nan if card.bytes_per_s is None else card.bytes_per_s  # of a card that was asked for memory alone
    tokens = setting.recipe.train.micro_batch * rows.mean_tokens
    passes = tokens * traffic(shapes, setting) / (BANDWIDTH * bandwidth)
    starting, computing = KERNEL_SECONDS * kernels(shapes, setting), work / achieved_on_gpu(setting, card) + passes
    if starting > computing:
        return starting, (
            f"assumes {KERNEL_SECONDS * 1e6:.0f} µs to start a kernel, slower than the card computes: larger micro "
            "batches are faster"
        )
    return computing, (
        f"assumes {share:.0%} of peak matmul throughput ({_peak(card)}) and {BANDWIDTH:.0%} of the memory bandwidth "
        f"({bandwidth / 1e12:.3g} TB/s)"
    )


def _peak(card: Card) -> str:
    return f"{card.tflops:.3g} TFLOP/s, {'measured here' if card.measured else 'data sheet'}"


def traffic(shapes: Shapes, setting: Setting) -> float:
    """Bytes per token that a micro batch moves beside its products, the last layer of few tokens left out."""
    text = shapes.text
    layer = NORM_BYTES * text.norms * text.width + MLP_BYTES * text.mlp
    return (text.layers - 1) * layer * (4 / 3 if setting.checkpointing else 1)


def kernels(shapes: Shapes, setting: Setting) -> int:
    """Kernels that a micro batch starts; checkpointing adds a forward pass."""
    text, vision = shapes.text, shapes.vision
    count = REST + text.layers * _started(
        CAPPED_BLOCK if text.capped else BLOCK, len(setting.adapted("language_model", text.linears)), setting
    )
    if setting.cached_features:
        return count
    if not setting.trainable("vision_tower"):
        return count + vision.layers * SIGHT[0]
    return count + vision.layers * _started(SIGHT, len(setting.adapted("vision_tower", vision.linears)), setting)


def _started(block: tuple[int, int], adapters: int, setting: Setting) -> int:
    forward, backward = (own + adapters * one for own, one in zip(block, ADAPTER, strict=True))
    return forward * (2 if setting.checkpointing else 1) + backward


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
