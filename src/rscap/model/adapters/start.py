"""What an adapter starts from: PiSSA, OLoRA and CorDA take a part of the base's weights, EVA directions of the data.

The first three split a weight W, float[out, in], exactly into s·B·A of rank r and a frozen remainder; EVA takes
principal components of rows that arrive batch by batch. The algebra is in float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rscap.errors import AdapterError
from rscap.methods import METHODS
from rscap.model.adapters.calibration import Calibration
from rscap.model.adapters.config import EVA_RHO, TargetLayers, scale
from rscap.recipe import AdapterSection

_DAMPING = 0.01
"""CorDA adds this share of the mean variance to the covariance's diagonal, as its authors' program does."""
_PASS_BYTES = 2 << 30
"""CorDA calibrates as many layers at once as fit their sums into this many bytes."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The matrices one layer starts with."""

    a: Tensor
    """float32[r, in]"""
    b: Tensor | None
    """float32[out, r]; None is zero, as in LoRA"""


def initial_factors(net: nn.Module) -> dict[str, Tensor]:
    """The factors for `prepare(initial=…)`, which rebuilds the same start without data or decomposition.

    Empty for methods that start from the seed alone. Keep it with the first checkpoint: another machine's
    decomposition may differ in the last digits, and a resumed run would continue from weights that nobody trained.
    """
    factors: dict[str, Factors] = getattr(net, "rscap_factors", {})
    stored = {f"{name}.lora_A": start.a for name, start in factors.items()}
    return stored | {f"{name}.lora_B": start.b for name, start in factors.items() if start.b is not None}


def given_factors(stored: Mapping[str, Tensor], targets: TargetLayers, adapter: AdapterSection) -> dict[str, Factors]:
    """The factors that `initial_factors` returned.

    Raises:
        AdapterError: they belong to other layers or to another method.
    """
    names = {key.removesuffix(".lora_A") for key in stored if key.endswith(".lora_A")}
    wanted_b = names if METHODS[adapter.method].residual else set()
    there_b = {key.removesuffix(".lora_B") for key in stored if key.endswith(".lora_B")}
    absent = set() if adapter.method == "eva" else set(targets.layers) - names
    if (unknown := names - set(targets.layers)) or absent or there_b != wanted_b:
        raise AdapterError(
            f"the stored start of {adapter.method} does not fit the recipe: {len(unknown)} layers are not targets, "
            f"{len(absent)} targets are missing, {len(there_b)} B matrices where {len(wanted_b)} belong"
        )
    ranks = sum(len(stored[f"{name}.lora_A"]) for name in names)
    if ranks != (budget := adapter.rank * len(targets.layers)):
        raise AdapterError(f"the stored start of {adapter.method} has ranks of {ranks} in all, the recipe {budget}")
    return {name: Factors(stored[f"{name}.lora_A"], stored.get(f"{name}.lora_B")) for name in sorted(names)}


def start_factors(
    net: nn.Module, targets: TargetLayers, adapter: AdapterSection, *, calibration: Calibration | None
) -> dict[str, Factors]:
    """The factors of every targeted layer; empty for methods that start from the seed alone.

    Raises:
        AdapterError: the rank is larger than a layer, the base is quantised, or a calibration is missing.
    """
    method = METHODS[adapter.method]
    if not (method.residual or adapter.method == "eva"):
        return {}
    for name, layer in targets.layers.items():
        if adapter.rank > (most := min(layer.in_features, layer.out_features)):
            raise AdapterError(
                f"{adapter.method} of rank {adapter.rank} is too large for {name}, which has {most} directions"
            )
        if method.residual and not layer.weight.is_floating_point():
            raise AdapterError(
                f"{adapter.method} starts from unquantised weights, but {name} is quantised already",
                hint="load it by `precision_to_load(recipe.model, recipe.adapter)`; `prepare` quantises the rest",
            )
    if method.calibration_images is None:
        decompose: Callable[..., tuple[Tensor, Tensor]] = {"pissa": pissa, "olora": olora}[adapter.method]
        return {
            name: Factors(*decompose(layer.weight.detach(), rank=adapter.rank, scale=scale(adapter)))
            for name, layer in targets.layers.items()
        }
    if calibration is None:
        raise AdapterError(f"{adapter.method} starts from activations of training images, and none were given")
    if adapter.method == "eva":
        return _eva(net, targets, adapter, calibration=calibration)
    return _corda(net, targets, adapter, calibration=calibration)


