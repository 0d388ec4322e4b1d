"""The largest activation of every layer, and the layer in which an overflow begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rscap.errors import NotFinite
from rscap.model.packed import PackedModel

_LAYER = re.compile(r"(?:vision_tower|language_model)\b.*?\.layers\.\d+")


@dataclass(slots=True)
class Activations:
    """What modules returned in float16 while they were watched."""

    largest: dict[str, Tensor] = field(default_factory=dict)
    """float32[]: the largest magnitude, by the module's full path."""

    def __str__(self) -> str:
        """The module that comes nearest to overflow, and how near; waits for the device."""
        if not self.largest:
            return "no layer computed in float16"
        name, value = max(((name, float(value)) for name, value in self.largest.items()), key=lambda item: item[1])
        limit = torch.finfo(torch.float16).max
        return f"largest float16 activation {value:,.0f} of {limit:,.0f}, in {name} (headroom {limit / value:.3g}x)"

    def headroom(self) -> dict[str, float]:
        """For every layer of a tower, how many times its largest number fits below overflow; waits for the device."""
        limit, layers = torch.finfo(torch.float16).max, dict[str, float]()
        for name, value in self.largest.items():
            if found := _LAYER.search(name):
                layer, room = found[0], limit / max(float(value), torch.finfo(torch.float16).tiny)
                layers[layer] = round(min(room, layers.get(layer, room)), 2)
        return layers

    def note(self, name: str, made: Tensor) -> None:
        if made.dtype == torch.float16 and made.numel():
            now = made.detach().abs().amax().float()
            self.largest[name] = torch.maximum(self.largest[name], now) if name in self.largest else now


@contextmanager
def measured(packed: PackedModel) -> Iterator[Activations]:
    """Within the block, record the largest float16 activation of every module: a pass over each output, without
    waiting."""
    found = Activations()
    with _hooked(packed, found.note):
        yield found


@contextmanager
def stopping_at_overflow(packed: PackedModel) -> Iterator[None]:
    """Within the block, the first module whose output is not finite raises; waits for the device after every module.

    Raises:
        NotFinite: names the module, the numbers it read and its precision.
    """

    def check(name: str, made: Tensor) -> None:
        if made.is_floating_point() and not bool(made.isfinite().all()):
            raise NotFinite(
                f"activations overflow in {name}: {_described(made)}",
                hint="use model.dtype = 'bfloat16' if the card has it, else 'float32'; if weights are damaged, "
                "`rscap doctor` names them",
            )

    with _hooked(packed, check):
        yield


@contextmanager
def noting_overflow(packed: PackedModel) -> Iterator[list[str]]:
    """Within the block, record the first module whose output is not finite, and continue; waits after every module."""
    found: list[str] = []

    def look(name: str, made: Tensor) -> None:
        if not found and made.is_floating_point() and not bool(made.isfinite().all()):
            found.append(f"activations overflow in {name}: {_described(made)}")

    with _hooked(packed, look):
        yield found


def _described(made: Tensor) -> str:
    """How many numbers are not finite, and in which precision."""
    bad = int((~made.isfinite()).sum())
    return f"{bad:,} of {made.numel():,} {str(made.dtype).removeprefix('torch.')} numbers are not finite"


@contextmanager
def _hooked(packed: PackedModel, look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `look` with the output of every module, innermost modules first."""

    def hook(name: str) -> Callable[..., None]:
        def show(module: nn.Module, given: Any, made: Any) -> None:
            for one in made if isinstance(made, tuple) else (made,):
                if isinstance(one, Tensor):
                    look(name, one)

        return show

    handles = [module.register_forward_hook(hook(name)) for name, module in packed.bare.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
