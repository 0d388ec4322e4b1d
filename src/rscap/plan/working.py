"""What a block needs on top of what it keeps, while it computes: the largest set of short-lived tensors, in bytes."""

from __future__ import annotations

from collections.abc import Mapping

from rscap.plan.kept import mlp_kept, vision_mlp_kept
from rscap.plan.setting import Setting
from rscap.plan.shapes import Linear, TextShape, VisionShape
from rscap.recipe import Tower


def text_working(shape: TextShape, setting: Setting, *, queries: int) -> int:
    """Bytes per image of a block of Gemma, in its forward or backward pass, whichever takes more.

    Both have their peak at the MLP, the widest part. Backward through the product of gate and up: the three that were
    kept, the gradient that comes and the two that go, less what is no longer kept.
    """
    wide, stream = setting.inner, setting.residual * shape.width
    backward = max(6 * wide, 3 * wide + _dropped(setting, "language_model")) * shape.mlp
    forward = _input_of(setting, "language_model", shape.linears["down_proj"], wide) + 2 * wide * shape.width
    forward = max(forward, _weighed(setting, "language_model", shape.linears))
    return queries * (stream + max(forward, backward - mlp_kept(shape, setting)))


def vision_working(shape: VisionShape, setting: Setting) -> int:
    """Bytes per image of a block of SigLIP that learns; backward through GELU: what it read, and two gradients."""
    product, stream = setting.product, setting.vision_residual * shape.width
    backward = max(3 * product, product + _dropped(setting, "vision_tower")) * shape.mlp
    forward = _input_of(setting, "vision_tower", shape.linears["fc2"], product) + 2 * product * shape.width
    forward = max(forward, _weighed(setting, "vision_tower", shape.linears))
    return shape.tokens * (stream + max(forward, backward - vision_mlp_kept(shape, setting)))


def frozen_vision(shape: VisionShape, setting: Setting) -> int:
    """Bytes per image while a frozen tower sees: stream, norm, and what GELU reads and gives."""
    product = setting.product
    return shape.tokens * (2 * product * shape.mlp + (setting.vision_residual + setting.vision_norm) * shape.width)


def weight_working(linears: Mapping[str, Linear], setting: Setting, tower: Tower) -> int:
    """Bytes that do not grow with the batch: a matrix unpacked from 4 or 8 bits, and what adapters make of matrices.

    DoRA multiplies an identity through its adapter and adds up weights in float32 for their norms; composed matrices
    have factors, and gradients as large as themselves.
    """
    unpacked = max(one.weights for one in linears.values()) * setting.product if setting.quantised(tower) else 0
    adapted = setting.adapted(tower, linears)
    prints = [setting.footprint(one) for one in adapted]
    made = [setting.product * (2 * one.composed + (one.sliced if setting.autocast else 0)) for one in prints]
    identity = 4 + (setting.product if setting.autocast else 0)
    if setting.decomposed:
        made += [one.inputs * max(identity * one.inputs, 16 * one.outputs) for one in adapted]
    return max([unpacked, *made])


def _input_of(setting: Setting, tower: Tower, down: Linear, given: int) -> int:
    """Bytes per token at the last map of an MLP: its input, and the casts and the dropout of an adapter on it."""
    if setting.state(tower) == "trained":
        return 0
    if down.name not in setting.targets(tower) or not setting.detour(tower):
        return given * down.inputs
    cast = 4 if given < 4 else 0
    return (given + cast + (4 if setting.dropout else 0)) * down.inputs


def _weighed(setting: Setting, tower: Tower, linears: Mapping[str, Linear]) -> int:
    """Bytes per token while an adapter weighs its output by float32 numbers: three of them, less what is yet to come.

    DoRA weighs the output of the map likewise.
    """
    weighing = [one.outputs for one in setting.adapted(tower, linears) if setting.footprint(one).weighs]
    return (3 * 4 - setting.product) * max(weighing, default=0)


def _dropped(setting: Setting, tower: Tower) -> int:
    """Bytes a number while the gradient passes an adapter's dropout: mask, gradient, result."""
    if not setting.dropout:
        return 0
    wide = 4 if setting.detour(tower) else setting.product
    return setting.mask(tower) + 2 * wide
