"""One update by one process or by many: which process takes which images, and how their gradients are summed.

An update is `micro_batch x accumulation` images, however many processes there are: its images are dealt out in turn,
every process divides by the tokens of the whole update, and the gradients are summed. So the number of processes only
changes the speed, and the short last update of an epoch loses nothing. Dropout alone differs: its masks are drawn for a
micro batch, and other processes form other micro batches.

No process works for minutes while the others wait for it in a collective: images are decoded and vision features
computed by all of them, each a part. The wait may last WAIT, for disks and downloads that are slow on one of them.

With FSDP (arXiv:2304.11277; torch's `fully_shard`) weights, gradients and optimiser state are sharded over the
processes too. Every layer except the last of the language model is a unit of its own; that layer, the embeddings and
the rest are one more unit, which stays gathered during a step, because `PackedModel` reads into the last layer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from rscap.errors import RecipeError, TrainingError
from rscap.model.packed import PackedModel
from rscap.progress import Say
from rscap.recipe import Recipe
from rscap.training.updates import Share

WAIT = timedelta(hours=2)
"""How long a process waits for the others. NCCL's own limit is 10 minutes, too short for a slow disk to read a large
base model."""

Item = TypeVar("Item")


def sharding_asked() -> bool:
    """Whether the launcher was asked to shard (`accelerate launch --use_fsdp`)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def shard(packed: PackedModel, device: torch.device) -> None:
    """Shard the weights of a model over all processes, in place."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    vision = getattr(packed.vision, "vision_model", packed.vision)
    for layer in (*vision.encoder.layers, *packed.language.layers[:-1], packed):
        unit = fully_shard(layer, mesh=mesh)
        assert isinstance(unit, FSDPModule)
        unit.set_force_sum_reduction_for_comms(True)  # gloo can only sum
        unit.set_gradient_divide_factor(1.0)  # the loss is already divided by the tokens of the whole update
    register_fsdp_forward_method(packed, "token_losses")


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather sharded tensors; every process must call it."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}


def sharded_like(value: Tensor, parameter: nn.Parameter | Tensor) -> Tensor:
    """A whole tensor, sharded like `parameter`; the tensor itself where that is not sharded."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU, DistributedType.FSDP)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that `accelerate launch` (or torchrun) started; one process without a launcher."""

    device: torch.device
    rank: int = 0
    size: int = 1
    sharded: bool = False
    """The weights are sharded (FSDP), so every process must run the same number of passes."""

    def __str__(self) -> str:
        processes = "1 process" if self.size == 1 else f"{self.size} processes"
        return f"{processes} with sharded weights" if self.sharded else processes

    @classmethod
    def joined(cls) -> Team:
        """The processes as the launcher set them up; each waits here until all have arrived.

        Raises:
            TrainingError: a kind of distribution that the loop does not support.
        """
        on_cpu = not torch.cuda.is_available() and not torch.backends.mps.is_available()
        accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)])
        if accelerator.distributed_type not in _SUPPORTED:
            raise TrainingError(
                f"launched as {accelerator.distributed_type.value}, which rscap does not support",
                hint="launch with `accelerate launch --multi_gpu -m rscap train …`, or with --use_fsdp",
            )
        sharded = sharding_asked()
        if sharded and accelerator.num_processes == 1:
            raise TrainingError("FSDP needs at least 2 processes", hint="launch with --num_processes 2 or more")
        return cls(accelerator.device, accelerator.process_index, accelerator.num_processes, sharded)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(self.rank, self.size)

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items that this process works on, where each works on a part."""
        return self.share.mine(items)

    def sums(self, values: Sequence[int]) -> list[int]:
        """Integers, summed over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.long, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def sum(self, value: Tensor) -> Tensor:
        """A tensor, summed over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of every process by their sum; a process without a micro batch adds zeros."""
        if self.size == 1 or self.sharded:  # the backward pass sums sharded gradients itself
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            torch.distributed.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in the order of their ranks."""
        return gather_object(items) if self.size > 1 else items

    def broadcast(self, value: Any) -> Any:
        """The value that the leading process passes."""
        return broadcast_object_list([value])[0] if self.size > 1 else value

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            torch.distributed.barrier()


def check_shares(recipe: Recipe, team: Team, say: Say) -> None:
    """Check that every process has images to work on.

    Raises:
        RecipeError: an update has fewer images than there are processes, or cannot be sharded.
    """
    images = recipe.train.micro_batch * recipe.train.accumulation
    if team.sharded:
        _check_shardable(recipe)
    if images < team.size:
        raise RecipeError(
            f"{team.size} processes share an update of {images} images, so some would be idle",
            hint=f"start at most {images} processes; or raise train.accumulation, and with it the learning rate",
        )
    if team.size > 1:
        least, most = images // team.size, -(-images // team.size)
        say(f"each process takes {least if least == most else f'{least} or {most}'} of an update's {images} images")


def _check_shardable(recipe: Recipe) -> None:
    """Check that a sharded run can do what the recipe asks.

    Raises:
        RecipeError: it cannot; names the key.
    """
    refused = {
        "model.quantisation": recipe.model.quantisation != "none",
        "model.dtype = 'float16'": recipe.model.dtype == "float16",
        "train.evaluate_every": recipe.train.evaluate_every is not None,
        "[objective]": recipe.objective is not None,
        "adapter.method = 'adalora'": recipe.adapter is not None and recipe.adapter.method == "adalora",
    }
    if found := [name for name, is_so in refused.items() if is_so]:
        raise RecipeError(
            f"with FSDP a recipe cannot have {', '.join(found)}",
            hint="launch with --multi_gpu instead, so that every GPU holds the whole base; or evaluate after the run",
        )


def _buckets(gradients: Sequence[Tensor], *, size_bytes: int = 64 * 2**20) -> Iterable[list[Tensor]]:
    """Gradients in buckets of one dtype and about `size_bytes`, so that many small tensors are sent at once."""
    buckets: dict[torch.dtype, list[Tensor]] = {}
    for gradient in gradients:
        bucket = buckets.setdefault(gradient.dtype, [])
        bucket.append(gradient)
        if sum(one.nbytes for one in bucket) >= size_bytes:
            yield buckets.pop(gradient.dtype)
    yield from buckets.values()
