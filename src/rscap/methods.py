"""Adapter methods by name: their defaults, what each starts from, and which settings mean something to it.

No torch here: recipes are checked with this table before anything is loaded. docs/adapters.md cites the papers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

AdapterMethod = Literal["lora", "pissa", "olora", "eva", "corda", "hira", "randlora", "vera", "adalora", "miss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What sets one method apart from LoRA."""

    rank: int = 16
    """Rank where the recipe gives none."""
    alpha: float | None = 32.0
    """Numerator of the scale where the recipe gives none; None: the method has no scale."""
    alpha_per_rank: float | None = None
    """The default alpha is this times the rank."""
    lora: bool = False
    """Plain LoRA matrices, started in some way: rsLoRA and DoRA apply."""
    b_matrices: bool = False
    """Has B matrices that start apart from the A matrices, so that LoRA+ applies."""
    residual: bool = False
    """Moves a part of the base's weights into the adapter, so it needs the unquantised weights to start from."""
    calibration_images: int | None = None
    """Training images whose activations it starts from, where the recipe gives no number."""


METHODS: dict[AdapterMethod, Method] = {
    "lora": Method(lora=True, b_matrices=True),
    "pissa": Method(lora=True, b_matrices=True, residual=True),
    "olora": Method(alpha_per_rank=1.0, lora=True, b_matrices=True, residual=True),
    "eva": Method(lora=True, b_matrices=True, calibration_images=64),
    "corda": Method(lora=True, b_matrices=True, residual=True, calibration_images=256),
    "hira": Method(alpha=None, b_matrices=True),
    "randlora": Method(rank=32, alpha_per_rank=20.0),
    "vera": Method(rank=256, alpha=None),
    "adalora": Method(),
    "miss": Method(alpha=None),
}
assert tuple(METHODS) == get_args(AdapterMethod)


def with_defaults(section: Mapping[str, Any]) -> dict[str, Any]:
    """An [adapter] table with rank, alpha and calibration_images of its method where it gives none."""
    filled = dict(section)
    if (name := filled.get("method", "lora")) not in get_args(AdapterMethod):
        return filled  # the caller's check of the name says which there are
    method = METHODS[name]
    rank = filled.setdefault("rank", method.rank)
    alpha = method.alpha
    if method.alpha_per_rank is not None and isinstance(rank, int):
        alpha = method.alpha_per_rank * rank
    for key, value in (("alpha", alpha), ("calibration_images", method.calibration_images)):
        if value is not None:
            filled.setdefault(key, value)
    return filled


def starting_rank(name: AdapterMethod, rank: int) -> int:
    """The rank that layers begin with: AdaLoRA's first budget is 1.5 times its last (arXiv:2303.10512)."""
    return math.ceil(1.5 * rank) if name == "adalora" else rank


def learned_by_layer(
    name: AdapterMethod, *, inputs: int, outputs: int, rank: int, weight_decomposed: bool = False
) -> int:
    """How many parameters one adapted layer of `inputs` x `outputs` learns; `rank` is the recipe's.

    EVA gives layers ranks of its own, `rank` on average.
    """
    rank = starting_rank(name, rank)
    match name:
        case "adalora":
            return rank * (inputs + outputs + 1)
        case "vera":
            return rank + outputs
        case "randlora":
            bases = math.ceil(min(inputs, outputs) / rank)
            return bases * (rank + min(inputs, outputs))
        case "miss":
            return rank * outputs
    return rank * (inputs + outputs) + (outputs if weight_decomposed else 0)


def refusal(
    name: AdapterMethod,
    *,
    alpha: float | None,
    rank_stabilised: bool,
    weight_decomposed: bool,
    lora_plus_ratio: float,
    calibration_images: int | None,
) -> str | None:
    """Why these settings do not go with the method, or None. What would change nothing is refused, not ignored."""
    method = METHODS[name]
    if rank_stabilised and not method.lora:
        return (
            f"rank_stabilised (rsLoRA) rescales LoRA's product; method {name!r} has none to rescale ({_having('lora')})"
        )
    if weight_decomposed and not method.lora:
        return f"weight_decomposed (DoRA) is defined for LoRA's matrices, not for method {name!r} ({_having('lora')})"
    if lora_plus_ratio != 1.0 and not method.b_matrices:
        return (
            f"lora_plus_ratio (LoRA+) sets the rate of B matrices that start at zero or apart from A; method {name!r} "
            f"has none ({_having('b_matrices')})"
        )
    if alpha is not None and method.alpha is None:
        return f"alpha scales nothing in method {name!r}, whose update has no scale; leave it out"
    if calibration_images is not None and method.calibration_images is None:
        return f"method {name!r} starts without looking at images; leave calibration_images out"
    return None


def _having(trait: str) -> str:
    return "it goes with " + ", ".join(name for name, method in METHODS.items() if getattr(method, trait))
