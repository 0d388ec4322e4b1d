"""Which examples a run learns from, is watched on, and looks at before it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch

from rscap.captioner.batch import Batch, Encoder
from rscap.data import Source
from rscap.errors import RecipeError
from rscap.model.adapters import Calibration
from rscap.quality import QualityRules, select
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import RunFolder
from rscap.training.team import Team
from rscap.training.updates import CaptionWeights, updates


def selected(
    source: Source, recipe: Recipe, run: RunFolder, say: Callable[[str], None], team: Team
) -> tuple[Source, CaptionWeights]:
    """The source after the recipe's quality rules; what they did is listed in the run folder."""
    if recipe.data.quality is None:
        return source, {}
    selection = select(source, QualityRules(**recipe.data.quality.model_dump(exclude_none=True)))
    if team.leads:
        selection.write(run)
    summary = selection.summary()
    say(
        f"quality: {summary['captions_removed']:,} captions removed, {summary['captions_weighted']:,} weighted down, "
        f"{summary['images_dropped']:,} images dropped"
    )
    return selection.source, selection.weights


def training_examples(source: Source, recipe: Recipe) -> list[Example]:
    """The examples a recipe learns from: the training split, or `train_limit` of it."""
    limit = recipe.data.train_limit
    return source.subset("train", limit, recipe.seed) if limit else source.split("train")


def check_validation(recipe: Recipe, source: Source, say: Callable[[str], None], *, begun: bool = False) -> None:
    """Refuse to select by images that are not there; say where captions would be generated for none.

    A run that was `begun` all the same, by an earlier version, goes on.

    Raises:
        RecipeError: the recipe selects, and the data have no validation images.
    """
    if not recipe.train.evaluate_every or source.splits.get("val"):
        return
    if recipe.selection is not None and not begun:
        raise RecipeError(
            f"[selection] judges by validation images, and {source.name} has none",
            hint="give some images the split `val` (rscap data split does it), or leave [selection] out",
        )
    say(f"{source.name} has no validation images: nothing is evaluated during training")


def validation_panel(source: Source, recipe: Recipe) -> list[Example]:
    """The fixed validation images that captions are generated for during training."""
    if not recipe.train.evaluate_every:
        return []
    available = source.splits.get("val", 0)
    return source.subset("val", min(recipe.train.evaluate_images, available), recipe.seed) if available else []


def calibration(
    examples: Sequence[Example], recipe: Recipe, encoder: Encoder, weights: CaptionWeights, compute_dtype: torch.dtype
) -> Calibration | None:
    """The first training images, in the order of the first epoch, for methods that look before they start."""
    shown = recipe.adapter.calibration_images if recipe.adapter else None
    if shown is None:
        return None
    per_update = recipe.train.micro_batch * recipe.train.accumulation

    def first_batches() -> Iterator[Batch]:
        left = min(shown, len(examples))
        for micro_batches in islice(updates(examples, recipe, encoder, weights), math.ceil(left / per_update)):
            yield from (batch for batch in micro_batches if batch.images)

    return Calibration(batches=first_batches, compute_dtype=compute_dtype)
