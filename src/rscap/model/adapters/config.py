"""The recipe's [adapter] section in PEFT's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rscap.methods import starting_rank
from rscap.recipe import AdapterSection

EVA_RHO = 2.0
"""EVA may give a layer up to this many times the mean rank (rho in arXiv:2410.07170, PEFT's default)."""


def scale(adapter: AdapterSection, rank: int | None = None) -> float:
    """The factor of a LoRA product: alpha / r, or alpha / sqrt(r) for rsLoRA."""
    if adapter.alpha is None:
        raise ValueError(f"method {adapter.method!r} has no scale")
    rank = rank or adapter.rank
    return adapter.alpha / (math.sqrt(rank) if adapter.rank_stabilised else rank)


def peft_config(
    adapter: AdapterSection, *, targets: str, whole: list[str] | None, seed: int, ranks: Mapping[str, int]
) -> Any:
    """PEFT's configuration of a method.

    `ranks` holds the layers whose rank is not the recipe's; their alpha is set so that the scale stays the same.
    `whole` names the modules that are trained whole beside the adapter.
    """
    from peft import AdaLoraConfig, HiraConfig, LoraConfig, MissConfig, RandLoraConfig, VeraConfig

    common = {"target_modules": targets, "modules_to_save": whole}
    rank, dropout = adapter.rank, adapter.dropout
    match adapter.method:
        case "hira":
            return HiraConfig(r=rank, hira_dropout=dropout, **common)
        case "randlora":
            return RandLoraConfig(
                r=rank, randlora_alpha=adapter.alpha, randlora_dropout=dropout, projection_prng_key=seed, **common
            )
        case "vera":
            return VeraConfig(r=rank, vera_dropout=dropout, projection_prng_key=seed, **common)
        case "miss":
            return MissConfig(r=rank, miss_dropout=dropout, **common)
        case "adalora":
            # The schedule is set by `Allocation.of`, which knows how many steps there will be.
            return AdaLoraConfig(
                init_r=starting_rank(adapter.method, rank),
                target_r=rank,
                lora_alpha=adapter.alpha,
                lora_dropout=dropout,
                total_step=1,
                **common,
            )
    # init_lora_weights stays at its default for the other starts too: we start the matrices ourselves (`start.py`),
    # and the saved adapter must not be started again by whoever loads it.
    return LoraConfig(
        r=rank,
        lora_alpha=adapter.alpha,
        lora_dropout=dropout,
        use_rslora=adapter.rank_stabilised,
        use_dora=adapter.weight_decomposed,
        rank_pattern=dict(ranks),
        alpha_pattern={name: _alpha_for(adapter, other) for name, other in ranks.items()},
        bias="none",
        **common,
    )


def _alpha_for(adapter: AdapterSection, rank: int) -> float:
    """The alpha that gives a layer of another rank the recipe's scale."""
    return scale(adapter) * (math.sqrt(rank) if adapter.rank_stabilised else rank)
