"""Weights, gradients and optimiser shared out over processes (FSDP, arXiv:2304.11277; torch's `fully_shard`).

Every layer but the language model's last is a unit of its own; the last, the embeddings and the rest are one more,
gathered for as long as a step runs, because the captioner reads into its last layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from rscap.errors import RecipeError
from rscap.model.captioner import Captioner
from rscap.recipe import Recipe


def sharding_asked() -> bool:
    """Whether the launcher was told to shard (`accelerate launch --use_fsdp`)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def check_shardable(recipe: Recipe) -> None:
    """Refuse what a sharded run cannot do.

    Raises:
        RecipeError: names the key.
    """
    refused = {
        "model.quantisation": recipe.model.quantisation != "none",
        "model.dtype = 'float16'": recipe.model.dtype == "float16",
        "train.evaluate_every": recipe.train.evaluate_every is not None,
        "adapter.method = 'adalora'": recipe.adapter is not None and recipe.adapter.method == "adalora",
    }
    if found := [name for name, is_so in refused.items() if is_so]:
        raise RecipeError(
            f"with FSDP a recipe cannot have {', '.join(found)}",
            hint="launch with --multi_gpu instead, where every GPU holds the whole base; or evaluate after the run",
        )


def shard(captioner: Captioner, device: torch.device) -> None:
    """Share out a captioner's weights over all processes, in place."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    model = captioner.paligemma.model
    vision = getattr(model.vision_tower, "vision_model", model.vision_tower)
    for layer in (*vision.encoder.layers, *model.language_model.layers[:-1], captioner):
        unit = fully_shard(layer, mesh=mesh)
        assert isinstance(unit, FSDPModule)
        unit.set_force_sum_reduction_for_comms(True)  # gloo knows sums alone
        unit.set_gradient_divide_factor(1.0)  # the loss is divided by the tokens of the whole update already
    register_fsdp_forward_method(captioner, "token_losses")


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sharded tensors, gathered; every process must call it."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}


def like(value: Tensor, parameter: nn.Parameter | Tensor) -> Tensor:
    """A whole tensor shared out as `parameter` is; itself, where that is not sharded."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
