"""The memory of captions that are generated between two steps: no gradients, but a cache of keys and values."""

from __future__ import annotations

from rscap.model.decoding import TOGETHER
from rscap.plan.setting import Setting
from rscap.plan.shapes import Shapes
from rscap.plan.working import frozen_vision, weight_working


def generation_moving(shapes: Shapes, setting: Setting, *, prefix: int) -> int:
    """Peak bytes beside weights while a batch of prefixes is read or continued, at `generate.batch_size`.

    An estimate: within 13 % of what was measured at bench-7M (docs/plan.md).
    """
    decode, shape = setting.recipe.generate, shapes.text
    room = prefix + decode.max_new_tokens * decode.beams
    cache = 2 * shape.layers * shape.groups * shape.head_width * room * setting.residual
    reading = prefix * _reading(shapes, setting) + 2 * prefix * prefix
    if shape.capped:  # scores of all heads in float32 and in the precision of products, and two masks to add
        reading += prefix * prefix * (shape.heads * (4 + 2 * setting.product) + 2 * setting.residual)
    choosing = decode.beams * shape.vocabulary * (4 + setting.product) * (3 if shape.capped else 1)
    seeing = frozen_vision(shapes.vision, setting)
    unpacked = weight_working(shape.linears, setting, "language_model")
    if setting.autocast and setting.state("language_model") == "trained":  # one copy at a time, the head's the largest
        unpacked = setting.product * shape.embedding_parameters
    images = decode.batch_size
    at_once = min(images, TOGETHER) if setting.device == "cpu" else images
    held = images * (shapes.vision.pixels * 4 + cache)
    return held + max(at_once * max(seeing, reading), images * choosing) + unpacked


def _reading(shapes: Shapes, setting: Setting) -> int:
    """Bytes per token where `up` of a block adds its adapter's output: stream, normed stream, four numbers of MLP."""
    detour = bool(setting.targets("language_model")) and setting.detour("language_model")
    numbers = 3 if setting.state("language_model") == "trained" else 4
    narrow = 2 * setting.residual + (4 if detour else setting.product)
    return numbers * setting.inner * shapes.text.mlp + narrow * shapes.text.width