@torch.no_grad()
def take_out(targets: TargetLayers, factors: Mapping[str, Factors], factor: float) -> None:
    """Leave W - s·B·A in the base, in its own precision."""
    for name, start in factors.items():
        if start.b is not None:
            weight = targets.layers[name].weight
            a, b = start.a.to(weight.device), start.b.to(weight.device)
            weight.copy_((weight.float() - factor * (b @ a)).to(weight.dtype))


def _corda(
    net: nn.Module, targets: TargetLayers, adapter: AdapterSection, *, calibration: Calibration
) -> dict[str, Factors]:
    factors = {}
    for names in _passes(targets):
        sums = {name: _Correlation(targets.layers[name]) for name in names}
        calibration.watch(net, sums)
        for name in names:
            weight = targets.layers[name].weight.detach()
            oriented = sums.pop(name).oriented(_DAMPING)
            factors[name] = Factors(*corda(weight, oriented, rank=adapter.rank, scale=scale(adapter)))
    return factors


def _passes(targets: TargetLayers) -> list[list[str]]:
    passes: list[list[str]] = [[]]
    used = 0
    for name, layer in targets.layers.items():
        size = 4 * layer.in_features * layer.out_features
        if passes[-1] and used + size > _PASS_BYTES:
            passes.append([])
            used = 0
        passes[-1].append(name)
        used += size
    return passes


class _Correlation:
    """W·C of one layer, C the mean over examples of XᵀX, X scaled to 1 in its largest entry.

    Summed as (W·Xᵀ)·X it takes the room of the weight; C itself would take 1 GiB for a layer of 16,384 inputs.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.product = torch.zeros(layer.out_features, layer.in_features, device=self.weight.device)
        self.trace = torch.zeros((), device=self.weight.device)
        self.examples = 0

    def __call__(self, examples: list[Tensor]) -> None:
        weight = self.weight.float()
        for seen in examples:
            seen = seen / seen.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
            self.product += (weight @ seen.T) @ seen
            self.trace += seen.square().sum()
        self.examples += len(examples)

    def oriented(self, damping: float) -> Tensor:
        """float32[out, in]: W·(C + damping·mean variance·I)."""
        mean_variance = self.trace / self.weight.shape[1]
        return (self.product + damping * mean_variance * self.weight.float()) / self.examples


def _eva(
    net: nn.Module, targets: TargetLayers, adapter: AdapterSection, *, calibration: Calibration
) -> dict[str, Factors]:
    """Principal directions of each layer's inputs; ranks go where they explain most (arXiv:2410.07170)."""
    inputs = {name: _Inputs(name, layer, adapter.rank) for name, layer in targets.layers.items()}
    calibration.watch(net, inputs)
    shares = [(name, share) for name, one in inputs.items() for share in one.found.shares().tolist()]
    best = sorted(shares, key=lambda item: -item[1])[: adapter.rank * len(inputs)]
    ranks = Counter(name for name, _ in best)
    return {name: Factors(one.directions(ranks[name]), None) for name, one in inputs.items() if ranks[name]}


class _Inputs:
    """Principal components of what one layer reads."""

    def __init__(self, name: str, layer: nn.Linear, rank: int) -> None:
        self.name, self.device = name, layer.weight.device
        self.found = Components(min(round(EVA_RHO * rank), layer.in_features, layer.out_features))

    def __call__(self, examples: list[Tensor]) -> None:
        rows = torch.cat(examples)
        if len(rows) < self.found.most:
            raise AdapterError(
                f"EVA looks for {self.found.most} directions at {self.name}, a batch has {len(rows)} tokens",
                hint="lower adapter.rank, or calibrate with larger batches",
            )
        self.found.add(rows)

    def directions(self, rank: int) -> Tensor:
        return self.found.directions(rank).to(self.device)


