"""`rscap evaluate`: what is to be captioned, by whom, and where the result goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from rscap import provenance
from rscap.batch import Encoder
from rscap.data import Source, open_source
from rscap.errors import DataError, StoreError
from rscap.evaluate.outcome import Progress, Task, evaluate_model, write_baselines, write_outcome
from rscap.evaluate.subject import Subject
from rscap.model.load import Base
from rscap.model.run import best_device
from rscap.recipe import DataSection
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
    subject: Subject
    data: DataSection
    out: Path

    @property
    def in_place(self) -> bool:
        """The result belongs to the folder of the run that is evaluated."""
        return self.subject.trained is not None and self.out == self.subject.trained[0].path


def plan(request: Request) -> Plan:
    """Decide model, data, prompt and place, before anything heavy is loaded.

    Raises:
        StoreError: the place is taken.
        DataError: a base model was named without data to evaluate it on.
    """
    subject = Subject.of(request.model, prefix=request.prefix, dtype=request.dtype)
    changes = {
        name: value for name, value in (("source", request.source), ("splits", request.splits)) if value is not None
    }
    if subject.trained:
        data = subject.trained[1].data.model_copy(update=changes)
    elif request.source is None:
        raise DataError(
            f"no data named to evaluate {request.model} on", hint="add --source, for example --source sample"
        )
    else:
        data = DataSection.model_validate(changes)
    return Plan(request=request, subject=subject, data=data, out=_place(request, subject))


def evaluate(planned: Plan, *, progress: Progress, say: Say) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    """Carry a plan out: captions, scores, baselines; returns the folder and the sheets by name.

    Raises:
        RscapError: whatever makes it impossible; a new folder then says `failed` and why.
    """
    request, data = planned.request, planned.data
    source = open_source(data.source, split_scheme=data.splits, max_rejected_share=data.max_rejected_share)
    test = source.subset(request.split, request.limit, request.seed) if request.limit else source.split(request.split)
    work = _Work(planned, source, test, progress, say)
    if planned.in_place:
        return work.run(RunFolder(planned.out))
    target = RunFolder.create(planned.out)
    try:
        done = work.run(target)
    except BaseException as error:
        target.close("failed", error=f"{type(error).__name__}: {error}")
        raise
    target.close("finished")
    return done


@dataclass(frozen=True, slots=True)
class _Work:
    planned: Plan
    source: Source
    test: list[Example]
    progress: Progress
    say: Say

    def run(self, target: RunFolder) -> tuple[RunFolder, dict[str, ScoreSheet]]:
        split, subject, data = self.planned.request.split, self.planned.subject, self.planned.data
        device = best_device()
        base, captioner = subject.load(device)
        if not self.planned.in_place:
            self._describe(target, base, device)
        train = self.source.split("train") if self.source.splits.get("train") else []
        task = Task(
            prefix=subject.prefix,
            generate=subject.generate,
            workers=data.workers,
            max_rejected_share=data.max_rejected_share,
        )
        outcome = evaluate_model(
            captioner, Encoder.of(base), task=task, test=self.test, train=train, progress=self.progress
        )
        write_outcome(target, split, outcome, self.test)
        if ties := sum(1 for prediction in outcome.predictions if prediction.near_ties):
            self.say(f"{ties} captions hold a near-tie: two best tokens within rounding error of each other")
        return target, {target.name: outcome.sheet} | self._baselines(target, split, train)

    def _baselines(self, target: RunFolder, split: str, train: list[Example]) -> dict[str, ScoreSheet]:
        if not self.planned.request.baselines:
            return {}
        if not train:
            self.say(f"{self.source.name} has no training split: no baselines")
            return {}
        return write_baselines(target, split, test=self.test, train=train)

    def _describe(self, target: RunFolder, base: Base, device: str) -> None:
        request, subject = self.planned.request, self.planned.subject
        write_json(
            target.path / "evaluation.json",
            {
                "model": request.model,
                "data": self.planned.data.model_dump(mode="json", exclude_none=True),
                "split": request.split,
                "limit": request.limit,
                "prefix": subject.prefix,
                "generate": subject.generate.model_dump(mode="json"),
            },
        )
        write_json(
            target.provenance_file,
            provenance.collect(
                device=device,
                threads=torch.get_num_threads(),
                data={"name": self.source.name, "digest": self.source.digest, "split_scheme": self.source.split_scheme},
                base=base.describe(),
            ),
        )
        write_jsonl(target.rejected_file, map(asdict, self.source.rejected))


def _place(request: Request, subject: Subject) -> Path:
    """The run's own folder for its own data asked in its own words; a new folder otherwise."""
    if request.out is not None:
        return request.out
    if subject.trained and not any((request.source, request.splits, request.limit, request.prefix)):
        run = subject.trained[0]
        if run.scores(request.split).exists():
            raise StoreError(
                f"{run.path} has been evaluated on {request.split} already: {run.scores(request.split)}",
                hint="give --out for another folder, or move the old scores away",
            )
        return run.path
    kind = request.split if subject.trained else "zero-shot"
    return Path("runs") / "-".join([subject.name, kind, *([str(request.limit)] if request.limit else [])])
