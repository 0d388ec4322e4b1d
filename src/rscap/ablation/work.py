"""Carry out one job: train and evaluate a run, evaluate a base model, or score the baselines."""

from __future__ import annotations

import os
import shutil
import time
import traceback

import torch
from filelock import FileLock

from rscap.ablation.plan import Job, run_state
from rscap.captioner import ModelRef
from rscap.data import open_data
from rscap.data.choice import training_examples
from rscap.errors import DataError, Interrupted, Refusal, RscapError
from rscap.evaluation.outcome import write_baselines
from rscap.evaluation.request import Request, Task, evaluate
from rscap.evaluation.seen import overlap, seen_by_training
from rscap.progress import Say, no_progress, to_stderr
from rscap.store import Attempt, FolderState, RunFolder, State
from rscap.training.session import train

LOCK_SECONDS = 120
"""How long a job waits for a process of a killed study that works on the same folder; it ends itself at once."""


def carry_out_logged(job: Job) -> Attempt:
    """Carry out a job in a process of its own, whose output goes to the log of the job."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    return carry_out(job, say=to_stderr)


def carry_out(job: Job, *, say: Say) -> Attempt:
    """Carry out a job, or the part of it that is missing. The attempt reports every error; none is raised."""
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


def _attempt(job: Job, say: Say) -> tuple[State, str]:
    work = {"run": _run, "zero-shot": _zero_shot, "baselines": _baselines}[job.kind]
    try:
        with FileLock(job.log.with_suffix(".lock"), timeout=LOCK_SECONDS):
            work(job, say)
    except Interrupted as error:
        return "interrupted", error.message
    except RscapError as error:
        return "refused" if isinstance(error, Refusal) else "failed", f"{type(error).__name__}: {error.message}"
    except Exception as error:  # an error in one run is a row of the table, not the end of the study
        say(traceback.format_exc())
        return "failed", f"{type(error).__name__}: {error}"
    return "finished", ""


def _run(job: Job, say: Say) -> None:
    found = run_state(job.run, job.recipe, job.evaluation.split)
    if found.state == "finished":
        return
    if found.state != "trained":
        _check_unseen(job)
        _make_room(job, found, say)
        train(job.recipe, job.run.path, say=say, resume=True)
    model = ModelRef.of(str(job.run.path), prefix=job.evaluation.prefix)
    evaluate(_evaluation(job, model), progress=no_progress, say=say)


def _zero_shot(job: Job, say: Say) -> None:
    found = job.run.state(job.evaluation.split)
    if found.state == "finished":
        return
    _make_room(job, found, say)
    recipe = job.recipe
    prefix = recipe.prompt.prefix if job.evaluation.prefix is None else job.evaluation.prefix
    model = ModelRef.of_base(recipe.model, name=job.folder, prefix=prefix, generate=recipe.generate)
    evaluate(_evaluation(job, model), progress=no_progress, say=say)


def _baselines(job: Job, say: Say) -> None:
    source = open_data(job.data)
    split, limit = job.evaluation.split, job.evaluation.limit
    test = source.subset(split, limit, 0) if limit else source.split(split)
    write_baselines(RunFolder(job.study), split, test=test, train=source.split("train"), progress=no_progress)


def _evaluation(job: Job, model: ModelRef) -> Task:
    """The evaluation of a run in its own folder, or of a base model in a new one, on the same images."""
    request = Request(
        model=job.recipe.model.base,
        split=job.evaluation.split,
        limit=job.evaluation.limit,
        baselines=False,
        allow_seen=job.evaluation.allow_seen,
    )
    return Task(request=request, model=model, data=job.data, out=job.run.path)


def _make_room(job: Job, found: FolderState, say: Say) -> None:
    """Remove a run that failed, since its state may be the cause; keep one that was interrupted, to resume it."""
    run = job.run
    resumable = run.exists and found.state in ("started", "interrupted")
    if run.path.exists() and not resumable:
        say(f"{run.path} is {found.state} ({found.reason}): removed, to start again")
        shutil.rmtree(run.path)


def _check_unseen(job: Job) -> None:
    """Refuse to train on evaluation images, before hours are spent: by id and by content, as an evaluation does.

    Raises:
        DataError: names some of them.
    """
    data = job.recipe.data
    same_data = (data.source, data.splits) == (job.data.source, job.data.splits) and job.evaluation.split != "train"
    if same_data or job.evaluation.allow_seen:
        return
    training = open_data(data, check="decode")
    evaluated = open_data(job.data.model_copy(update={"max_rejected_share": 1.0}), check="decode")
    table = seen_by_training(training_examples(training, job.recipe), [], job.recipe, training.contents)
    found = overlap(table, evaluated.split(job.evaluation.split), evaluated.contents)
    if found.trained:
        raise DataError(
            f"{len(found.trained)} images of {job.data.source}, {job.evaluation.split}, are training images of "
            f"{data.source} under data.splits = {data.splits!r}: {', '.join(sorted(found.trained)[:3])}",
            hint="give [evaluation] the same source and splits as the rows; "
            "allow_seen = true in [evaluation] scores them anyway and marks the scores",
        )
