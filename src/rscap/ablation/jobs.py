"""A job is one part of a study; an engine carries jobs out. No torch here: planning a study imports none."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rscap.ablation.study import EvaluationSection
from rscap.recipe import DataSection, Recipe
from rscap.store import Attempt, RunFolder, StudyFolder

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
