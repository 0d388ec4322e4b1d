"""The memory of an adapter on one linear layer, by method: parameters, and what it keeps per token and per step.

The methods are PEFT's; docs/adapters.md cites their papers. A layer maps x to x W'; r is the rank.

lora, pissa, olora, eva, corda   x A' B': A's input and output; DoRA also the two outputs that it weighs
adalora                          x (A E)' B': the same at the rank it begins with
hira                             x (W * BA)': its input, and the composed matrix itself
vera                             b * ((d * x A') B'), A and B shared and frozen: what d and b scale
randlora                         x (scaled A)' B': the smaller of both sides in between, and both composed matrices
miss                             blocks of x, summed, times one matrix: the sums
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rscap.methods import learned_by_layer, starting_rank
from rscap.planning.shapes import Linear
from rscap.recipe import AdapterSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """One adapter, in numbers (not bytes)."""

    trainable: int
    """Parameters."""
    reads: bool
    """True if it keeps its input."""
    token: int
    """Kept per token besides."""
    copied: int
    """Parameters that enter matrix products: autocast copies them."""
    composed: int = 0
    """Numbers of matrices that every forward pass computes and keeps."""
    sliced: int = 0
    """Numbers of frozen shared matrices, which autocast copies in every forward pass and keeps."""
    weighs: bool = False
    """True if its output is multiplied by float32 numbers, and so becomes float32 briefly."""

    @property
    def products(self) -> int:
        """Numbers of all matrices that multiply a token."""
        return self.copied + self.composed + self.sliced


def footprint(adapter: AdapterSection, one: Linear) -> Footprint:
    """The adapter of a recipe on a linear layer."""
    rank, sides = starting_rank(adapter.method, adapter.rank), one.inputs + one.outputs
    trainable = learned_by_layer(
        adapter.method,
        inputs=one.inputs,
        outputs=one.outputs,
        rank=adapter.rank,
        weight_decomposed=adapter.weight_decomposed,
    )
    match adapter.method:
        case "hira":
            return Footprint(trainable=trainable, reads=True, token=0, copied=rank * sides, composed=one.weights)
        case "vera":
            return Footprint(
                trainable=trainable, reads=False, token=rank + one.outputs, copied=0, sliced=rank * sides, weighs=True
            )
        case "miss":
            return Footprint(trainable=trainable, reads=False, token=rank, copied=rank * one.outputs)
        case "randlora":
            small, large = sorted((one.inputs, one.outputs))
            between = math.ceil(small / rank) * rank
            reads = one.inputs <= one.outputs
            return Footprint(
                trainable=trainable,
                reads=reads,
                token=0 if reads else between,
                copied=0,
                composed=between * small,
                sliced=between * large,
            )
    token = rank + (2 * one.outputs if adapter.weight_decomposed else 0)
    weighs = adapter.weight_decomposed or adapter.method == "adalora"
    return Footprint(trainable=trainable, reads=True, token=token, copied=rank * sides, weighs=weighs)


def shared_numbers(adapter: AdapterSection, maps: list[Linear]) -> int:
    """Float32 numbers of the frozen random matrices that all adapters of a model share: those of the largest sides."""
    if not maps or adapter.method not in ("vera", "randlora"):
        return 0
    inputs, outputs = max(one.inputs for one in maps), max(one.outputs for one in maps)
    if adapter.method == "vera":
        return adapter.rank * (inputs + outputs)
    small, large = sorted((inputs, outputs))
    return adapter.rank * small + large * math.ceil(small / adapter.rank) * adapter.rank
