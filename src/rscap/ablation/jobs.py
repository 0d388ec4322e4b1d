"""A job is one part of a study; an engine carries jobs out.

What a study folder holds is checked against the plan: the recipe of a run, and the same images for all. No torch here:
planning a study imports none.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rscap.ablation.study import EvaluationSection
from rscap.errors import StoreError
from rscap.recipe import DataSection, Recipe, read_recipe
from rscap.store import Attempt, FolderState, RunFolder, StudyFolder
from rscap.tables import differences

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
    if run.exists and run.recipe_file.is_file():
        there, here = (one.model_dump(mode="json") for one in (read_recipe(run.recipe_file), recipe))
        if found := differences(there, here):
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
