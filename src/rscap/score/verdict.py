"""A comparison in plain words."""

from __future__ import annotations

from rscap.score.comparison import Difference

_MANY = 1_000_000


def sentence(found: Difference, metric: str, n: int, comparisons: int) -> str:
    """Say which of two systems is better, or that the images do not tell, and how many would.

    `a and b are not distinguishable at n = 50 (CIDEr +0.041 [-0.090, 0.172], p = 0.54); about 1,900 images would
    settle it.`
    """
    (low, high), size = found.interval, found.difference
    corrected = f" after Holm's correction for {comparisons} comparisons" if comparisons > 1 else ""
    figures = f"{metric} {size:+z.3f} [{low:z.3f}, {high:z.3f}], {probability(found.p_holm)}{corrected}"
    if found.distinguishable:
        better, worse = (found.first, found.second) if size > 0 else (found.second, found.first)
        return f"{better} is better than {worse} at n = {n:,} ({figures})."
    outlook = _outlook(size, found.images_needed, n)
    return f"{found.first} and {found.second} are not distinguishable at n = {n:,} ({figures}); {outlook}."


def probability(p: float) -> str:
    """`p = 0.54`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"


def _outlook(difference: float, needed: int | None, n: int) -> str:
    if difference == 0:
        return "their scores are equal"
    if needed is None:
        return "more images would not settle it, more replicates may"
    if needed > _MANY:
        return "more than a million images would be needed to settle it"
    return f"about {rounded(max(needed, n + 1)):,} images would settle it"


def rounded(count: int) -> int:
    """Two significant digits, upwards."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
