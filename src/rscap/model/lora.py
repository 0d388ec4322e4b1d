"""LoRA in 16 bits at the cost of its two products.

PEFT casts the input of an adapted layer to the float32 of the adapter's weights, and autocast casts it back: the same
numbers, and one more copy of every input. It then passes three times over outputs as wide as the layer: the product
with B, its scale, the sum. Here the scale multiplies the output of A, of rank r, and the product with B is added in
place: two passes fewer, and one rounding in place of three. Outside autocast, and in float32, layers compute as PEFT
does.

Autocast also casts float32 weights to 16 bits before every product, in inference again at every token;
`Held` casts them once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear

_ADAPTER = "default"
"""PEFT's name of the one adapter of a run."""

_PLAIN = {
    ("peft.tuners.lora.layer", "Linear"),
    ("peft.tuners.lora.bnb", "Linear4bit"),
    ("peft.tuners.lora.bnb", "Linear8bitLt"),
}


class _Lean:
    """The forward pass of a LoRA layer, in front of one of PEFT's classes."""

    folded = False
    """Whether B is multiplied by the scale already."""

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or self.disable_adapters or self.merged or not torch.is_autocast_enabled(x.device.type):
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        rows, scale = x.reshape(-1, x.shape[-1]), self.scaling[_ADAPTER]
        result: Tensor = self.base_layer(rows)
        dropped = self.lora_dropout[_ADAPTER](rows) if self.training else rows
        narrow = linear(dropped, self.lora_A[_ADAPTER].weight)
        if scale != 1.0 and not self.folded:
            narrow = narrow * scale
        wide = self.lora_B[_ADAPTER].weight
        if result.dtype == narrow.dtype:  # nothing keeps the output of a base layer, so that it may be changed
            result = result.addmm_(narrow, wide.to(narrow.dtype).t())
        else:
            result = result + linear(narrow, wide)
        return result.view(*x.shape[:-1], -1)


@cache
def _lean(layer: Any) -> Any:
    """A class of PEFT's with the forward pass above."""
    return type(f"Lean{layer.__name__}", (_Lean, layer), {"__module__": layer.__module__})


def make_lean(net: nn.Module) -> None:
    """Give the plain LoRA layers of a PEFT model the forward pass of this module; a second call changes nothing.

    DoRA and methods other than LoRA keep PEFT's forward pass, without its cast of the input.
    """
    if not hasattr(net, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in net.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        module.cast_input_dtype_enabled = False
        given: Any = type(module)
        if (given.__module__, given.__name__) in _PLAIN and not module.lora_variant:
            module.__class__ = _lean(given)


class Held:
    """Weights of linear layers in the precision of products, beside the float32 they are kept in; for captions alone.

    Products are those of autocast, which rounds the same numbers the same way. In bfloat16 a LoRA scale that is a power
    of two is taken into B, which changes no bit either (in float16 it would, of the smallest numbers). These stay in
    float32: weights of DoRA and of other methods, which do more with them than multiply; the head, which is the
    embeddings too; sharded weights.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        lean: list[Any] = [module for module in net.modules() if isinstance(module, _Lean)]
        self.wide = [one for one in _linear_weights(net, lean) if one.dtype == torch.float32]
        with torch.inference_mode(False):  # so that they may be written in any mode
            self.copies = [torch.empty_like(one, dtype=dtype, requires_grad=False) for one in self.wide]
        places = {parameter: place for place, parameter in enumerate(self.wide)}
        self.folded = [
            (layer, places[layer.lora_B[_ADAPTER].weight])
            for layer in lean
            if layer.lora_B[_ADAPTER].weight in places
            and dtype == torch.bfloat16
            and math.frexp(layer.scaling[_ADAPTER])[0] == 0.5
        ]

    def moved(self) -> bool:
        """Whether the weights have gone to another device."""
        return any(one.device != copy.device for one, copy in zip(self.wide, self.copies, strict=True))

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the block, the layers use copies, which are made of the current weights."""
        if not self.wide or self.wide[0].dtype != torch.float32:  # nothing to do, or already within the block
            yield
            return
        with torch.inference_mode(False), torch.no_grad():  # its tensors could not be trained afterwards
            given = [one.data for one in self.wide]
            torch._foreach_copy_(self.copies, given)
            for layer, place in self.folded:
                self.copies[place].mul_(layer.scaling[_ADAPTER])
                layer.folded = True
            for parameter, copy in zip(self.wide, self.copies, strict=True):
                parameter.data = copy
        try:
            yield
        finally:
            with torch.inference_mode(False):
                for layer, _ in self.folded:
                    layer.folded = False
                for parameter, data in zip(self.wide, given, strict=True):
                    parameter.data = data


def _linear_weights(net: nn.Module, lean: Sequence[Any]) -> Iterator[nn.Parameter]:
    holders = [matrices[_ADAPTER] for layer in lean for matrices in (layer.lora_A, layer.lora_B)]
    for name, module in net.named_modules():
        if type(module) is nn.Linear and name.rpartition(".")[2] not in (_ADAPTER, "lm_head"):
            holders.append(module)
    for holder in holders:
        yield from (one for one in holder.parameters(recurse=False) if not isinstance(one, DTensor))
