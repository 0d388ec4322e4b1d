"""Operations of a training step, from the shape alone: two for each weight and token, and those of attention."""

from __future__ import annotations

from dataclasses import dataclass

from rscap.plan.setting import Setting
from rscap.plan.shapes import Shapes
from rscap.recipe import TowerState

BACKWARD: dict[TowerState, int] = {"frozen": 1, "adapted": 1, "trained": 2}
"""Backward over forward: gradients of inputs, and of weights where they learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Floating-point operations of one image, forward and backward together."""

    vision: float
    projector: float
    language: float
    adapters: float
    head: float
    again: float
    """Computed a second time for checkpointing."""

    @property
    def total(self) -> float:
        return self.vision + self.projector + self.language + self.adapters + self.head + self.again


def operations(shapes: Shapes, setting: Setting, *, tokens: float, supervised: float) -> Operations:
    """Of one image with `tokens` in its packed row, `supervised` of them with a target.

    The last layer computes its queries and MLP for supervised tokens alone. Adapters cost three times their forward
    pass, whatever they sit on.
    """
    seeing, patches = (0.0, 0.0) if setting.cached_features else _vision_forward(shapes)
    language = _language_forward(shapes, tokens, supervised)
    passes = 1 + BACKWARD[setting.state("language_model")]
    vision_passes = 1 + BACKWARD[setting.state("vision_tower")] if setting.learns("vision_tower") else 1
    upstream = setting.learns("vision_tower") or setting.learns("projector")
    projector = 2 * shapes.projector.weights * shapes.vision.tokens
    adapters = _adapter_forward(shapes, setting, tokens, supervised)
    again = 0.0
    if setting.checkpointing:
        again = language - _last_layer(shapes, tokens, supervised) + adapters
        again += seeing if setting.learns("vision_tower") else 0.0
    return Operations(
        vision=vision_passes * seeing + patches * (2 if setting.state("vision_tower") == "trained" else 1),
        projector=projector * (1 + (BACKWARD[setting.state("projector")] if upstream else 0)),
        language=passes * language,
        adapters=3 * adapters,
        head=passes * 2 * shapes.text.embedding_parameters * supervised,
        again=again,
    )


def _vision_forward(shapes: Shapes) -> tuple[float, float]:
    """All blocks, and the patches before them, whose pixels need no gradient."""
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
    """Two operations for each parameter of LoRA, and of what takes its place, and token; see `_last_layer`."""
    text, vision = shapes.text, shapes.vision
    adapted = {one.name: setting.footprint(one) for one in setting.adapted("language_model", text.linears)}
    sizes = {name: one.products for name, one in adapted.items()}
    read = sum(sizes.get(name, 0) for name in ("k_proj", "v_proj"))
    whole = sum(sizes.values())
    prints = [setting.footprint(one) for one in setting.adapted("vision_tower", vision.linears)]
    seen = vision.layers * vision.tokens * sum(one.products for one in prints)
    said = (text.layers - 1) * whole * tokens + read * tokens + (whole - read) * supervised
    return 2.0 * (said + seen)
