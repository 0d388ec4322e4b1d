"""Recipes for tests: the small model on the built-in images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rscap.recipe import Recipe, parse_recipe

SMALL: dict[str, Any] = {
    "seed": 1,
    "data": {"source": "sample"},
    "model": {"base": "nano", "dtype": "float32"},
    "adapter": {"rank": 2},
    "train": {"epochs": 9},
    "generate": {"max_new_tokens": 8},
}


def small_recipe(*layers: Mapping[str, Any]) -> Recipe:
    """`SMALL` with the keys of each layer in turn put into its sections; a section that is None is left out."""
    table = dict(SMALL)
    for layer in layers:
        for name, values in layer.items():
            table[name] = {**(table.get(name) or {}), **values} if isinstance(values, Mapping) else values
    return parse_recipe({name: values for name, values in table.items() if values is not None})
