"""The examples of a run: those it trains on, those that evaluate it, and whether its first targets are right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from rscap.captioner.batch import Batch, Encoder
from rscap.data import Source, open_data
from rscap.data.choice import training_examples, validation_panel
from rscap.data.opening import look_at
from rscap.errors import BrokenTargets, RecipeError
from rscap.model.adapters import Calibration
from rscap.model.packed import PackedModel
from rscap.progress import Say
from rscap.quality import QualityRules, select
from rscap.recipe import DataSection, Recipe
from rscap.records import Example
from rscap.store import RunFolder
from rscap.training.team import Team
from rscap.training.updates import CaptionWeights, updates


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run trains on and is evaluated on during training."""

    source: Source
    """The data set without the captions that the quality rules removed."""
    train: list[Example]
    weights: CaptionWeights
    """Weights that the quality rules gave to captions of `train`."""
    panel: list[Example]
    """Validation images of the data set as published: the quality rules do not change them."""

    @classmethod
    def of(cls, published: Source, recipe: Recipe, run: RunFolder, say: Say, team: Team) -> TrainingData:
        """Choose the examples of a recipe from a data set; the run folder lists what the quality rules did."""
        source, weights = _selected(published, recipe, run, say, team)
        return cls(
            source=source,
            train=training_examples(source, recipe),
            weights=weights,
            panel=validation_panel(published, recipe),
        )


def decoded_data(section: DataSection, team: Team) -> Source:
    """The data set of a recipe, all images decoded once; several processes decode a part each.

    Raises:
        DataError: nothing to open, or too much of it cannot be used.
    """
    if team.size == 1 or section.source == "sample":  # whose images are drawn, not decoded
        return open_data(section, check="decode")
    there = open_data(section, check="exists")
    found = team.gather([look_at(team.part(there.examples))])
    return open_data(section, check={name: what for part in found for name, what in part.items()})


def _selected(source: Source, recipe: Recipe, run: RunFolder, say: Say, team: Team) -> tuple[Source, CaptionWeights]:
    if recipe.data.quality is None:
        return source, {}
    selection = select(source, QualityRules(**recipe.data.quality.model_dump(exclude_none=True)))
    if team.leads:
        selection.write(run)
    summary = selection.summary()
    say(
        f"quality rules: removed {summary.captions_removed:,} captions, lowered the weight of "
        f"{summary.captions_weighted:,} captions, dropped {summary.images_dropped:,} images"
    )
    return selection.source, selection.weights


def check_validation(recipe: Recipe, source: Source, say: Say, *, resumes: bool = False) -> None:
    """Refuse to select weights without validation images; report where nothing can be evaluated during training.

    A run without validation images that an earlier version began may still resume.

    Raises:
        RecipeError: the recipe has a [selection], and the data have no validation images.
    """
    if not recipe.train.evaluate_every or source.splits.get("val"):
        return
    if recipe.selection is not None and not resumes:
        raise RecipeError(
            f"[selection] needs validation images, and {source.name} has none",
            hint="give some images the split `val` (`rscap data split --ratio 80/10/10`), or remove [selection]",
        )
    say(f"{source.name} has no validation images: nothing is evaluated during training")


def calibration(data: TrainingData, recipe: Recipe, encoder: Encoder, compute_dtype: torch.dtype) -> Calibration | None:
    """The first training images of the first epoch, for methods that compute initial factors from activations."""
    shown = recipe.adapter.calibration_images if recipe.adapter else None
    if shown is None:
        return None
    per_update = recipe.train.micro_batch * recipe.train.accumulation

    def first_batches() -> Iterator[Batch]:
        left = min(shown, len(data.train))
        for micro_batches in islice(updates(data.train, recipe, encoder, data.weights), math.ceil(left / per_update)):
            yield from (batch for batch in micro_batches if batch.images)

    return Calibration(batches=first_batches, compute_dtype=compute_dtype)


_UNIFORM = 0.1  # share of ln V
_EVEN = 1.0  # nats
_SILENT = 1e-3


@torch.no_grad()
def check_targets(packed: PackedModel, batch: Batch) -> None:
    """Check the first losses of a pretrained base, one for each token.

    A uniform guess has the loss ln V on every token. A base that knows language, but not these captions, can have the
    same mean, with some tokens near 0 and some twice as high; so the standard deviation counts as well.

    Raises:
        BrokenTargets: all losses are near ln V, or near 0; says what that means.
    """
    losses = packed.token_losses(batch)
    mean, spread = losses.mean().item(), losses.std(correction=0).item()
    if guesses_evenly(packed, losses):
        uniform = math.log(packed.text_config.vocab_size)
        raise BrokenTargets(
            f"the first loss is {mean:.2f} (standard deviation {spread:.2f}), as for a uniform guess: ln(vocabulary) = "
            f"{uniform:.2f}",
            hint="a pretrained base does better: the targets are not the caption, or these are not its weights",
        )
    if mean < _SILENT:
        raise BrokenTargets(
            f"the first loss is {mean:.2g}: the model sees the answer, or no token is supervised",
            hint="only the caption and its <eos> may be targets, and no position may see the token that it predicts",
        )


def guesses_evenly(packed: PackedModel, losses: torch.Tensor) -> bool:
    """Whether losses, one for each token, are those of a model that gives all tokens the same probability."""
    uniform = math.log(packed.text_config.vocab_size)
    return abs(losses.mean().item() / uniform - 1.0) < _UNIFORM and losses.std(correction=0).item() < _EVEN
