"""The memory of captions that are generated between two steps: no gradients, but a cache of keys and values."""

from __future__ import annotations

from rscap.plan.setting import Setting
from rscap.plan.shapes import Shapes
from rscap.plan.working import frozen_vision, weight_working
from rscap.recipe import Tower


def generation_moving(shapes: Shapes, setting: Setting, *, prefix: int) -> int:
    """Peak bytes beside weights while a batch of prefixes is read or continued, at `generate.batch_size`."""
    decode, shape = setting.recipe.generate, shapes.text
    room = prefix + decode.max_new_tokens * decode.beams
    inner = shape.groups * shape.head_width
    cache = 2 * shape.layers * inner * room * setting.residual
    reading = prefix * _reading(shapes, setting) + prefix * prefix * (2 * setting.residual + 2)
    if shape.capped:  # scores of all heads in float32, and in the precision of products
        reading += shape.heads * prefix * prefix * (4 + 2 * setting.product)
    choosing = decode.beams * shape.vocabulary * (4 + setting.product) * (3 if shape.capped else 1)
    seeing = shapes.vision.pixels * 4 + frozen_vision(shapes.vision, setting)
    unpacked = weight_working(shape.linears, setting, "language_model")
    return decode.batch_size * (cache + max(seeing, reading, choosing)) + unpacked + _casts(shapes, setting)


def _reading(shapes: Shapes, setting: Setting) -> int:
    """Bytes per token at the MLP of a block without gradients, casts of an adapter's input included."""
    shape, product = shapes.text, setting.product
    tower: Tower = "language_model"
    wide = 4 * product
    if "down_proj" in setting.targets(tower) and setting.detour(tower):
        wide = max(wide, 2 * product + 4)
    return wide * shape.mlp + 3 * setting.residual * shape.width


def _casts(shapes: Shapes, setting: Setting) -> int:
    """Copies that autocast makes of weights held in float32."""
    if not setting.autocast or setting.state("language_model") != "trained":
        return 0
    return setting.product * (shapes.text.block_parameters + shapes.text.embedding_parameters)