def pissa(weight: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The r largest singular triplets, split evenly: A = √(S/s)·Vᵀ, B = U·√(S/s) (PiSSA, arXiv:2404.02948)."""
    wide = widened(weight)
    left, values, right = top_triplets(wide, rank)
    roots = (values / scale).sqrt()
    return narrowed(roots[:, None] * right, weight), narrowed(left * roots, weight)


def olora(weight: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The first r columns of Q and rows of R, W = Q·R (OLoRA, arXiv:2406.01775).

    The first r columns of Q depend on the first r columns of W alone, and R = Qᵀ·W.
    """
    wide = widened(weight)
    q, _ = torch.linalg.qr(wide[:, :rank])
    del scale  # it multiplies the product both in the layer and in the part taken out of W
    return narrowed(q.T @ wide, weight), narrowed(q, weight)


def corda(weight: Tensor, oriented: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The r largest components of W·C, brought back by C⁻¹ (CorDA, arXiv:2406.05223, instruction-previewed).

    With W·C = U·S·Vᵀ the paper's Vᵀ·C⁻¹ equals S⁻¹·Uᵀ·W, so that C need not be inverted.
    """
    wide = widened(weight)
    left, values, _ = top_triplets(widened(oriented), rank)
    a = (left.T @ wide) / (values * scale).sqrt()[:, None]
    return narrowed(a, weight), narrowed(left * (values / scale).sqrt(), weight)


def top_triplets(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U[out, r], S[r], Vᵀ[r, in] of the largest singular values, through the smaller Gram matrix.

    A Gram matrix squares the condition number, which float64 carries easily for the largest values; it is many times as
    fast as a full decomposition of 16,384 x 2,048.
    """
    tall = matrix.shape[0] >= matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    squares, vectors = torch.linalg.eigh(gram)
    # Through a Gram matrix, values below 1e-8 of the largest are rounding; the floor keeps quotients by them small.
    values = squares[-rank:].flip(0).clamp(min=torch.finfo(matrix.dtype).tiny).sqrt()
    values = values.clamp(min=1e-8 * values[0])
    kept = vectors[:, -rank:].flip(1)
    if tall:
        return (matrix @ kept) / values, values, kept.T
    return kept, values, (kept.T @ matrix) / values[:, None]


def widened(matrix: Tensor) -> Tensor:
    """In float64."""
    return (matrix.cpu() if matrix.device.type == "mps" else matrix).double()  # Apple's GPUs know no float64


def narrowed(matrix: Tensor, like: Tensor) -> Tensor:
    return matrix.float().contiguous().to(like.device)


class Components:
    """The leading principal components of all rows so far (Ross et al., 2008, doi:10.1007/s11263-007-0075-7).

    Each update decomposes the components so far, scaled, the new rows about their mean, and the shift of the mean. With
    one batch this is the exact analysis; with several, what was cut off before is lost.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows = 0
        self.mean = self.scaled = torch.empty(0)
        self.scatter = 0.0
        """Sum of squared distances from the mean, over all directions."""

    def add(self, rows: Tensor) -> None:
        """Add rows float[n, d]."""
        rows = widened(rows)
        mean = rows.mean(dim=0)
        parts = [rows - mean]
        total = self.rows + len(rows)
        if self.rows:
            shift = (self.rows * len(rows) / total) ** 0.5 * (self.mean - mean)
            parts += [shift[None], self.scaled]
            mean = (self.rows * self.mean + len(rows) * mean) / total
        self.scatter += float(sum(part.square().sum() for part in parts[:2]))
        stacked = torch.cat(parts)
        _, values, directions = top_triplets(stacked, min(self.most, *stacked.shape))
        self.scaled = values[:, None] * directions
        self.rows, self.mean = total, mean

    def shares(self) -> Tensor:
        """float64[most]: the share of the variance that each component explains, largest first."""
        return self.scaled.square().sum(dim=1) / max(self.scatter, torch.finfo(torch.float64).tiny)

    def directions(self, count: int) -> Tensor:
        """float32[count, d]: the leading components, as orthonormal rows."""
        return torch.nn.functional.normalize(self.scaled[:count], dim=1).float().contiguous()
