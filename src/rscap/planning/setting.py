"""Recipe settings that affect memory: precision, trainable weights, how adapters read their input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from rscap.planning.adapters import Footprint, footprint
from rscap.planning.shapes import Linear
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
