"""Read runs and recipes of rscap, without loading a model."""

from __future__ import annotations

import math
from pathlib import Path

from rscap.doctor.evaluations import of_run
from rscap.doctor.evidence import (
    DataFacts,
    Evidence,
    Expected,
    Learning,
    LogEntry,
    RewardLog,
    RunState,
    TrainingLog,
    Validated,
    Watched,
)
from rscap.doctor.foreign import CONFIG, read_adapter
from rscap.doctor.reading import EvidenceReader, key_lines
from rscap.doctor.snapshot import known_tokens
from rscap.methods import METHODS
from rscap.recipe import TOWERS, Recipe, read_recipe
from rscap.store import (
    EVALUATION,
    EvaluationSettings,
    RunFolder,
    Status,
    TrainEvaluation,
    TrainStep,
    read_parameters,
    read_references,
    read_rejected,
    read_train_log,
)

Log = list[tuple[int, TrainStep | TrainEvaluation]]


def read_run(run: RunFolder, reader: EvidenceReader) -> tuple[Evidence, Recipe | None]:
    """The evidence in a run folder; and its recipe, if it trained a model."""
    status = reader.read(run.status_file, Status.read)
    recipe = reader.read(run.recipe_file, read_recipe)
    rows = reader.read(run.train_log, read_train_log)
    steps = [row.step for _, row in rows or [] if isinstance(row, TrainStep)]
    rewarded = any(isinstance(row, TrainStep) and row.reward is not None for _, row in rows or [])
    return Evidence(
        path=run.path,
        expected=expected_by_recipe(recipe, run.recipe_file) if recipe else _expected_of_evaluation(run, reader),
        vocabulary=known_tokens(recipe.model.base, reader).get("vocabulary") if recipe else None,
        state=RunState(
            where=reader.name(run.status_file),
            state=status.state if status else "without a state",
            message=(status.error if status else None) or "",
            steps=steps[-1] if steps else None,
            result=run.learned().is_dir() if run.recipe_file.exists() else None,
        ),
        log=None if rows is None or rewarded else _log(rows, reader.name(run.train_log)),
        reward=_reward_log(rows or [], reader.name(run.train_log), recipe) if rewarded else None,
        learning=reader.read(run.parameters_file, lambda path: _learning(path, reader)),
        adapter=reader.read(run.adapter, lambda path: read_adapter(path, reader.name(path / CONFIG)))
        if run.adapter.is_dir()
        else None,
        data=_data(run, recipe, rows or [], reader) if recipe else None,
        evaluations=of_run(run, reader) or None,
    ), recipe


def _log(rows: Log, where: str) -> TrainingLog:
    """Updates and evaluations; those without a loss are skipped."""
    return TrainingLog(
        where=where,
        entries=tuple(
            LogEntry(step=row.step, loss=row.loss, grad_norm=row.grad_norm, learning_rate=row.learning_rate, line=line)
            for line, row in rows
            if isinstance(row, TrainStep) and row.loss is not None
        ),
        validation=tuple(
            Validated(step=row.step, loss=row.loss, score=row.metrics.get("CIDEr"), line=line)
            for line, row in rows
            if isinstance(row, TrainEvaluation) and row.loss is not None
        ),
    )


def _reward_log(rows: Log, where: str, recipe: Recipe | None) -> RewardLog:
    """Mean rewards of updates, and what evaluations watched."""
    drawn = [(row.step, row.reward) for _, row in rows if isinstance(row, TrainStep) and row.reward is not None]
    objective = recipe.objective if recipe else None
    return RewardLog(
        where=where,
        steps=tuple(step for step, _ in drawn),
        drawn=tuple(reward for _, reward in drawn),
        evaluations=tuple(
            Watched(
                step=row.step,
                n=row.n,
                line=line,
                score=row.metrics.get("CIDEr"),
                reward=row.watch.get("reward"),
                bad_endings=row.watch.get("bad_endings"),
                reference_bad_endings=row.watch.get("reference_bad_endings"),
                distinct=row.watch.get("distinct_captions"),
            )
            for line, row in rows
            if isinstance(row, TrainEvaluation) and row.watch
        ),
        end_word=objective.end_word if objective else None,
    )


