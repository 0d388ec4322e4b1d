"""The algebra of PiSSA, OLoRA, CorDA and EVA, in float64.

The first three split a weight W, float[out, in], exactly into s·B·A of rank r and a remainder; EVA takes principal
components of rows that arrive batch by batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
