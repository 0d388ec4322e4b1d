"""The plan of a study: the runs of every row, their folders, and the jobs that an engine carries out.

What a study folder holds is checked against the plan: the recipe of a run, and the same images for all. No torch here:
planning a study imports none.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import tomli_w

from rscap.ablation.rows import StudyRow, expand, read_base, recipe_of
from rscap.ablation.study import EvaluationSection, Study
from rscap.errors import RecipeError, StoreError
from rscap.recipe import DataSection, Recipe, read_recipe, recipe_changes
from rscap.store import (
    BASE,
    BASELINE_LABELS,
    Attempt,
    FolderState,
    RowRecord,
    RunFolder,
    RunRecord,
    StudyFolder,
    StudyRecord,
    ZeroShotRecord,
    baseline_folder_of,
    run_folder_of,
    zero_shot_folder_of,
)
from rscap.tables import check_table, differences, flatten


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One row with one seed."""

    row: str
    seed: int
    folder: str
    """Relative to the study folder."""
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """A row with one run for each seed; an excluded row has none."""

    name: str
    differences: Mapping[str, Any]
    runs: tuple[PlannedRun, ...]
    excluded: str | None = None
    """Why it is not run; None if it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """The evaluation of a base model without training; rows that ask the same model in the same way share it."""

    folder: str
    recipe: Recipe
    """Only its base, precision, prompt and decode settings are used."""
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """Everything that a study runs."""

    name: str
    reference: str
    evaluation: EvaluationSection
    """With `source` and `splits` filled in."""
    data: DataSection
    """How the evaluation images are opened."""
    rows: tuple[PlannedRow, ...]
    zero_shot: tuple[ZeroShot, ...]
    baselines: tuple[str, ...]

    @property
    def runs(self) -> list[PlannedRun]:
        return [run for row in self.rows for run in row.runs]


def make_plan(study: Study) -> StudyPlan:
    """Expand a study into rows and runs, and check each.

    Raises:
        RecipeError: a row that cannot be run as written, two rows with the same recipe, or an unknown row in
            `reference` or `exclude`.
    """
    base = read_base(study)
    data = check_table(DataSection, base["data"], name=f"[data] of {study.base}")
    evaluation = study.evaluation.model_copy(
        update={
            "source": study.evaluation.source or data.source,
            "splits": study.evaluation.splits or data.splits,
        }
    )
    rows = _rows(study, base)
    _check_different(rows)
    return StudyPlan(
        name=study.name,
        reference=_reference(study, rows),
        evaluation=evaluation,
        data=data.model_copy(update={"source": evaluation.source, "splits": evaluation.splits}),
        rows=rows,
        zero_shot=_zero_shot(rows, evaluation) if study.zero_shot else (),
        baselines=tuple(map(baseline_folder_of, BASELINE_LABELS)) if study.baselines else (),
    )


def _rows(study: Study, base: Mapping[str, Any]) -> tuple[PlannedRow, ...]:
    expanded = expand(study)
    reasons = {row: exclusion.reason for exclusion in study.exclude for row in exclusion.rows}
    _check_names("exclude", reasons, [row.name for row in expanded])
    return tuple(
        PlannedRow(
            name=row.name,
            differences=row.differences,
            runs=() if row.name in reasons else _runs(study, base, row),
            excluded=reasons.get(row.name),
        )
        for row in expanded
    )


def _runs(study: Study, base: Mapping[str, Any], row: StudyRow) -> tuple[PlannedRun, ...]:
    return tuple(
        PlannedRun(
            row=row.name,
            seed=seed,
            folder=run_folder_of(row.name, seed),
            recipe=recipe_of(base, row, seed=seed, budget=study.budget),
        )
        for seed in study.seeds
    )


def _check_different(rows: Sequence[PlannedRow]) -> None:
    first = [row.runs[0] for row in rows if row.runs]
    for number, run in enumerate(first):
        for earlier in first[:number]:
            if run.recipe == earlier.recipe:
                raise RecipeError(
                    f"rows {earlier.row!r} and {run.row!r} have the same recipe, so they could only differ by chance",
                    hint="remove one, or set the key in which they should differ",
                )


def _reference(study: Study, rows: Sequence[PlannedRow]) -> str:
    there = [row.name for row in rows if row.runs]
    if not there:
        raise RecipeError(f"study {study.name!r} excludes every row")
    if study.reference is not None:
        _check_names("reference", [study.reference], there)
    return study.reference or there[0]


def _check_names(key: str, names: Sequence[str] | Mapping[str, Any], rows: Sequence[str]) -> None:
    for name in names:
        if name not in rows:
            raise RecipeError(f"{key}: there is no row {name!r}", hint=f"rows: {', '.join(rows)}")


def _zero_shot(rows: Sequence[PlannedRow], evaluation: EvaluationSection) -> tuple[ZeroShot, ...]:
    """One evaluation for each combination of base, precision, prompt and decode settings that the rows use."""
    groups: list[tuple[Recipe, list[str]]] = []
    for row in (row for row in rows if row.runs):
        recipe = row.runs[0].recipe
        for known, members in groups:
            if asked(known, evaluation) == asked(recipe, evaluation):
                members.append(row.name)
                break
        else:
            groups.append((recipe, [row.name]))
    return tuple(
        ZeroShot(
            folder=zero_shot_folder_of(members[0] if len(groups) > 1 else None),
            recipe=recipe,
            rows=tuple(members),
        )
        for recipe, members in groups
    )


def asked(recipe: Recipe, evaluation: EvaluationSection) -> dict[str, Any]:
    """Everything that determines the captions of a base model that is not trained, as a flat table."""
    prefix = recipe.prompt.prefix if evaluation.prefix is None else evaluation.prefix
    sections = recipe.model_dump(mode="json", include={"model", "generate"})
    for name in ("pretrained", "start"):  # these only concern training
        sections["model"].pop(name)
    return flatten({**sections, "prefix": prefix})


def check_continues(plan: StudyPlan, folder: StudyFolder) -> None:
    """Refuse to resume in a study folder whose scores were made on other images or with other prompts.

    Raises:
        StoreError: names what differs.
    """
    if not folder.exists:
        return
    old, new = folder.plan(), record(plan)
    pairs = {"evaluation": (old.evaluation, new.evaluation)}
    asked_before = {one.folder: one.asked for one in old.zero_shot}
    for one in new.zero_shot:
        pairs[one.folder] = (asked_before.get(one.folder, one.asked), one.asked)
    for name, (was, now) in pairs.items():
        unset = {key: value for key, value in now.items() if key not in was and not value}  # keys that 0.1 did not know
        if differing := differences({**was, **unset}, now):
            key = min(differing)
            before, after = differing[key]
            raise StoreError(
                f"{folder.path} holds this study with another {name}: {key} was {before!r}, now {after!r}",
                hint="give --out another folder",
            )


def write_plan(plan: StudyPlan, study: Study, folder: StudyFolder) -> None:
    """Write the plan, and what the study can be resumed from (see docs/ablation.md)."""
    resolved = study.model_copy(update={"base": BASE}).model_dump(mode="json", exclude_none=True)
    folder.write(record(plan), study=tomli_w.dumps(resolved), base=Path(study.base).read_text(encoding="utf-8"))


def record(plan: StudyPlan) -> StudyRecord:
    """The plan as the study folder keeps it."""
    return StudyRecord(
        name=plan.name,
        reference=plan.reference,
        split=plan.evaluation.split,
        evaluation=plan.evaluation.model_dump(mode="json"),
        rows=tuple(
            RowRecord(
                name=row.name,
                differences=dict(row.differences),
                runs=tuple(RunRecord(seed=run.seed, folder=run.folder) for run in row.runs),
                excluded=row.excluded,
            )
            for row in plan.rows
        ),
        zero_shot=tuple(
            ZeroShotRecord(folder=one.folder, rows=one.rows, asked=asked(one.recipe, plan.evaluation))
            for one in plan.zero_shot
        ),
        baselines=plan.baselines,
    )


JobKind = Literal["run", "zero-shot", "baselines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One part of a study, carried out in one process."""

    kind: JobKind
    study: Path
    """The study folder, absolute."""
    folder: str
    """The folder that the job makes, relative to the study folder."""
    recipe: Recipe
    """What is trained or evaluated; baselines use its data."""
    evaluation: EvaluationSection
    data: DataSection
    """How the evaluation images are opened."""
    threads: int
    """Processor threads. Results are only the same bit for bit with the same number of threads."""
    workdir: Path
    """The folder that relative paths in recipes start from."""

    @property
    def run(self) -> RunFolder:
        return StudyFolder(self.study).run(self.folder)

    @property
    def log(self) -> Path:
        """The file that holds all output of the job's process."""
        return StudyFolder(self.study).log(self.folder)


