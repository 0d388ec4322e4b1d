"""What an adapter on one linear map holds, by method: parameters, and what it keeps of a token and of a step.

The methods are PEFT's; docs/adapters.md cites their papers. `in` and `out` are the sides of the map, r the rank.

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

    learning: int
    """Parameters."""
    reads: bool
    """Whether it keeps its input."""
    token: int
    """Kept of a token besides."""
    copied: int
    """Of its parameters, read in products: autocast copies them."""
    composed: int = 0
    """Of matrices made anew in every forward pass and kept."""
    sliced: int = 0
    """Of frozen shared matrices, of which autocast makes a copy in every forward pass, and which is kept."""
    weighs: bool = False
    """Whether its output is multiplied by float32 numbers, so that it is float32 for a moment."""

    @property
    def products(self) -> int:
        """Numbers of all matrices that a token is multiplied with."""
        return self.copied + self.composed + self.sliced


def footprint(adapter: AdapterSection, one: Linear) -> Footprint:
    """The adapter of a recipe on a linear map."""
    rank, sides = starting_rank(adapter.method, adapter.rank), one.inputs + one.outputs
    learning = learned_by_layer(
        adapter.method,
        inputs=one.inputs,
        outputs=one.outputs,
        rank=adapter.rank,
        weight_decomposed=adapter.weight_decomposed,
    )
    match adapter.method:
        case "hira":
            return Footprint(learning=learning, reads=True, token=0, copied=rank * sides, composed=one.weights)
        case "vera":
            return Footprint(
                learning=learning, reads=False, token=rank + one.outputs, copied=0, sliced=rank * sides, weighs=True
            )
        case "miss":
            return Footprint(learning=learning, reads=False, token=rank, copied=rank * one.outputs)
        case "randlora":
            small, large = sorted((one.inputs, one.outputs))
            between = math.ceil(small / rank) * rank
            reads = one.inputs <= one.outputs
            return Footprint(
                learning=learning,
                reads=reads,
                token=0 if reads else between,
                copied=0,
                composed=between * small,
                sliced=between * large,
            )
    token = rank + (2 * one.outputs if adapter.weight_decomposed else 0)
    weighs = adapter.weight_decomposed or adapter.method == "adalora"
    return Footprint(learning=learning, reads=True, token=token, copied=rank * sides, weighs=weighs)


def shared_numbers(adapter: AdapterSection, maps: list[Linear]) -> int:
    """Frozen random matrices that all adapters of a model share, float32 numbers: those of the largest sides."""
    if not maps or adapter.method not in ("vera", "randlora"):
        return 0
    inputs, outputs = max(one.inputs for one in maps), max(one.outputs for one in maps)
    if adapter.method == "vera":
        return adapter.rank * (inputs + outputs)
    small, large = sorted((inputs, outputs))
    return adapter.rank * small + large * math.ceil(small / adapter.rank) * adapter.rank
