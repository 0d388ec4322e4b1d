"""Which examples a recipe trains on, and which evaluate it during training."""

from __future__ import annotations

from rscap.data.source import Source
from rscap.recipe import Recipe
from rscap.records import Example


def training_examples(source: Source, recipe: Recipe) -> list[Example]:
    """The examples that a recipe trains on: the training split, or `train_limit` examples of it.

    Args:
        source: the recipe's data, after its quality rules where it has any.
        recipe: `data.train_limit` and `seed` are used.

    Raises:
        DataError: there is no training split, or it is smaller than the limit.
    """
    limit = recipe.data.train_limit
    return source.subset("train", limit, recipe.seed) if limit else source.split("train")


def validation_panel(source: Source, recipe: Recipe) -> list[Example]:
    """The fixed validation images for which captions are generated during training."""
    if not recipe.train.evaluate_every:
        return []
    available = source.splits.get("val", 0)
    return source.subset("val", min(recipe.train.evaluate_images, available), recipe.seed) if available else []
