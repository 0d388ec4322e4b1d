"""Splits by name: who trains on what, and who is measured on what, stated so that it can be repeated.

| scheme | what it is |
|---|---|
| `official` | the split that the source names; restored by caption hashes for the Hub's copy of RISC, which lost it |
| `seed42` | prior work B's: shuffled with seed 42, then 85 % train, 5 % val, 10 % test |
| `seed42-test-50`, `seed42-test-500` | the same, its test cut to the first 50 or 500 images, which B scored |
| `seed42-100-20` | prior work A's size: the first 100 of that shuffle train, the next 20 val |
| `grouped` | near-duplicate images and identical caption lists never cross; about 80 / 10 / 10 % |
| `FILE.json` | an id list that `rscap data split` froze, checked against its digest |
"""

from __future__ import annotations

from pathlib import Path

from rscap.data.rows import Judged
from rscap.data.splits.drawn import SEEDED, apply_frozen, assign_seeded
from rscap.data.splits.official import restore_official
from rscap.errors import DataError
from rscap.records import Example, Note

SCHEMES: tuple[str, ...] = ("official", *SEEDED, "grouped")


def assign_splits(judged: Judged, scheme: str) -> tuple[list[Example], list[Note]]:
    """The examples with the splits of `scheme`, in their order, and what a reader should know about it.

    Raises:
        DataError: an unknown scheme, or one that does not fit these examples.
    """
    if scheme == "official":
        return restore_official(judged)
    if scheme in SEEDED:
        return assign_seeded(judged, scheme)
    if scheme == "grouped":
        from rscap.data.splits.drawn import assign_grouped

        return assign_grouped(judged.examples)
    if scheme.endswith(".json"):
        return apply_frozen(judged.examples, Path(scheme))
    raise DataError(f"unknown split scheme {scheme!r}", hint=f"known: {', '.join(SCHEMES)}, or a frozen FILE.json")
