"""Memory that does not depend on the batch: weights, adapters, gradients and optimiser states, by component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rscap.planning.adapters import shared_numbers
from rscap.planning.setting import Setting
from rscap.planning.shapes import Linear, Shapes
from rscap.recipe import Tower

Component = Literal["vision tower", "projector", "embeddings", "language model", "head"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

TRAINABLE = 4
"""Bytes of a trainable weight, and of its gradient; AdamW (arXiv:1711.05101) holds two more such numbers."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Four bits; a scale of one byte a block of 64; a float32 a 256 of those (QLoRA, arXiv:2305.14314, section 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of one component that stay from step to step, and its trainable parameters."""

    weights: int
    """Of the base model, trainable ones included."""
    adapters: int
    trainable: int
    """Parameters, adapters included."""
    averages: int = 0
    """Moving averages per parameter that AdaLoRA keeps of its importance (arXiv:2303.10512)."""

    @property
    def gradients(self) -> int:
        return TRAINABLE * self.trainable

    @property
    def optimiser(self) -> int:
        return (2 + self.averages) * TRAINABLE * self.trainable


def residents(shapes: Shapes, setting: Setting) -> dict[Component, Resident]:
    """What each component holds; the head is tied to the embeddings and adds nothing.

    Matrices that all adapters share count with the language model.
    """
    vision, text = shapes.vision, shapes.text
    return {
        "vision tower": _blocks(setting, "vision_tower", vision.parameters, vision.linears, vision.layers),
        "projector": _blocks(setting, "projector", shapes.projector.parameters, {"": shapes.projector}, 1),
        "embeddings": _blocks(setting, "language_model", text.embedding_parameters, {}, 0),
        "language model": _blocks(
            setting, "language_model", text.block_parameters, text.linears, text.layers, shared=_shared(shapes, setting)
        ),
        "head": Resident(weights=0, adapters=0, trainable=0),
    }


def _blocks(
    setting: Setting, tower: Tower, parameters: int, linears: Mapping[str, Linear], layers: int, *, shared: int = 0
) -> Resident:
    trainable = layers * sum(setting.footprint(one).trainable for one in setting.adapted(tower, linears))
    if setting.state(tower) == "trained":
        # A PEFT model keeps the original of a trained tower beside the trained copy.
        beside = setting.product * parameters if setting.recipe.adapter else 0
        return Resident(weights=TRAINABLE * parameters + beside, adapters=shared, trainable=parameters)
    weights = setting.product * parameters
    if setting.quantised(tower):
        matrices = layers * sum(one.weights for one in linears.values())
        rows = layers * sum(one.outputs for one in linears.values())
        held = NF4_BYTES * matrices if setting.recipe.model.quantisation == "nf4" else matrices + 4 * rows
        weights += round(held) - setting.product * matrices
    averages = 3 if setting.recipe.adapter is not None and setting.recipe.adapter.method == "adalora" else 0
    return Resident(weights=weights, adapters=TRAINABLE * trainable + shared, trainable=trainable, averages=averages)


def _shared(shapes: Shapes, setting: Setting) -> int:
    """Bytes of frozen matrices that all adapters share."""
    if setting.recipe.adapter is None:
        return 0
    text = setting.adapted("language_model", shapes.text.linears)
    vision = setting.adapted("vision_tower", shapes.vision.linears)
    return TRAINABLE * shared_numbers(setting.recipe.adapter, [*text, *vision])
