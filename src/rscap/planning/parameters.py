"""What stays in memory whatever the batch: weights, adapters, gradients, optimiser states; by component."""

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
    averages: int = 0
    """Of the importance of each, which AdaLoRA follows (arXiv:2303.10512)."""

    @property
    def gradients(self) -> int:
        return LEARNING * self.learning

    @property
    def optimiser(self) -> int:
        return (2 + self.averages) * LEARNING * self.learning


def residents(shapes: Shapes, setting: Setting) -> dict[Component, Resident]:
    """What each component holds; the head is tied to the embeddings and holds nothing of its own.

    Matrices that all adapters share are counted with the language model.
    """
    vision, text = shapes.vision, shapes.text
    return {
        "vision tower": _blocks(setting, "vision_tower", vision.parameters, vision.linears, vision.layers),
        "projector": _blocks(setting, "projector", shapes.projector.parameters, {"": shapes.projector}, 1),
        "embeddings": _blocks(setting, "language_model", text.embedding_parameters, {}, 0),
        "language model": _blocks(
            setting, "language_model", text.block_parameters, text.linears, text.layers, shared=_shared(shapes, setting)
        ),
        "head": Resident(weights=0, adapters=0, learning=0),
    }


def _blocks(
    setting: Setting, tower: Tower, parameters: int, linears: Mapping[str, Linear], layers: int, *, shared: int = 0
) -> Resident:
    learning = layers * sum(setting.footprint(one).learning for one in setting.adapted(tower, linears))
    if setting.state(tower) == "trained":
        # Inside a PEFT model the tower that learns stands beside its untouched original.
        beside = setting.product * parameters if setting.recipe.adapter else 0
        return Resident(weights=LEARNING * parameters + beside, adapters=shared, learning=parameters)
    weights = setting.product * parameters
    if setting.quantised(tower):
        matrices = layers * sum(one.weights for one in linears.values())
        rows = layers * sum(one.outputs for one in linears.values())
        held = NF4_BYTES * matrices if setting.recipe.model.quantisation == "nf4" else matrices + 4 * rows
        weights += round(held) - setting.product * matrices
    averages = 3 if setting.recipe.adapter is not None and setting.recipe.adapter.method == "adalora" else 0
    return Resident(weights=weights, adapters=LEARNING * learning + shared, learning=learning, averages=averages)


def _shared(shapes: Shapes, setting: Setting) -> int:
    """Bytes of frozen matrices that all adapters read."""
    if setting.recipe.adapter is None:
        return 0
    text = setting.adapted("language_model", shapes.text.linears)
    vision = setting.adapted("vision_tower", shapes.vision.linears)
    return LEARNING * shared_numbers(setting.recipe.adapter, [*text, *vision])
