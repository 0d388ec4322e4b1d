"""What it costs to draw the captions of an [objective] before they are learned: operations, time, kernels.

All captions of an image grow behind one prefix until the last of them ends. How long they become is not known before a
run; a plan takes them for as long as the references.
"""

from __future__ import annotations

from dataclasses import dataclass

from rscap.model.decoding import PREFIXES
from rscap.planning.cards import Card
from rscap.planning.parameters import Setting
from rscap.planning.sequence import DrawnCaptions, Lengths
from rscap.planning.shapes import Shapes
from rscap.planning.time import (
    ADAPTER,
    BANDWIDTH,
    BLOCK,
    CAPPED_BLOCK,
    HALF_SPEED_BRANCHES,
    KERNEL_SECONDS,
    SIGHT,
    achieved_on_cpu,
    achieved_on_gpu,
    adapter_forward,
    language_forward,
    vision_forward,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Floating-point operations for each image, all of them forward."""

    prefixes: float
    """Of the prefix, and of what the vision tower does once more because it learns."""
    tokens: float
    """Of all tokens behind it."""

    @property
    def total(self) -> float:
        return self.prefixes + self.tokens


def drawing(shapes: Shapes, setting: Setting, rows: Lengths) -> Drawing:
    """The operations of an image's drawn captions; none without an [objective].

    A caption that has ended is computed until the longest of its image has, as `rscap.captioner.sampling` does it.
    """
    if (drawn := rows.drawn) is None:
        return Drawing(prefixes=0.0, tokens=0.0)
    text, setting_of_text = shapes.text, setting.adapted("language_model", shapes.text.linears)
    head = 2.0 * text.embedding_parameters
    prefixes = language_forward(shapes, rows.prefix, 1) + adapter_forward(shapes, setting, rows.prefix, 1) + head
    prefixes += 2 * shapes.projector.weights * shapes.vision.tokens
    if setting.trainable("vision_tower"):  # one that is frozen sees an image once, for both passes
        prefixes += sum(vision_forward(shapes))
    maps = sum(one.weights for one in text.linears.values())
    adapters = sum(setting.footprint(one).products for one in setting_of_text)
    slots = rows.prefix + drawn.captions * drawn.steps / 2  # filled, on average
    layer = 2 * (maps + adapters) + 4 * slots * text.heads * text.head_width
    return Drawing(prefixes=prefixes, tokens=drawn.captions * drawn.steps * (text.layers * layer + head))


def drawing_seconds(shapes: Shapes, setting: Setting, rows: Lengths, card: Card) -> float:
    """Seconds in which the captions of a micro batch are drawn; 0 without an [objective]."""
    if (drawn := rows.drawn) is None:
        return 0.0
    work, images = drawing(shapes, setting, rows), setting.recipe.train.micro_batch
    if setting.device == "cpu":
        peak = card.tflops * 1e12
        reading = images * work.prefixes / (achieved_on_cpu(images * rows.prefix) * peak)
        branches = achieved_on_cpu(images * drawn.captions, half=HALF_SPEED_BRANCHES)
        return reading + images * work.tokens / (branches * peak)
    parts = -(-images // PREFIXES)
    once, step = _kernels(shapes, setting, prefix=True), _kernels(shapes, setting, prefix=False)
    achieved = achieved_on_gpu(setting, card)
    reading = max(KERNEL_SECONDS * parts * once, images * work.prefixes / achieved)
    return reading + drawn.limit * max(KERNEL_SECONDS * step, _read(shapes, setting, card))


def _kernels(shapes: Shapes, setting: Setting, *, prefix: bool) -> int:
    """Kernels of a forward pass."""
    text, vision = shapes.text, shapes.vision
    block = CAPPED_BLOCK if text.capped else BLOCK
    count = text.layers * (block[0] + len(setting.adapted("language_model", text.linears)) * ADAPTER[0])
    if prefix and not setting.cached_features:
        count += vision.layers * (SIGHT[0] + len(setting.adapted("vision_tower", vision.linears)) * ADAPTER[0])
    return count


def _read(shapes: Shapes, setting: Setting, card: Card) -> float:
    """Seconds in which a card reads the language model's weights, as every step does."""
    if card.bytes_per_s is None:
        return 0.0
    text = shapes.text
    weights = text.layers * sum(one.weights for one in text.linears.values())
    size = 0.5 if setting.quantised("language_model") else setting.product
    return (weights * size + text.embedding_parameters * setting.product) / (BANDWIDTH * card.bytes_per_s)


def described(drawn: DrawnCaptions, share: float) -> str:
    """A note of a plan: how many captions, how long they are taken to be, and their share of the time."""
    return (
        f"{drawn.captions} captions of up to {drawn.limit} tokens are drawn of each image before they are learned, "
        f"{share:.0%} of the time; they are taken to be as long as the references, and each to be learned"
    )
