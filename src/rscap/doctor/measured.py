"""What can be measured of a model in memory: precision of its frozen weights, what learns, who sees whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from rscap.doctor.evidence import FirstLosses, Learning, Sight, Weights
from rscap.doctor.reading import mapping
from rscap.errors import AdapterError
from rscap.model.towers import count_parameters, tower_of
from rscap.recipe import Tower
from rscap.store import write_json

_MOVED = 1e-5  # of the largest output: rounding of another order of sums lies below, influence above


@dataclass(frozen=True, slots=True)
class Reach:
    """How many positions before a token change their output when that token is changed."""

    before: int
    moved: int


def rows_are_apart(net: nn.Module) -> bool:
    """Whether no token rounds another: LLM.int8 (arXiv:2208.07339) picks its outlier columns over all tokens."""
    return not any(type(module).__name__ == "Linear8bitLt" for module in net.modules())


def reach(outputs: Callable[[Tensor], Tensor], tokens: Tensor, column: int, replacement: int, first: int) -> Reach:
    """Change int[N] `tokens` at `column` and count which float[N, H] outputs from `first` up to it change."""
    changed = tokens.clone()
    changed[column] = replacement
    with torch.no_grad():
        here, there = outputs(tokens).float(), outputs(changed).float()
    difference = (here - there).abs().amax(dim=-1)
    moved = difference > _MOVED * here.abs().max()
    return Reach(before=column - first, moved=int(moved[first:column].sum()))


def frozen_dtypes(net: nn.Module) -> dict[Tower, dict[str, int]]:
    """Elements of frozen weights by precision, for each tower; a 4-bit weight counts as what it stands for."""
    counts: dict[Tower, Counter[str]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad or ".original_module." in name:
            continue
        try:
            tower = tower_of(name)
        except AdapterError:  # a part that PaliGemma does not have
            continue
        counts.setdefault(tower, Counter())[_dtype(parameter)] += _elements(parameter)
    return {tower: dict(own) for tower, own in counts.items()}


def _dtype(parameter: nn.Parameter) -> str:
    if hasattr(parameter, "quant_type"):
        return str(parameter.quant_type)  # bitsandbytes' Params4bit: nf4 or fp4
    return str(parameter.dtype).removeprefix("torch.")


def _elements(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)
    return int(torch.Size(state.shape).numel()) if state is not None else parameter.numel()


def product_dtypes(net: nn.Module) -> tuple[str, ...]:
    """Precisions that 4-bit layers compute in."""
    found = {
        str(module.compute_dtype).removeprefix("torch.")
        for module in net.modules()
        if type(module).__name__ == "Linear4bit" and getattr(module, "compute_dtype", None) is not None
    }
    return tuple(sorted(found))


def trainable(net: nn.Module) -> dict[Tower, int]:
    """Parameters that learn, by tower."""
    return {tower: count.trainable for tower, count in count_parameters(net).items()}


# model.json: what was measured of a model and its first batch where they were, for a doctor who has neither.

FILE = "model.json"


class Measured(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = ""
    tokens: Mapping[str, int] = {}
    """`vocabulary`, `image`, `bos`, `eos`, `pad`."""
    frozen: Mapping[Tower, Mapping[str, int]] | None = None
    products: tuple[str, ...] = ()
    trainable: Mapping[Tower, int] | None = None
    earlier: int | None = None
    """These four as in `Sight`."""
    future_seen: int | None = None
    before: int | None = None
    prefix_reach: int | None = None
    first_loss: float | None = None
    first_loss_spread: float = 0.0
    first_loss_tokens: int = 0

    @property
    def weights(self) -> Weights | None:
        return None if self.frozen is None else Weights(where=FILE, dtypes=self.frozen, products=tuple(self.products))

    @property
    def learning(self) -> Learning | None:
        return None if self.trainable is None else Learning(where=FILE, trainable=self.trainable)

    @property
    def first_losses(self) -> FirstLosses | None:
        if self.first_loss is None:
            return None
        return FirstLosses(
            where=FILE, mean=self.first_loss, spread=self.first_loss_spread, tokens=self.first_loss_tokens
        )

    def sight(self, read: Sight) -> Sight:
        """What was read of a batch, with what was measured with it."""
        if self.earlier is None and self.before is None:
            return read
        return Sight(
            where=FILE,
            token_types=read.token_types,
            earlier=self.earlier,
            future_seen=self.future_seen,
            before=self.before,
            prefix_reach=self.prefix_reach,
        )


def write_measured(folder: Path, measured: Measured) -> None:
    """Write model.json."""
    write_json(folder / FILE, measured.model_dump())


def read_measured(path: Path) -> Measured:
    """Read model.json.

    Raises:
        StoreError: not a JSON object.
        ValidationError: unknown or wrong keys.
    """
    return Measured.model_validate(mapping(path))
