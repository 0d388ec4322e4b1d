"""`diagnose`: gather the evidence, then run every check on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rscap.doctor.checks import CHECKS
from rscap.doctor.checks.loss import ENTRIES_WANTED
from rscap.doctor.evidence import Evidence
from rscap.doctor.findings import Diagnosis, found, ordered
from rscap.doctor.foreign import adapter_folder, read_foreign
from rscap.doctor.own import read_only_recipe, read_run
from rscap.doctor.reading import EvidenceReader
from rscap.errors import RecipeError, RscapError, StoreError
from rscap.recipe import Recipe, read_recipe
from rscap.shipped import names, shipped
from rscap.store import RunFolder

_PARTS = {
    "how the run ended": "state",
    "labels of a training batch": "targets",
    "attention mask": "attention",
    "first losses, token by token": "first_losses",
    "loss over time": "log",
    "learning rate": "rate",
    "precision of the weights": "weights",
    "trainable parameters": "learning",
    "adapter files": "adapter",
    "trained weights": "trained",
    "training data": "data",
    "captions and scores": "evaluations",
}
_NO_FILES = "no such files"
_OF_A_RECIPE = ("targets", "attention", "first_losses", "rate", "weights", "learning", "data")
_OF_A_FOREIGN_RUN = tuple(part for part in _PARTS.values() if part not in ("rate", "trained"))
_OF_A_RUN = tuple(part for part in _PARTS.values() if part != "rate")
_MEASURED = ("targets", "attention", "first_losses", "rate", "weights", "learning", "trained")
_OF_AN_EVALUATION = ("state", "evaluations")


def diagnose(subject: Path | Mapping[str, Any], *, overrides: Sequence[str] = (), live: bool = True) -> Diagnosis:
    """Examine a run folder of rscap, a recipe (a TOML file or its table), or a folder with files of another program.

    Args:
        overrides: `section.key=value` for a recipe.
        live: also load the base model and the data, and measure; otherwise only files are read.

    Raises:
        StoreError: there is nothing to examine at `subject`.
        RecipeError: overrides for what is no recipe.
    """
    if isinstance(subject, Mapping):
        return _of_recipe(subject, Path("recipe in memory"), overrides, live=live)
    subject = shipped(subject, "recipes")
    if subject.is_file():
        return _of_recipe(subject, subject, overrides, live=live)
    if not subject.is_dir():
        raise StoreError(
            f"{subject} is neither a run folder nor a recipe",
            hint=f"a folder, a file in TOML, or one that ships with rscap: {', '.join(names('recipes'))}",
        )
    if overrides:
        raise RecipeError(
            f"overrides change a recipe, and {subject} is a folder whose run is over",
            hint=f"leave them out; a recipe with them is examined as `rscap doctor RECIPE.toml --set {overrides[0]}`",
        )
    reader = EvidenceReader(subject)
    if (run := RunFolder(subject)).exists:
        return _of_run(run, reader, live=live)
    return _of_foreign(subject, reader, live=live)


def _of_foreign(folder: Path, reader: EvidenceReader, *, live: bool) -> Diagnosis:
    evidence = read_foreign(folder, reader)
    if (place := adapter_folder(folder)) is None:
        return _conclude("foreign run", evidence, reader, _OF_A_FOREIGN_RUN)
    reason = "no model was loaded"
    if live:
        from rscap.doctor.probe import probe_adapter

        try:
            evidence = probe_adapter(evidence, place)
        except RscapError as error:
            reason = error.message.splitlines()[0]
    evidence = replace(evidence, absent={"trained weights": reason, **evidence.absent})
    return _conclude("foreign run", evidence, reader, (*_OF_A_FOREIGN_RUN, "trained"))


def _of_recipe(source: Path | Mapping[str, Any], path: Path, overrides: Sequence[str], *, live: bool) -> Diagnosis:
    try:
        recipe = read_recipe(source, overrides)
    except RscapError as error:
        finding = found("cannot-start", _sentence(error), where=str(path))
        return Diagnosis(subject=str(path), kind="recipe", findings=(finding,), looked_at=("the recipe",))
    evidence, reader = read_only_recipe(recipe, path), EvidenceReader(path.parent)
    reason = "no model was loaded"
    if live:
        from rscap.doctor.probe import probe_recipe

        try:
            evidence = probe_recipe(evidence, recipe)
        except RscapError as error:
            reader.findings.append(found("cannot-start", _sentence(error), where=str(path)))
            reason = "the recipe cannot be run"
    return _conclude("recipe", evidence, reader, _OF_A_RECIPE, reason)


def _of_run(run: RunFolder, reader: EvidenceReader, *, live: bool) -> Diagnosis:
    evidence, recipe = read_run(run, reader)
    reason = _NO_FILES
    if recipe is not None:
        evidence, reason = _probed(evidence, recipe, run, live=live)
    parts = _OF_A_RUN if run.recipe_file.exists() else _OF_AN_EVALUATION
    if recipe is not None and recipe.adapter is None:
        parts = tuple(part for part in parts if part != "adapter")
    return _conclude("run", evidence, reader, parts, reason)


def _probed(evidence: Evidence, recipe: Recipe, run: RunFolder, *, live: bool) -> tuple[Evidence, str]:
    """The evidence with what could be measured, and why the rest could not: data or base may be unavailable."""
    if not live:
        return evidence, "no model was loaded"
    from rscap.doctor.probe import probe_run

    try:
        return probe_run(evidence, recipe, run), _NO_FILES
    except RscapError as error:
        return evidence, error.message.splitlines()[0]


def _conclude(
    kind: Literal["run", "recipe", "foreign run"],
    evidence: Evidence,
    reader: EvidenceReader,
    parts: Sequence[str],
    reason: str = _NO_FILES,
) -> Diagnosis:
    """Run every check. `parts` are those that a subject of this kind can have, `reason` says why one is missing."""
    everything = [*reader.findings, *(finding for check in CHECKS for finding in check.look(evidence))]
    measured = _OF_A_RECIPE if kind == "recipe" else _MEASURED
    missing = {
        name: evidence.absent.get(name) or reader.absent.get(name) or (reason if part in measured else _NO_FILES)
        for name, part in _PARTS.items()
        if part in parts and getattr(evidence, part) is None
    }
    if evidence.log and len(evidence.log.entries) < ENTRIES_WANTED:
        missing["loss over time"] = f"{len(evidence.log.entries)} logged updates, {ENTRIES_WANTED} wanted"
    return Diagnosis(
        subject=str(evidence.path),
        kind=kind,
        findings=ordered(everything),
        looked_at=tuple(name for name, part in _PARTS.items() if getattr(evidence, part) is not None),
        not_looked_at=missing,
    )


def _sentence(error: RscapError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
