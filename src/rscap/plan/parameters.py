"""What stays in memory whatever the batch: weights, adapters, gradients, optimiser states; by component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rscap.plan.setting import Setting
from rscap.plan.shapes import Linear, Shapes
from rscap.recipe import Tower

Component = Literal["vision tower", "projector", "embeddings", "language model", "head"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

LEARNING = 4
"""Bytes of a weight that learns, and of its gradient; AdamW (arXiv:1711.05101) holds two such numbers more."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Four bits; a scale of one byte a block of 64; a float32 a 256 of those (QLoRA, arXiv:2305.14314, section 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of one component that stay from step to step, and how many parameters learn."""

    weights: int
    """Of the base model, learning ones included."""
    adapters: int
    learning: int
    """Parameters, adapters included."""

    @property
    def gradients(self) -> int:
        return LEARNING * self.learning

    @property
    def optimiser(self) -> int:
        return 2 * LEARNING * self.learning


def residents(shapes: Shapes, setting: Setting) -> dict[Component, Resident]:
    """What each component holds; the head is tied to the embeddings and holds nothing of its own."""
    vision, text = shapes.vision, shapes.text
    return {
        "vision tower": _blocks(setting, "vision_tower", vision.parameters, vision.linears, vision.layers),
        "projector": _blocks(setting, "projector", shapes.projector.parameters, {"": shapes.projector}, 1),
        "embeddings": _blocks(setting, "language_model", text.embedding_parameters, {}, 0),
        "language model": _blocks(setting, "language_model", text.block_parameters, text.linears, text.layers),
        "head": Resident(weights=0, adapters=0, learning=0),
    }


def adapter_parameters(setting: Setting, one: Linear) -> int:
    """Parameters of the adapter of one linear map: A and B, and DoRA's magnitudes."""
    return setting.rank * (one.inputs + one.outputs) + (one.outputs if setting.decomposed else 0)


def _blocks(setting: Setting, tower: Tower, parameters: int, linears: Mapping[str, Linear], layers: int) -> Resident:
    adapters = layers * sum(adapter_parameters(setting, one) for one in setting.adapted(tower, linears))
    if setting.state(tower) == "trained":
        # Inside a PEFT model the tower that learns stands beside its untouched original.
        beside = setting.product * parameters if setting.recipe.adapter else 0
        return Resident(weights=LEARNING * parameters + beside, adapters=0, learning=parameters)
    weights = setting.product * parameters
    if setting.quantised(tower):
        matrices = layers * sum(one.weights for one in linears.values())
        rows = layers * sum(one.outputs for one in linears.values())
        held = NF4_BYTES * matrices if setting.recipe.model.quantisation == "nf4" else matrices + 4 * rows
        weights += round(held) - setting.product * matrices
    return Resident(weights=weights, adapters=LEARNING * adapters, learning=adapters)
