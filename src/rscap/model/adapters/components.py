"""Principal components of rows that come batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

from rscap.model.adapters.decompose import top_triplets, widened


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
        """Take in float[n, d]."""
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
