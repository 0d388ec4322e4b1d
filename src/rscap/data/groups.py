"""Connected components: groups of nodes that pairs join, chains included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class Groups:
    """Nodes 0 … n - 1, each alone until `join` brings two of them together (union by path halving)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, node: int) -> int:
        """The smallest node of its group."""
        parent = self._parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def joined(self, one: int, other: int) -> bool:
        """Are these two in one group?"""
        return self.root(one) == self.root(other)

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def connected(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components of `n` nodes joined by `pairs`, each sorted, in order of their first node."""
    groups = Groups(n)
    for one, other in pairs:
        groups.join(one, other)
    members: dict[int, list[int]] = defaultdict(list)
    for node in range(n):
        members[groups.root(node)].append(node)
    return list(members.values())