class Engine(Protocol):
    """Carries jobs out, several at once where it can."""

    @property
    def at_once(self) -> int:
        """How many jobs run at the same time."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield the outcome of each job, in the order in which they end; one that fails does not affect the others.

        Closing the generator stops the jobs that are still running; each saves its state first.
        """


def run_state(run: RunFolder, recipe: Recipe, split: str) -> FolderState:
    """How far a run folder is that should hold `recipe`; one that has not written a recipe yet holds none.

    Raises:
        StoreError: the folder holds another recipe; lists the keys that differ.
    """
    if run.exists and run.recipe_file.is_file() and (found := recipe_changes(read_recipe(run.recipe_file), recipe)):
        listed = [f"{key} is {found[key][0]!r}, the study says {found[key][1]!r}" for key in sorted(found)[:4]]
        raise StoreError(
            f"{run.path} holds another recipe: {'; '.join(listed)}",
            hint="give --out another folder, or move that run away",
        )
    return run.state(split)


def same_images(runs: Mapping[str, RunFolder], split: str) -> dict[str, str]:
    """Names of runs whose references are not those of the first, with the reason; all must be scored on the same."""
    expected: tuple[str, bytes] | None = None
    odd = {}
    for name, run in runs.items():
        found = run.references(split).read_bytes()
        if expected is None:
            expected = name, found
        elif found != expected[1]:
            odd[name] = f"scored on other images or references than {expected[0]}; was the data changed in between?"
    return odd
