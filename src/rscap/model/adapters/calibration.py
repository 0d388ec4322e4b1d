"""Activations of training images at adapted layers: what EVA and CorDA start from.

Layers of the language model see packed sequences float[B, N, d], whose padding is left out; layers of the vision tower
see float[B, T, d], all of it image. One pass keeps sums of one layer's size at most, so it fits where the model fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rscap.errors import AdapterError
from rscap.model.packed import PackedBatch, PackedModel
from rscap.model.towers import tower_of


class Padded(PackedBatch, Protocol):
    """A packed batch that marks its padding; see `rscap.captioner.batch.Batch`."""

    @property
    def branch(self) -> Tensor: ...

    def to(self, device: torch.device | str) -> Any: ...


Watcher = Callable[[list[Tensor]], None]
"""Takes what one layer reads in one batch: for every example its real rows, float32[n, d]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Training batches for calibration. The same batches give the same start, whatever random state came before."""

    batches: Callable[[], Iterable[Padded]]
    """Returns the batches again for every pass."""
    compute_dtype: torch.dtype

    @torch.no_grad()
    def watch(self, net: nn.Module, watchers: Mapping[str, Watcher]) -> None:
        """Call every watcher with the inputs of its layer (by full path in the bare model), batch by batch.

        Raises:
            AdapterError: there is no batch, or a layer was shown something else than its tower's sequence.
        """
        packed, current = PackedModel(net, compute_dtype=self.compute_dtype), _Current()
        handles = [
            net.get_submodule(name).register_forward_pre_hook(_hook(name, watcher, current))
            for name, watcher in watchers.items()
        ]
        seen = 0
        try:
            with _evaluating(net):
                for batch in self.batches():
                    batch = batch.to(packed.device)
                    current.real = batch.branch >= 0
                    with packed.autocast():
                        packed.hidden(batch)
                    seen += len(batch.tokens)
        finally:
            for handle in handles:
                handle.remove()
        if not seen:
            raise AdapterError("there is no image to calibrate the adapter with")


@dataclass(slots=True)
class _Current:
    real: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.bool))
    """bool[B, N]: tokens of the batch that are no padding"""


def _hook(name: str, watcher: Watcher, current: _Current) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    padded = tower_of(f"{name}.") == "language_model"

    def show(_: nn.Module, args: tuple[Any, ...]) -> None:
        given: Tensor = args[0]
        rows, width = current.real.shape
        if not padded and given.ndim == 3 and given.shape[0] % rows == 0:
            given = given.reshape(rows, -1, given.shape[-1])  # the squares of a split image, one after the other
        if given.ndim != 3 or given.shape[0] != rows or (padded and given.shape[1] != width):
            raise AdapterError(f"{name} read {tuple(given.shape)} in calibration, expected [{rows}, {width}, d]")
        with torch.autocast(given.device.type, enabled=False):  # sums of many products want all 24 bits
            examples = zip(given.detach().float(), current.real, strict=True)
            watcher([row[real] if padded else row for row, real in examples])

    return show


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    was_training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(was_training)
