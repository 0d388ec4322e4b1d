"""What an engine is handed and what it hands back. No torch here: the process that plans only plans."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rscap.ablation.state import Attempt
from rscap.ablation.study import EvaluationSection
from rscap.recipe import DataSection, Recipe

Kind = Literal["run", "zero-shot", "baselines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One part of a study, done in one process."""

    kind: Kind
    study: Path
    """The study folder, absolute."""
    folder: str
    """Below it; what is made."""
    recipe: Recipe
    """What is trained, or asked; for the baselines, whose data they are measured on."""
    evaluation: EvaluationSection
    data: DataSection
    """How the evaluation images are read."""
    threads: int
    """Processor threads; results are the same bit for bit only where this is."""
    workdir: Path
    """Where relative paths in recipes lead from."""

    @property
    def place(self) -> Path:
        return self.study / self.folder

    @property
    def log(self) -> Path:
        """What the process of this job says."""
        return self.study / "logs" / f"{self.folder.replace('/', '-')}.log"


class Engine(Protocol):
    """Carries jobs out, several at once where it can."""

    @property
    def at_once(self) -> int:
        """How many jobs run at the same time."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield what came of each job, in the order in which they end; a job that fails takes no other with it.

        Closing it stops what still runs; each saves its state first.
        """


def carry_out_logged(job: Job) -> Attempt:
    """Do a job in this process, which does nothing else; all it says goes to the log of the job."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    from rscap.ablation.work import carry_out

    return carry_out(job, say=_say)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
