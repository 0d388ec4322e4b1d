"""Runs and recipes of rscap: what their files say, before any model is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rscap.doctor.adapters import CONFIG, read_adapter
from rscap.doctor.asked import asked_by_recipe
from rscap.doctor.batch_file import known_tokens
from rscap.doctor.evaluations import of_run
from rscap.doctor.evidence import Asked, DataFacts, Evidence, Learning, RunState
from rscap.doctor.foreign import read_log
from rscap.doctor.reading import Reader, json_lines, mapping
from rscap.recipe import Recipe, read_recipe
from rscap.store import RunFolder


def read_run(run: RunFolder, reader: Reader) -> tuple[Evidence, Recipe | None]:
    """Everything that a run folder says; and its recipe, if it trained anything."""
    status = reader.read(run.status_file, mapping) or {}
    recipe = reader.read(run.recipe_file, read_recipe)
    log = reader.read(run.train_log, lambda path: read_log(path, reader.name(path)))
    asked = asked_by_recipe(recipe, run.recipe_file) if recipe else _asked_of_evaluation(run, reader)
    trains = run.recipe_file.exists()
    return Evidence(
        path=run.path,
        asked=asked,
        vocabulary=known_tokens(recipe.model.base, reader).get("vocabulary") if recipe else None,
        state=RunState(
            where=reader.name(run.status_file),
            state=str(status.get("state", "without a state")),
            message=str(status.get("error", "")),
            steps=log.entries[-1].step if log and log.entries else None,
            result=run.adapter.is_dir() or run.model.is_dir() if trains else None,
        ),
        log=log,
        learning=reader.read(run.parameters_file, lambda path: _learning(path, reader)),
        adapter=reader.read(run.adapter, lambda path: read_adapter(path, reader.name(path / CONFIG)))
        if run.adapter.is_dir()
        else None,
        data=_data(run, recipe, reader) if recipe else None,
        evaluations=of_run(run, reader) or None,
    ), recipe


def _asked_of_evaluation(run: RunFolder, reader: Reader) -> Asked:
    """Of an evaluation in a folder of its own: the prompts of the run it evaluates, where that is still there."""
    plan = reader.read(run.path / "evaluation.json", mapping) or {}
    trained = Path(str(plan.get("model", ""))) / "recipe.toml"
    if plan.get("model") and trained.is_file() and (recipe := reader.read(trained, read_recipe)):
        words = recipe.prompt.training_prefixes or (recipe.prompt.prefix,)
        return Asked(where=str(trained), training_prompts=words)
    return Asked(where="evaluation.json", trains=False)


def _learning(path: Path, reader: Reader) -> Learning:
    counts: dict[Any, Any] = mapping(path)
    return Learning(where=reader.name(path), trainable={tower: int(own["trainable"]) for tower, own in counts.items()})


def _data(run: RunFolder, recipe: Recipe, reader: Reader) -> DataFacts:
    """Training images as the recipe limits them or the log counts them, captions as the references have them."""
    rejected = reader.read(run.rejected_file, json_lines) or []
    epoch = _images_of_an_epoch(run, reader)
    limit = recipe.data.train_limit
    return DataFacts(
        where=f"{run.recipe_file.name} [data]",
        training_images=limit if limit is not None else epoch,
        captions_per_image=_captions_per_image(run, reader),
        rejected=len(rejected),
        rows=len(rejected) + (epoch or limit or 0) or None,
    )


def _images_of_an_epoch(run: RunFolder, reader: Reader) -> int | None:
    """The images of the first epoch's updates; None where it was not completed or the log does not count them."""
    rows = [row for _, row in reader.read(run.train_log, json_lines) or [] if row.get("event") == "step"]
    first = [row for row in rows if row.get("epoch", math.inf) <= 1.0]
    complete = bool(first) and first[-1]["epoch"] == 1.0 and all("images" in row for row in first)
    return sum(row["images"] for row in first) if complete else None


def _captions_per_image(run: RunFolder, reader: Reader) -> float | None:
    files = sorted((run.path / "references").glob("*.jsonl"))
    rows = [row for _, row in (reader.read(files[0], json_lines) or [])] if files else []
    counts = [len(set(row.get("captions", ()))) for row in rows]
    return sum(counts) / len(counts) if counts else None


def read_only_recipe(recipe: Recipe, path: Path) -> Evidence:
    """What a recipe says of itself."""
    limit = recipe.data.train_limit
    return Evidence(
        path=path,
        asked=asked_by_recipe(recipe, path),
        data=DataFacts(where=f"{path.name} [data]", training_images=limit) if limit is not None else None,
    )
