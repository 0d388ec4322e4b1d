"""What a recipe settles before any batch: precision, trainable weights, and the bytes of weights, adapters, gradients
and optimiser states by component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from rscap.planning.shapes import Footprint, Linear, Shapes, footprint, shared_numbers
from rscap.recipe import Recipe, Tower, TowerState

Device = Literal["cuda", "cpu"]

BYTES: Mapping[str, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})
"""Bytes of one number."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A recipe on a kind of device; all sizes are bytes of one number."""

    recipe: Recipe
    device: Device = "cuda"

    @property
    def product(self) -> int:
        """Of matrix products and their outputs."""
        return BYTES[self.recipe.model.dtype]

    @property
    def autocast(self) -> bool:
        return self.product < 4

    def state(self, tower: Tower) -> TowerState:
        state: TowerState = getattr(self.recipe.towers, tower)
        return state

    def trainable(self, tower: Tower) -> bool:
        return self.state(tower) != "frozen"

    def quantised(self, tower: Tower) -> bool:
        return self.recipe.model.quantisation != "none" and tower in self.recipe.model.quantise

    def eight_bit(self, tower: Tower) -> bool:
        return self.recipe.model.quantisation == "int8" and self.quantised(tower)

    @property
    def residual(self) -> int:
        """Of the residual stream of the language model: see `_stream`."""
        return self._stream("language_model")

    @property
    def vision_residual(self) -> int:
        return self._stream("vision_tower")

    @property
    def inner(self) -> int:
        """Of the outputs of language-model layers that read the stream: 4- and 8-bit layers answer in its precision.

        On a CPU bitsandbytes multiplies unpacked 8-bit weights under autocast, so 8-bit layers do not.
        """
        answers = self.quantised("language_model") and not (self.eight_bit("language_model") and self.device == "cpu")
        return self.residual if answers else self.product

    def _stream(self, tower: Tower) -> int:
        """float32 if the tower's weights are float32, or if products are float16, which cannot hold the sums."""
        wide = self.state(tower) == "trained" or self.recipe.model.dtype == "float16"
        return 4 if wide else self.product

    @property
    def vision_norm(self) -> int:
        """Of what a LayerNorm of the vision tower keeps and returns: under autocast CUDA computes it in float32."""
        return 4 if self.autocast and self.device == "cuda" else self.vision_residual

    def targets(self, tower: Tower) -> frozenset[str]:
        """Names of the linear layers that carry an adapter."""
        adapter = self.recipe.adapter
        if adapter is None or self.state(tower) != "adapted":
            return frozenset()
        return frozenset(adapter.vision_targets if tower == "vision_tower" else adapter.language_targets)

    def footprint(self, one: Linear) -> Footprint:
        """The adapter on a linear layer that carries one."""
        if self.recipe.adapter is None:
            raise ValueError(f"no adapter on {one.name}")
        return footprint(self.recipe.adapter, one)

    @property
    def dropout(self) -> bool:
        return self.recipe.adapter is not None and self.recipe.adapter.dropout > 0

    @property
    def decomposed(self) -> bool:
        return self.recipe.adapter is not None and self.recipe.adapter.weight_decomposed

    def mask(self, given: int) -> int:
        """Of dropout's mask, per number: CUDA's kernel keeps a boolean, the CPU's a number like its input."""
        return 1 if self.device == "cuda" else given

    @property
    def flex(self) -> bool:
        """True if training uses FlexAttention."""
        return self.device == "cuda" and self.recipe.model.attention == "flex"

    @property
    def checkpointing(self) -> bool:
        """`auto` is resolved before any estimate, see `rscap.planning.search`."""
        return self.recipe.train.gradient_checkpointing is True

    @property
    def cached_features(self) -> bool:
        return self.recipe.train.cache_features

    @property
    def accumulates(self) -> bool:
        """True if gradients of earlier micro batches exist when a forward pass begins."""
        return self.recipe.train.accumulation > 1

    def adapted(self, tower: Tower, linears: Mapping[str, Linear]) -> list[Linear]:
        """The linear layers of a block of `tower` that carry an adapter."""
        return [one for name, one in linears.items() if name in self.targets(tower)]


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
    """Moving averages per parameter: AdaLoRA's of its importance (arXiv:2303.10512), and that of `train.ema_decay`."""

    @property
    def gradients(self) -> int:
        return TRAINABLE * self.trainable

    @property
    def optimiser(self) -> int:
        return (2 + self.averages) * TRAINABLE * self.trainable


def residents(shapes: Shapes, setting: Setting) -> dict[Component, Resident]:
    """What each component holds; a head that is tied to the embeddings adds nothing.

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
        "head": _blocks(setting, "language_model", text.head_parameters, {}, 0),
    }


def _blocks(
    setting: Setting, tower: Tower, parameters: int, linears: Mapping[str, Linear], layers: int, *, shared: int = 0
) -> Resident:
    averages = int(setting.recipe.train.ema_decay is not None)
    trainable = layers * sum(setting.footprint(one).trainable for one in setting.adapted(tower, linears))
    if setting.state(tower) == "trained":
        # A PEFT model keeps the original of a trained tower beside the trained copy.
        beside = setting.product * parameters if setting.recipe.adapter else 0
        return Resident(
            weights=TRAINABLE * parameters + beside, adapters=shared, trainable=parameters, averages=averages
        )
    weights = setting.product * parameters
    if setting.quantised(tower):
        matrices = layers * sum(one.weights for one in linears.values())
        rows = layers * sum(one.outputs for one in linears.values())
        held = NF4_BYTES * matrices if setting.recipe.model.quantisation == "nf4" else matrices + 4 * rows
        weights += round(held) - setting.product * matrices
    if setting.recipe.adapter is not None and setting.recipe.adapter.method == "adalora":
        averages += 3
    return Resident(weights=weights, adapters=TRAINABLE * trainable + shared, trainable=trainable, averages=averages)


def _shared(shapes: Shapes, setting: Setting) -> int:
    """Bytes of frozen matrices that all adapters share."""
    if setting.recipe.adapter is None:
        return 0
    text = setting.adapted("language_model", shapes.text.linears)
    vision = setting.adapted("vision_tower", shapes.vision.linears)
    return TRAINABLE * shared_numbers(setting.recipe.adapter, [*text, *vision])