def expected_by_recipe(recipe: Recipe, path: Path) -> Expected:
    """The settings of a recipe, with their line numbers."""
    adapter, plain = recipe.adapter, recipe.adapter is not None and recipe.adapter.method == "lora"
    return Expected(
        where=path.name,
        lines=key_lines(path) if path.is_file() else {},  # a recipe in memory has none
        pretrained=recipe.model.pretrained,
        dtype=None if recipe.model.dtype == "auto" else recipe.model.dtype,
        quantisation=recipe.model.quantisation,
        quantise=recipe.model.quantise,
        towers={tower: getattr(recipe.towers, tower) for tower in TOWERS},
        peft_type=("LORA" if METHODS[adapter.method].lora else adapter.method.upper()) if adapter else None,
        rank=adapter.rank if adapter and plain else None,  # other methods are stored at ranks of their own
        alpha=adapter.alpha if adapter and plain else None,
        rank_stabilised=adapter.rank_stabilised if adapter and plain else None,
        weight_decomposed=adapter.weight_decomposed if adapter and plain else None,
        training_prompts=recipe.prompt.training_prefixes or (recipe.prompt.prefix,),
        test_prompts=(recipe.prompt.prefix,),
        learning_rate=recipe.train.learning_rate,
        max_grad_norm=recipe.train.max_grad_norm,
        captions=recipe.data.captions,
        selects=recipe.selection is not None,
    )


def _expected_of_evaluation(run: RunFolder, reader: EvidenceReader) -> Expected:
    """For an evaluation in its own folder: the training prompts of the run it evaluates, if that still exists."""
    settings = reader.read(run.evaluation_file, EvaluationSettings.read)
    trained = RunFolder(Path(settings.model)) if settings and settings.model else None
    if trained and trained.recipe_file.is_file() and (recipe := reader.read(trained.recipe_file, read_recipe)):
        words = recipe.prompt.training_prefixes or (recipe.prompt.prefix,)
        return Expected(where=str(trained.recipe_file), training_prompts=words)
    return Expected(where=EVALUATION, trains=False)


def _learning(path: Path, reader: EvidenceReader) -> Learning:
    counts = read_parameters(path)
    known = {tower: counts[tower].trainable for tower in TOWERS if tower in counts}
    return Learning(where=reader.name(path), trainable=known)


def _data(run: RunFolder, recipe: Recipe, rows: Log, reader: EvidenceReader) -> DataFacts:
    """Training images by the recipe's limit or the log's count, captions per image by the references."""
    rejected = reader.read(run.rejected_file, read_rejected) or []
    epoch = _images_of_an_epoch([row for _, row in rows if isinstance(row, TrainStep)])
    limit = recipe.data.train_limit
    return DataFacts(
        where=f"{run.recipe_file.name} [data]",
        training_images=limit if limit is not None else epoch,
        captions_per_image=_captions_per_image(run, reader),
        rejected=len(rejected),
        rows=len(rejected) + (epoch or limit or 0) or None,
    )


def _images_of_an_epoch(steps: list[TrainStep]) -> int | None:
    """The images of the first epoch; None if it was not completed or the log does not count them."""
    first = [step for step in steps if (math.inf if step.epoch is None else step.epoch) <= 1.0]
    counts = [step.images for step in first if step.images is not None]
    complete = bool(first) and first[-1].epoch == 1.0 and len(counts) == len(first)
    return sum(counts) if complete else None


def _captions_per_image(run: RunFolder, reader: EvidenceReader) -> float | None:
    splits = run.referenced()
    found = reader.read(run.references(splits[0]), read_references) if splits else None
    counts = [len(set(one.captions)) for one in (found or {}).values()]
    return sum(counts) / len(counts) if counts else None


def read_only_recipe(recipe: Recipe, path: Path) -> Evidence:
    """The evidence in a recipe."""
    limit = recipe.data.train_limit
    return Evidence(
        path=path,
        expected=expected_by_recipe(recipe, path),
        data=DataFacts(where=f"{path.name} [data]", training_images=limit) if limit is not None else None,
    )
