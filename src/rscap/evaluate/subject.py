"""Who captions: a base model as it is, or what a run learned, with the words and decode settings that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from rscap.errors import StoreError
from rscap.model.captioner import Captioner
from rscap.model.load import Base, load_base
from rscap.model.run import check_weights, load_run
from rscap.recipe import GenerateSection, ModelSection, PromptSection, Recipe, change_generate, read_recipe
from rscap.store import RunFolder

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model that can be asked for captions; nothing heavy is loaded until `load`."""

    name: str
    trained: tuple[RunFolder, Recipe] | None
    section: ModelSection
    prefix: str
    generate: GenerateSection

    @classmethod
    def of(
        cls, model: str, *, prefix: str | None = None, dtype: Dtype = "bfloat16", changes: Sequence[str] = ()
    ) -> Subject:
        """A run folder if `model` is one, else a base model; not one from the Hub that looks like a run beside others.

        `prefix` replaces the words that training used; `changes` are overrides such as `generate.beams=3`.

        Raises:
            StoreError: a run folder that trained no model, or none at all beside others.
            RecipeError: the run's recipe cannot be read, or the changes cannot be made.
        """
        folder = Path(model)
        if not (folder / "status.json").is_file():
            _refuse_misspelt(folder)
            words = PromptSection().prefix if prefix is None else prefix
            section = ModelSection(base=model, dtype=dtype)
            settings = change_generate(GenerateSection(), changes)
            return cls(name=folder.name, trained=None, section=section, prefix=words, generate=settings)
        run = RunFolder.open(folder)
        if not run.recipe_file.is_file():
            raise StoreError(f"{folder} trained no model", hint="name a run that `rscap train` made, or a base model")
        recipe = read_recipe(run.recipe_file)
        words = recipe.prompt.prefix if prefix is None else prefix
        settings = change_generate(recipe.generate, changes)
        return cls(name=run.name, trained=(run, recipe), section=recipe.model, prefix=words, generate=settings)

    @property
    def training_prefixes(self) -> tuple[str, ...]:
        """The words that a run was trained with; none of a base model."""
        prompt = self.trained[1].prompt if self.trained else None
        return (prompt.training_prefixes or (prompt.prefix,)) if prompt else ()

    def load(self, device: str) -> tuple[Base, Captioner]:
        """The model on `device`, ready to generate."""
        if self.trained:
            check_weights(self.trained[0])
            return load_run(*self.trained, device=device)
        base = load_base(self.section, device=device)
        return base, Captioner(base.model, compute_dtype=base.compute_dtype)


def _refuse_misspelt(folder: Path) -> None:
    """Say so where a run of another name was meant, and not ask the Hub for it.

    Raises:
        StoreError: there is nothing at `folder`, and there are runs beside it.
    """
    beside = [path.parent.name for path in folder.parent.glob("*/status.json")] if folder.parent != Path() else []
    if beside and not folder.exists():
        near = get_close_matches(folder.name, beside, n=3, cutoff=0.0)
        raise StoreError(f"there is no run {folder}", hint=f"{folder.parent} holds {', '.join(near)}")
