"""The images on which run and export are compared: validation images of the run, or what can be had in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rscap.data import FileImage, open_source
from rscap.errors import DataError, StoreError
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import RunFolder, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Examples to compare on, and what they are in words."""

    examples: Sequence[Example]
    origin: str


def pictures(run: RunFolder, recipe: Recipe, n: int) -> Pictures:
    """Up to `n` validation images of the run's own data, chosen by its seed.

    Where the data are not at hand or have no validation split: the images that the run folder keeps for its report,
    and where it was never evaluated, validation images of the built-in sample. `origin` says which.
    """
    return _validation(recipe, n) or _panel(run, n) or _sample(recipe, n)


def _validation(recipe: Recipe, n: int) -> Pictures | None:
    data = recipe.data
    try:
        source = open_source(
            data.source, split_scheme=data.splits, max_rejected_share=data.max_rejected_share, check="exists"
        )
    except DataError:
        return None
    if not (available := source.splits.get("val", 0)):
        return None
    chosen = source.subset("val", min(n, available), recipe.seed)
    return Pictures(examples=chosen, origin=f"{len(chosen)} validation images of {source.name}")


def _panel(run: RunFolder, n: int) -> Pictures | None:
    """Of the panels that evaluations left, the first that can be read."""
    for file in sorted((run.path / "panel").glob("*/panel.json")):
        try:
            rows = read_json(file)
            handles = [(str(row["id"]), file.parent / str(row["file"])) for row in rows][:n]
        except (StoreError, KeyError, TypeError):
            continue
        if handles and all(path.is_file() for _, path in handles):
            examples = [
                Example(id=name, captions=(), image=FileImage(path), split=file.parent.name, source="")
                for name, path in handles
            ]
            return Pictures(
                examples=examples, origin=f"{len(examples)} {file.parent.name} images that the run folder keeps"
            )
    return None


def _sample(recipe: Recipe, n: int) -> Pictures:
    source = open_source("sample")
    chosen = source.subset("val", min(n, source.splits["val"]), recipe.seed)
    return Pictures(
        examples=chosen, origin=f"{len(chosen)} images of the built-in sample (the run's own data are not at hand)"
    )
