"""Cost against quality: what is not beaten on both."""

from __future__ import annotations

from collections.abc import Mapping


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of `{name: (cost, score)}` that no other is at most as costly and at least as good, by rising cost.

    Of points that are equal in both, all stay.
    """
    return [
        name
        for name, own in sorted(points.items(), key=lambda item: item[1])
        if not any(_dominates(other, own) for other in points.values())
    ]


def _dominates(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other[0] <= own[0] and other[1] >= own[1] and other != own
