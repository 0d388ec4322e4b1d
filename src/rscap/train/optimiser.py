"""AdamW over what learns, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from rscap.model.adapters import parameter_groups
from rscap.recipe import Recipe, TrainSection


def rate_factor(step: int, *, train: TrainSection, total_steps: int) -> float:
    """Share of the peak learning rate at update `step`, from 0: linear warm-up, then cosine, linear or constant."""
    warmup = round(train.warmup_share * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda _: 1.0,
        "linear": lambda done: 1.0 - done,
        "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    }
    return shapes[train.schedule](progress)


def build_optimiser(
    net: nn.Module, recipe: Recipe, *, total_steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW (arXiv:1711.05101) with LoRA+ groups, and its schedule."""
    train = recipe.train
    groups = parameter_groups(
        net,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lora_plus_ratio=recipe.adapter.lora_plus_ratio if recipe.adapter else 1.0,
    )
    optimiser = torch.optim.AdamW(groups, betas=train.betas, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(rate_factor, train=train, total_steps=total_steps))
    return optimiser, scheduler
