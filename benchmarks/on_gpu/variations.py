"""Ways to compute a training step that rscap does not have, put on a model for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import Linear
from torch import Tensor

from rscap.model.packed import PackedModel


@contextmanager
def uncast(packed: PackedModel) -> Iterator[None]:
    """PEFT does not cast the inputs of adapters to float32, from where autocast would cast them back."""
    with disable_input_dtype_casting(packed.net):
        yield


@contextmanager
def lean(packed: PackedModel) -> Iterator[None]:
    """Adapters scale their narrow product, and add to the base layer's output in place: two wide passes fewer."""
    layers = [module for module in packed.net.modules() if type(module) is Linear]
    for layer in layers:
        layer.forward = _Lean(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _Lean:
    """The forward pass of a LoRA layer without dropout."""

    def __init__(self, layer: Any) -> None:
        self.base = layer.base_layer
        self.a, self.b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        self.scale = layer.scaling["default"]

    def __call__(self, given: Tensor) -> Tensor:
        out: Tensor = self.base(given)
        narrow = F.linear(given, self.a) * self.scale
        out.view(-1, out.shape[-1]).addmm_(narrow.flatten(0, -2).to(out.dtype), self.b.t().to(out.dtype))
        return out


@contextmanager
def compiled(packed: PackedModel) -> Iterator[None]:
    """The language model's layers through torch.compile; the last one computes few rows and stays as it is."""
    layers = packed.paligemma.model.language_model.layers[:-1]
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        torch.compiler.reset()


@contextmanager
def without_cudnn(packed: PackedModel) -> Iterator[None]:
    """Attention by torch's own kernels. On Hopper cuDNN's come first, and are built anew for every shape."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


VARIATIONS = {
    "input cast off": uncast,
    "lean adapters": lean,
    "without cuDNN's attention": without_cudnn,
    "compiled": compiled,
}
"""By what a case calls them."""
