"""Decompositions of one weight W, float[out, in], into s·B·A of rank r and a rest. All in float64, all exact."""

from __future__ import annotations

import torch
from torch import Tensor


def pissa(weight: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The r largest singular triplets, split evenly: A = √(S/s)·Vᵀ, B = U·√(S/s) (PiSSA, arXiv:2404.02948, eq. 2-4)."""
    wide = _wide(weight)
    left, values, right = _top(wide, rank)
    roots = (values / scale).sqrt()
    return _narrow(roots[:, None] * right, weight), _narrow(left * roots, weight)


def olora(weight: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The first r columns of Q and rows of R, W = Q·R (OLoRA, arXiv:2406.01775, algorithm 1).

    The first r columns of Q depend on the first r columns of W alone, and R = Qᵀ·W.
    """
    wide = _wide(weight)
    q, _ = torch.linalg.qr(wide[:, :rank])
    del scale  # the scale multiplies the product, in the layer as in what is taken out
    return _narrow(q.T @ wide, weight), _narrow(q, weight)


def corda(weight: Tensor, oriented: Tensor, *, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The r largest components of W·C, brought back by C⁻¹ (CorDA, arXiv:2406.05223, eq. 3-5, instruction-previewed).

    With W·C = U·S·Vᵀ the paper's Vᵀ·C⁻¹ equals S⁻¹·Uᵀ·W, so that C need not be inverted.
    """
    wide = _wide(weight)
    left, values, _ = _top(_wide(oriented), rank)
    a = (left.T @ wide) / (values * scale).sqrt()[:, None]
    return _narrow(a, weight), _narrow(left * (values / scale).sqrt(), weight)


def _top(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U[out, r], S[r], Vᵀ[r, in] of the largest singular values, through the smaller Gram matrix.

    A Gram matrix squares the condition number, which float64 carries easily for the largest values; it is many times as
    fast as a full decomposition of 16,384 x 2,048.
    """
    tall = matrix.shape[0] >= matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    squares, vectors = torch.linalg.eigh(gram)
    floor = torch.finfo(matrix.dtype).tiny
    values = squares[-rank:].flip(0).clamp(min=floor).sqrt()
    kept = vectors[:, -rank:].flip(1)
    if tall:
        return (matrix @ kept) / values, values, kept.T
    return kept, values, (kept.T @ matrix) / values[:, None]


def _wide(matrix: Tensor) -> Tensor:
    return (matrix.cpu() if matrix.device.type == "mps" else matrix).double()  # Apple's GPUs know no float64


def _narrow(matrix: Tensor, like: Tensor) -> Tensor:
    return matrix.float().contiguous().to(like.device)
