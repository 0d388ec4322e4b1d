"""A run that begins with the weights of a finished run (`model.start`), and has seen what that run has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rscap import provenance
from rscap.captioner.loading import check_weights, weights_digests
from rscap.errors import RecipeError, StoreError
from rscap.evaluation.seen import seen_by
from rscap.methods import METHODS
from rscap.model.adapters.storage import continue_adapter
from rscap.model.load import load_base
from rscap.progress import Say
from rscap.recipe import Recipe, read_recipe
from rscap.store import CHECKPOINT_WEIGHTS, CHECKPOINTS, Provenance, RunFolder, Seen, SeenImage
from rscap.tables import differences
from rscap.training.checkpoints import read_checkpoint
from rscap.training.optimiser import load_weights, trainable

_FREE = ("dropout", "lora_plus_ratio", "calibration_images")
"""Settings of an adapter that change no weight."""


@dataclass(frozen=True, slots=True)
class Start:
    """A finished run with whose weights another run begins."""

    run: RunFolder
    recipe: Recipe
    checkpoint: Path | None = None
    """A checkpoint of that run, whose weights are used; None for the weights that the run kept."""

    @classmethod
    def of(cls, recipe: Recipe) -> Start | None:
        """The start that a recipe names; None where training begins with the base.

        Raises:
            RecipeError: the two runs do not train the same parameters; names each setting that differs.
            StoreError: there is no such run or checkpoint, it is not finished, or its weights were changed.
        """
        if recipe.model.start is None:
            return None
        named = Path(recipe.model.start)
        checkpoint = named if named.parent.name == CHECKPOINTS else None
        run = RunFolder.open(named.parent.parent if checkpoint else named)
        if run.status().state != "finished":
            raise StoreError(
                f"model.start = {run.path} is a run that did not finish", hint="finish it, or name another"
            )
        check_weights(run)
        first = read_recipe(run.recipe_file)
        if differing := differences(_trained(first), _trained(recipe)):
            listed = "; ".join(f"{path}: {was!r} there, {now!r} here" for path, (was, now) in differing.items())
            raise RecipeError(f"model.start = {run.path} trained something else: {listed}", hint="set them alike")
        if recipe.adapter is not None and METHODS[recipe.adapter.method].residual:
            raise RecipeError(
                f"adapters of {recipe.adapter.method} cannot be trained on in another run",
                hint="train the first run with another method, such as lora",
            )
        if checkpoint:
            read_checkpoint(checkpoint)  # a missing or damaged one is an error now, not after the base is loaded
        return cls(run, first, checkpoint)

    def describe(self) -> dict[str, Any]:
        """For the provenance: the run and the digests of its weights."""
        if self.checkpoint:
            digest = provenance.file_digest(self.checkpoint / CHECKPOINT_WEIGHTS)
            return {"run": str(self.checkpoint), "weights": {CHECKPOINT_WEIGHTS: digest}}
        return {"run": str(self.run.path), "weights": weights_digests(self.run)}

    def check_same(self, run: RunFolder) -> None:
        """Refuse to resume a run whose start has other weights than when it began.

        Raises:
            StoreError: it has.
        """
        if not run.provenance_file.exists():
            return
        before = (Provenance.read(run.provenance_file).base.model_extra or {}).get("start")
        if before is not None and before["weights"] != self.describe()["weights"]:
            raise StoreError(
                f"{self.run.path} has other weights than when {run.path} began with them",
                hint="bring them back, or start another run",
            )

    def fill(self, net: nn.Module) -> None:
        """Put the weights into a model that was prepared for the recipe."""
        if self.checkpoint:
            load_weights(net, read_checkpoint(self.checkpoint).weights)
            return
        if self.run.adapter.is_dir():
            continue_adapter(net, self.run.adapter)
            return
        section = self.recipe.model.model_copy(
            update={"base": str(self.run.model), "revision": None, "dtype": "float32", "start": None}
        )
        learned = dict(load_base(section).model.named_parameters())
        load_weights(net, {name: learned[name] for name in trainable(net)})

    def seen_with(self, own: Seen, say: Say) -> Seen:
        """All images that a run has seen: its `own`, and those of the run with whose weights it began."""
        before = seen_by(self.run, self.recipe, say)
        if isinstance(before, str):
            say(f"what {self.run.path} was trained on is not known, so evaluations cannot refuse it: {before}")
            return own
        found: dict[tuple[str, bytes | None], SeenImage] = {}
        for image in (*before, *own):
            known = found.get(key := (image.id, image.digest), image)
            both = (known.trained or image.trained, known.selected or image.selected)
            found[key] = SeenImage(image.id, image.digest, image.look, *both)
        return Seen.of(found.values())


def _trained(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide which parameters there are."""
    adapter = recipe.adapter.model_dump(mode="json", exclude=set(_FREE)) if recipe.adapter else {}
    return {"model.base": recipe.model.base, "towers": recipe.towers.model_dump(mode="json"), "adapter": adapter}
