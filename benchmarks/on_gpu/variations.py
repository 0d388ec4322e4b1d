"""Ways to compute a training step that rscap does not have, or has no more, put on a model for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from rscap.model.packed import PackedModel


@contextmanager
def by_peft(packed: PackedModel) -> Iterator[None]:
    """Adapters compute as PEFT has them: inputs cast to float32, the scale and the sum on wide outputs."""
    layers = [module for module in packed.net.modules() if isinstance(module, BaseTunerLayer)]
    classes = [type(layer) for layer in layers]
    for layer, own in zip(layers, classes, strict=True):
        layer.cast_input_dtype_enabled = True
        layer.__class__ = own.__mro__[2] if own.__name__.startswith("Lean") else own
    try:
        yield
    finally:
        for layer, own in zip(layers, classes, strict=True):
            layer.cast_input_dtype_enabled = False
            layer.__class__ = own


@contextmanager
def compiled(packed: PackedModel) -> Iterator[None]:
    """The language model's layers through torch.compile; the last one computes few rows and stays as it is."""
    layers = packed.bare.model.language_model.layers[:-1]
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        torch.compiler.reset()


@contextmanager
def with_cudnn(packed: PackedModel) -> Iterator[None]:
    """Attention by cuDNN, whose kernels torch takes first on Hopper; they are built anew for every shape."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


VARIATIONS = {
    "PEFT's forward pass": by_peft,
    "cuDNN's attention": with_cudnn,
    "compiled": compiled,
}
"""By what a case calls them."""
