"""The prompt a model was trained with against the one that its evaluation asked with."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from rscap.recipe import PromptSection
from rscap.report.load import LoadedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The words before the caption, in training and in evaluation; empty where the folders do not say."""

    trained: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def strange(self) -> tuple[str, ...]:
        """The words that evaluation asked with and training never used."""
        return tuple(words for words in self.asked if words not in self.trained) if self.trained else ()


def prompts_of(run: LoadedRun) -> Prompts:
    """Training's prompts from the run's recipe or from evaluation.json, evaluation's from the predictions.

    A base model that was not trained has no prompt of training. Without predictions evaluation.json tells the other.
    """
    asked = tuple(dict.fromkeys(prediction.prefix for prediction in run.scored.predictions.values()))
    if not asked and isinstance(run.evaluation.get("prefix"), str):
        asked = (run.evaluation["prefix"],)
    told = run.evaluation.get("training_prefixes")
    trained = tuple(map(str, told)) if isinstance(told, list) else _of_recipe(run.trained_recipe)
    return Prompts(trained=trained, asked=asked)


def warnings_of(run: LoadedRun) -> tuple[str, ...]:
    """What to say of a model that was asked with other words than it learned, without its name; else nothing."""
    prompts = prompts_of(run)
    if not prompts.strange:
        return ()
    return (
        f"was asked with the prompt {_said(prompts.strange)} but trained with {_said(prompts.trained)}: "
        "its scores are those of words it has not learned",
    )


def _of_recipe(recipe: str | None) -> tuple[str, ...]:
    """The prefixes of a recipe's text, those of the defaults included; empty where it cannot be read."""
    if recipe is None:
        return ()
    try:
        section = tomllib.loads(recipe).get("prompt", {})
    except tomllib.TOMLDecodeError:
        return ()
    if not isinstance(section, dict):
        return ()
    several = section.get("training_prefixes")
    if isinstance(several, list) and several:
        return tuple(map(str, several))
    return (str(section.get("prefix", PromptSection().prefix)),)


def _said(words: Sequence[str]) -> str:
    return ", ".join(f"“{one}”" for one in words)
