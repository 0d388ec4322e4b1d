"""`rscap evaluate`: what is to be captioned, by which model, and where the result goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rscap import provenance
from rscap.batch import Encoder
from rscap.data import Source, open_source
from rscap.errors import DataError, StoreError
from rscap.evaluate.outcome import Progress, Task, evaluate_model, write_baselines, write_outcome
from rscap.model.captioner import Captioner
from rscap.model.load import Base, load_base
from rscap.model.run import best_device, load_run
from rscap.recipe import DataSection, GenerateSection, ModelSection, PromptSection, Recipe, read_recipe
from rscap.records import Example, ScoreSheet
from rscap.store import RunFolder, write_json, write_jsonl

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; None means: as in the run."""

    model: str
    source: str | None = None
    splits: str | None = None
    split: str = "test"
    limit: int | None = None
    prefix: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    out: Path | None = None
    baselines: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request with everything filled in."""

    request: Request
    run: RunFolder | None
    recipe: Recipe | None
    model: ModelSection
    data: DataSection
    task: Task
    out: Path

    @property
    def in_place(self) -> bool:
        """The result belongs to the run's own folder."""
        return self.run is not None and self.out == self.run.path


def plan(request: Request) -> Plan:
    """Decide model, data, prompt and place of a request, before anything heavy is loaded.

    Raises:
        StoreError: the place is taken.
        DataError: a base model was named without data to evaluate it on.
    """
    run = RunFolder.open(Path(request.model)) if (Path(request.model) / "status.json").is_file() else None
    recipe = read_recipe(run.recipe_file) if run and run.recipe_file.is_file() else None
    if recipe is None and request.source is None:
        raise DataError(
            f"no data named to evaluate {request.model} on", hint="add --source, for example --source sample"
        )
    if run is not None and recipe is None:
        raise StoreError(f"{run.path} trained no model", hint="name a run that `rscap train` made, or a base model")
    data = _data(request, recipe)
    prefix = request.prefix if request.prefix is not None else (recipe.prompt if recipe else PromptSection()).prefix
    task = Task(
        prefix=prefix,
        generate=recipe.generate if recipe else GenerateSection(),
        workers=data.workers,
        max_rejected_share=data.max_rejected_share,
    )
    model = recipe.model if recipe else ModelSection(base=request.model, dtype=request.dtype)
    return Plan(
        request=request, run=run, recipe=recipe, model=model, data=data, task=task, out=_place(request, run, recipe)
    )


def evaluate(planned: Plan, *, progress: Progress, say: Say) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    """Carry a plan out: captions, scores, baselines; returns the folder and the sheets by name.

    Raises:
        RscapError: whatever makes it impossible; a new folder then says `failed` and why.
    """
    request = planned.request
    device = best_device()
    source = open_source(
        planned.data.source, split_scheme=planned.data.splits, max_rejected_share=planned.data.max_rejected_share
    )
    test = source.subset(request.split, request.limit, request.seed) if request.limit else source.split(request.split)
    base, captioner = _load(planned, device)
    if planned.in_place:
        return _evaluate(planned, RunFolder(planned.out), source, test, base, captioner, progress=progress, say=say)
    target = RunFolder.create(planned.out)
    try:
        _describe(planned, target, source, base, device)
        done = _evaluate(planned, target, source, test, base, captioner, progress=progress, say=say)
    except BaseException as error:
        target.close("failed", error=f"{type(error).__name__}: {error}")
        raise
    target.close("finished")
    return done


def _evaluate(
    planned: Plan,
    target: RunFolder,
    source: Source,
    test: list[Example],
    base: Base,
    captioner: Captioner,
    *,
    progress: Progress,
    say: Say,
) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    split = planned.request.split
    train = source.split("train") if source.splits.get("train") else []
    outcome = evaluate_model(captioner, Encoder.of(base), task=planned.task, test=test, train=train, progress=progress)
    write_outcome(target, split, outcome, test)
    if ties := sum(1 for prediction in outcome.predictions if prediction.near_ties):
        say(f"{ties} captions hold a near-tie: two best tokens within rounding error of each other")
    sheets = {target.name: outcome.sheet}
    if planned.request.baselines and train:
        sheets |= write_baselines(target, split, test=test, train=train)
    elif planned.request.baselines:
        say(f"{source.name} has no training split: no baselines")
    return target, sheets


def _data(request: Request, recipe: Recipe | None) -> DataSection:
    changes: dict[str, Any] = {}
    if request.source is not None:
        changes["source"] = request.source
    if request.splits is not None:
        changes["splits"] = request.splits
    if recipe is None:
        return DataSection(**changes)
    return recipe.data.model_copy(update=changes)


def _place(request: Request, run: RunFolder | None, recipe: Recipe | None) -> Path:
    """The run folder itself for the run's own data asked in the run's own words; a new folder otherwise."""
    own = run is not None and not any((request.source, request.splits, request.limit, request.prefix, request.out))
    if own and run is not None:
        if run.scores(request.split).exists():
            raise StoreError(
                f"{run.path} has been evaluated on {request.split} already: {run.scores(request.split)}",
                hint="give --out for another folder, or move the old scores away",
            )
        return run.path
    if request.out is not None:
        return request.out
    name = f"{Path(request.model).name}-{'zero-shot' if run is None else request.split}"
    return Path("runs") / (f"{name}-{request.limit}" if request.limit else name)


def _load(planned: Plan, device: str) -> tuple[Base, Captioner]:
    if planned.run is not None and planned.recipe is not None:
        return load_run(planned.run, planned.recipe, device=device)
    base = load_base(planned.model, device=device)
    return base, Captioner(base.model, compute_dtype=base.compute_dtype)


def _describe(planned: Plan, target: RunFolder, source: Source, base: Base, device: str) -> None:
    request = planned.request
    write_json(
        target.path / "evaluation.json",
        {
            "model": request.model,
            "data": planned.data.model_dump(mode="json", exclude_none=True),
            "split": request.split,
            "limit": request.limit,
            "prefix": planned.task.prefix,
            "generate": planned.task.generate.model_dump(mode="json"),
        },
    )
    write_json(
        target.provenance_file,
        provenance.collect(
            device=device,
            threads=torch.get_num_threads(),
            data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
            base=base.describe(),
        ),
    )
    write_jsonl(target.rejected_file, map(asdict, source.rejected))
