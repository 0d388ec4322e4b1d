"""Logits in float32, although hidden states and the head are held in 16 bits.

A head in 16 bits returns logits in 16 bits. Between 16 and 32, bfloat16 has steps of 1/8, so that at about 3 choices in
100 the best two of 257,216 tokens are exactly equal, and the token id decides. This can be avoided: every device sums
the products in float32 anyway. Here that sum is kept, from the same operands, and not rounded.

A GPU multiplies 16-bit operands with a float32 result at once. A CPU needs the head in float32, which is cast once.
"""

from __future__ import annotations

import torch
from torch import Tensor


class WideHead:
    """A copy of the head's matrix for products with a float32 result; kept until `drop`, or until the weights
    change."""

    def __init__(self) -> None:
        self._kept: Tensor | None = None
        self._of: tuple[object, ...] = ()

    def drop(self) -> None:
        """Free the copy."""
        self._kept, self._of = None, ()

    def logits(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """float32[..., V] of float[..., H] and the head float[V, H], which are both rounded to `dtype` and multiplied.

        Without gradients.
        """
        matrix = self._operand(weight, dtype)
        rows = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            if matrix.dtype == torch.float32:
                found = rows.float() @ matrix.T
            else:
                found = torch.mm(rows, matrix.T, out_dtype=torch.float32)
        return found.view(*hidden.shape[:-1], -1)

    def _operand(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The head in `dtype` on a GPU; elsewhere these numbers as float32."""
        if weight.device.type == "cuda" and weight.dtype == dtype:
            return weight
        now = (weight.data_ptr(), weight.device, dtype, 0 if weight.is_inference() else weight._version)
        if self._kept is None or self._of != now:
            self.drop()  # first, since two copies may not fit
            with torch.inference_mode(False), torch.no_grad():  # so that it may be used in any mode
                rounded = weight.detach().to(dtype)
                self._kept = rounded if weight.device.type == "cuda" else rounded.float()
            self._of = now
        return self._kept
