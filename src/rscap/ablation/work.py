"""What an engine is handed and what it hands back. No torch here: the process that plans only plans."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from filelock import FileLock

from rscap.ablation.state import Attempt, Progress, State, evaluation_state, kind_of, run_state
from rscap.ablation.study import EvaluationSection
from rscap.captioner import ModelRef
from rscap.data import open_source
from rscap.errors import DataError, Interrupted, RscapError
from rscap.evaluation.outcome import write_baselines
from rscap.evaluation.request import Request, Task, evaluate
from rscap.recipe import DataSection, Recipe
from rscap.store import RunFolder
from rscap.training.session import train

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

    return carry_out(job, say=_say)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# One job, in the process at hand: train and evaluate a run, ask a base model, or score the baselines.

Say = Callable[[str], None]

LOCK_SECONDS = 120
"""How long a job waits for a process that a killed study left behind; such processes end by themselves at once."""


def carry_out(job: Job, *, say: Say) -> Attempt:
    """Do one job, or what is missing of it; whatever goes wrong is told in the attempt, never raised."""
    os.chdir(job.workdir)
    torch.set_num_threads(job.threads)
    begun = time.perf_counter()
    progress, reason = _attempt(job, say)
    return Attempt(
        folder=job.folder,
        progress=progress,
        reason=reason,
        seconds=round(time.perf_counter() - begun, 3),
        cpu_seconds=round(time.process_time(), 3),
    )


def _attempt(job: Job, say: Say) -> tuple[Progress, str]:
    work = {"run": _run, "zero-shot": _zero_shot, "baselines": _baselines}[job.kind]
    try:
        with FileLock(job.log.with_suffix(".lock"), timeout=LOCK_SECONDS):
            work(job, say)
    except Interrupted as error:
        return "partial", error.message
    except RscapError as error:
        return kind_of(f"{type(error).__name__}: "), f"{type(error).__name__}: {error.message}"
    except Exception as error:  # one run's trouble is a row of the table, not the end of the study
        import traceback

        say(traceback.format_exc())
        return "failed", f"{type(error).__name__}: {error}"
    return "finished", ""


def _run(job: Job, say: Say) -> None:
    state = run_state(job.place, job.recipe, job.evaluation.split)
    if state.progress == "finished":
        return
    if state.progress != "trained":
        _check_unseen(job)
        _make_room(job, state, say)
        train(job.recipe, job.place, say=say, resume=True)
    model = ModelRef.of(str(job.place), prefix=job.evaluation.prefix)
    evaluate(_evaluation(job, model), progress=_silent, say=say)


def _zero_shot(job: Job, say: Say) -> None:
    state = evaluation_state(job.place, job.evaluation.split)
    if state.progress == "finished":
        return
    _make_room(job, state, say)
    recipe = job.recipe
    prefix = recipe.prompt.prefix if job.evaluation.prefix is None else job.evaluation.prefix
    model = ModelRef.of_base(recipe.model, name=job.folder, prefix=prefix, generate=recipe.generate)
    evaluate(_evaluation(job, model), progress=_silent, say=say)


def _baselines(job: Job, say: Say) -> None:
    source = open_source(job.data.source, split_scheme=job.data.splits, max_rejected_share=job.data.max_rejected_share)
    split, limit = job.evaluation.split, job.evaluation.limit
    test = source.subset(split, limit, 0) if limit else source.split(split)
    write_baselines(RunFolder(job.study), split, test=test, train=source.split("train"), progress=_silent)


def _evaluation(job: Job, model: ModelRef) -> Task:
    """The evaluation of a run in its own folder, or of a base model in a new one; the same images for all."""
    request = Request(
        model=job.recipe.model.base, split=job.evaluation.split, limit=job.evaluation.limit, baselines=False
    )
    return Task(request=request, model=model, data=job.data, out=job.place)


def _make_room(job: Job, state: State, say: Say) -> None:
    """Take away what failed, whose state may be the cause; what was only cut off is gone on with."""
    resumable = state.progress == "partial" and RunFolder(job.place).status_file.is_file()
    if job.place.exists() and not resumable:
        say(f"{job.place} is {state.progress} ({state.reason}): removed, done again")
        shutil.rmtree(job.place)


def _check_unseen(job: Job) -> None:
    """Refuse to train on images that are measured on.

    Raises:
        DataError: names some.
    """
    data = job.recipe.data
    if (data.source, data.splits) == (job.data.source, job.data.splits) and job.evaluation.split != "train":
        return
    learned = open_source(
        data.source, split_scheme=data.splits, check="exists", max_rejected_share=data.max_rejected_share
    )
    measured = open_source(job.data.source, split_scheme=job.data.splits, check="exists", max_rejected_share=1.0)
    both = {example.id for example in learned.split("train")} & {
        example.id for example in measured.split(job.evaluation.split)
    }
    if both:
        raise DataError(
            f"{len(both)} images of {job.data.source}, {job.evaluation.split}, are training images of "
            f"{data.source} under data.splits = {data.splits!r}: {', '.join(sorted(both)[:3])}",
            hint="give [evaluation] the same splits as the rows",
        )


def _silent(done: int, total: int) -> None:
    """Progress within a job is not shown; its log says what happened."""
