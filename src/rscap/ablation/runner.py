"""Run the missing jobs of a study, keep the finished ones, and make a status table with one line for each row."""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rscap.ablation.plan import Engine, Job, JobKind, StudyPlan, check_continues, run_state, same_images, write_plan
from rscap.ablation.study import Study
from rscap.data import open_data
from rscap.errors import DataError, RecipeError
from rscap.progress import Say
from rscap.recipe import Recipe
from rscap.records import Example
from rscap.store import (
    BASELINES,
    WORST_FIRST,
    Attempt,
    FolderState,
    State,
    StudyFolder,
    explained,
    write_thumbnails,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStatus:
    """One line of the table."""

    name: str
    progress: State
    """That of its worst run: if one seed failed, the row failed."""
    finished: int
    total: int
    reason: str
    folders: tuple[str, ...]
    """Of its finished runs, relative to the study folder."""


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of a study: the kind of job that makes it, the rows it belongs to (none: all), and its state."""

    kind: JobKind
    folder: str
    recipe: Recipe
    rows: tuple[str, ...]
    found: FolderState


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """A plan, and how far the folder of its results is."""

    plan: StudyPlan
    folder: StudyFolder

    def parts(self) -> list[Part]:
        """All parts in the order in which they run: baselines, zero-shot, then all rows for each seed in turn."""
        plan, split = self.plan, self.plan.evaluation.split
        parts = []
        if plan.baselines:
            there = all(self.folder.run(name).scores(split).is_file() for name in plan.baselines)
            found = FolderState("finished" if there else "missing")
            parts.append(Part("baselines", BASELINES, plan.runs[0].recipe, (), found))
        for one in plan.zero_shot:
            found = self.folder.run(one.folder).state(split)
            parts.append(Part("zero-shot", one.folder, one.recipe, one.rows, found))
        seeds = list(dict.fromkeys(run.seed for run in plan.runs))
        for run in sorted(plan.runs, key=lambda run: seeds.index(run.seed)):
            found = run_state(self.folder.run(run.folder), run.recipe, split)
            parts.append(Part("run", run.folder, run.recipe, (run.row,), found))
        return parts

    def missing(self, *, threads: int, only: Collection[str] = ()) -> list[Job]:
        """The jobs that are not finished, of the rows `only`, or of all rows.

        Raises:
            RecipeError: `only` names an unknown row.
            StoreError: a folder holds another recipe than the plan.
        """
        rows = [row.name for row in self.plan.rows if row.runs]
        if unknown := sorted(set(only) - set(rows)):
            raise RecipeError(f"there is no row {unknown[0]!r} to run", hint=f"rows: {', '.join(rows)}")
        return [
            Job(
                kind=part.kind,
                study=self.folder.path.resolve(),
                folder=part.folder,
                recipe=part.recipe,
                evaluation=self.plan.evaluation,
                data=self.plan.data,
                threads=threads,
                workdir=Path.cwd(),
            )
            for part in self.parts()
            if part.found.state != "finished" and (not only or not part.rows or set(only) & set(part.rows))
        ]

    def table(self) -> list[RowStatus]:
        """One line for each row that is not excluded, in the order of the plan, then zero-shot and baselines."""
        last = {attempt.folder: attempt for attempt in self.folder.attempts()}
        states = {part.folder: explained(part.found, last.get(part.folder)) for part in self.parts()}
        scored = [name for name, found in states.items() if found.state == "finished" and name != BASELINES]
        odd = same_images({name: self.folder.run(name) for name in scored}, self.plan.evaluation.split)
        states |= {name: FolderState("failed", reason) for name, reason in odd.items()}
        lines = [_line(row.name, [run.folder for run in row.runs], states) for row in self.plan.rows if row.runs]
        lines += [_line(one.folder, [one.folder], states) for one in self.plan.zero_shot]
        return lines + ([_line(BASELINES, [BASELINES], states)] if self.plan.baselines else [])


def carry_out(
    study: Study, plan: StudyPlan, folder: StudyFolder, engine: Engine, jobs: Sequence[Job], *, say: Say
) -> None:
    """Carry out `jobs`; report each one that ends, and keep its outcome in the study folder.

    Raises:
        DataError: the evaluation images are missing.
        StoreError: the folder holds the study with another evaluation.
    """
    check_continues(plan, folder)
    images = evaluation_images(plan)
    write_plan(plan, study, folder)
    if not folder.thumbnails_file.exists():
        write_thumbnails(folder.thumbnails_file, images)
    ended: set[str] = set()
    with closing(engine.run(jobs)) as attempts:  # on any error, stop all jobs
        for number, attempt in enumerate(attempts, start=1):
            folder.add_attempt(attempt)
            ended.add(attempt.folder)
            left = estimate([job for job in jobs if job.folder not in ended], folder.attempts(), engine.at_once)
            ahead = f" · about {duration(left)} left" if left else ""
            reason = f": {attempt.reason}" if attempt.reason else ""
            took = duration(attempt.seconds)
            say(f"{number}/{len(jobs)}  {attempt.folder}  {attempt.progress} in {took}{reason}{ahead}")


def evaluation_images(plan: StudyPlan) -> list[Example]:
    """The images that all rows are scored on, before the first run. A data set of the Hub is downloaded here, once.

    Raises:
        DataError: they are missing or too few; the hint says how to choose other data.
    """
    evaluation = plan.evaluation
    try:
        source = open_data(plan.data, check="exists")
        limit, split = evaluation.limit, evaluation.split
        return source.subset(split, limit, 0) if limit else source.split(split)
    except DataError as error:
        raise DataError(
            f"the evaluation images: {error.message}",
            hint=f"{error.hint + '; ' if error.hint else ''}--set data.source=FOLDER uses your data for all rows, "
            f"--set evaluation.limit=N uses fewer images",
        ) from None


def estimate(jobs: Sequence[Job], attempts: Sequence[Attempt], at_once: int) -> float | None:
    """Seconds that `jobs` will take, from finished jobs of the same row, or else of the same kind; None without any.

    A row that differs from the others may take longer than the estimate.
    """
    seconds: dict[str, list[float]] = {}
    for attempt in attempts:
        if attempt.progress == "finished":
            for group in (os.path.dirname(attempt.folder), _kind(attempt.folder)):
                seconds.setdefault(group, []).append(attempt.seconds)
    total = 0.0
    for job in jobs:
        known = seconds.get(os.path.dirname(job.folder)) or seconds.get(_kind(job.folder))
        if known is None:
            return None
        total += statistics.median(known)
    return total / max(1, min(at_once, len(jobs)))


def duration(seconds: float) -> str:
    """Seconds in words, such as `12 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _kind(folder: str) -> str:
    return f"any {folder.split('/')[0]}"


def _line(name: str, folders: Sequence[str], states: dict[str, FolderState]) -> RowStatus:
    worst = min(folders, key=lambda folder: WORST_FIRST.index(states[folder].state))
    finished = tuple(folder for folder in folders if states[folder].state == "finished")
    return RowStatus(
        name=name,
        progress=states[worst].state,
        finished=len(finished),
        total=len(folders),
        reason=states[worst].reason,
        folders=finished,
    )
