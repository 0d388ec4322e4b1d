"""Splits by a shuffle with seed 42, as the two prior works made them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rscap.data.rows import Judged
from rscap.data.source import Note
from rscap.records import Example

RISC_ROWS = 44_521
UNUSED = "unused"
"""The split of what a scheme leaves out."""

SEEDED: tuple[str, ...] = ("seed42", "seed42-test-50", "seed42-test-500", "seed42-100-20")


def assign_seeded(judged: Judged, scheme: str) -> tuple[list[Example], list[Note]]:
    """Split by position in the permutation that `datasets.Dataset.shuffle(seed=42)` makes: numpy's default generator.

    Positions count every row, the rejected ones included, so that one broken image does not move all others. On RISC's
    44,521 rows `seed42` is 37,843 train, 2,226 val and 4,452 test images.
    """
    names = _names(judged.total, scheme)
    place = np.empty(judged.total, dtype=np.int64)
    place[np.random.default_rng(42).permutation(judged.total)] = np.arange(judged.total)
    examples = [
        replace(example, split=names[place[position]])
        for example, position in zip(judged.examples, judged.positions, strict=True)
    ]
    if judged.total == RISC_ROWS:
        return examples, []
    text = f"{judged.total} rows: {scheme} is prior work's only on the {RISC_ROWS} rows of the Hub's copy, in its order"
    return examples, [Note("all rows", text)]


def _names(total: int, scheme: str) -> list[str]:
    """The split of each place in the shuffled order."""
    if scheme == "seed42-100-20":
        return (["train"] * 100 + ["val"] * 20 + [UNUSED] * total)[:total]
    val, test = total * 5 // 100, total * 10 // 100
    kept = {"seed42": test, "seed42-test-50": min(50, test), "seed42-test-500": min(500, test)}[scheme]
    return ["train"] * (total - val - test) + ["val"] * val + ["test"] * kept + [UNUSED] * (test - kept)
