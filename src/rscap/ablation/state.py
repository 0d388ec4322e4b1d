"""Checks that a study folder holds what its plan says: the recipe of a run, and the same images for all."""

from __future__ import annotations

from collections.abc import Mapping

from rscap.errors import StoreError
from rscap.recipe import Recipe, read_recipe
from rscap.store import FolderState, RunFolder
from rscap.tables import differences


def run_state(run: RunFolder, recipe: Recipe, split: str) -> FolderState:
    """How far a run folder is that should hold `recipe`; one that has not written a recipe yet holds none.

    Raises:
        StoreError: the folder holds another recipe; lists the keys that differ.
    """
    if run.exists and run.recipe_file.is_file():
        there, here = (one.model_dump(mode="json") for one in (read_recipe(run.recipe_file), recipe))
        if found := differences(there, here):
            listed = [f"{key} is {found[key][0]!r}, the study says {found[key][1]!r}" for key in sorted(found)[:4]]
            raise StoreError(
                f"{run.path} holds another recipe: {'; '.join(listed)}",
                hint="give --out another folder, or move that run away",
            )
    return run.state(split)


def same_images(runs: Mapping[str, RunFolder], split: str) -> dict[str, str]:
    """Names of runs whose references are not those of the first, with the reason; all must be scored on the same."""
    expected: tuple[str, bytes] | None = None
    odd = {}
    for name, run in runs.items():
        found = run.references(split).read_bytes()
        if expected is None:
            expected = name, found
        elif found != expected[1]:
            odd[name] = f"scored on other images or references than {expected[0]}; was the data changed in between?"
    return odd
