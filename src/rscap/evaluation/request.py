"""`rscap evaluate`: which model is asked, about which images, and where the result goes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rscap import provenance, scoring
from rscap.captioner import Captioner, ModelRef
from rscap.captioner.choice import decode_name
from rscap.captioner.loading import best_device, device_name, weights_digests
from rscap.data import Source, open_data
from rscap.errors import DataError, Interrupted, RecipeError, StoreError
from rscap.evaluation.outcome import evaluate_model, write_baselines, write_outcome
from rscap.evaluation.seen import Overlap, data_digest_of, overlap, refuse_trained_on, seen_by, trained_on
from rscap.model.card import check_served, emulated
from rscap.progress import Progress, Say, titled
from rscap.recipe import DataSection, Dtype, GenerateSection, Quantisation
from rscap.records import Example, ScoreSheet
from rscap.stopping import stopping
from rscap.store import (
    Ending,
    EvaluationSettings,
    Journal,
    Provenance,
    RunFolder,
    read_sheet,
    write_rejected,
)
from rscap.tables import check_table


def is_cut_off(place: Path) -> bool:
    """Whether an evaluation was begun at `place` that did not finish; a run that trains is none."""
    run = RunFolder(place)
    if not run.evaluation_file.is_file() or run.recipe_file.exists():
        return False
    return not run.exists or run.status().state != "finished"


def begin(place: Path, settings: EvaluationSettings) -> RunFolder:
    """A new folder, or that of the same evaluation; its settings, which tell what it is, are written first.

    Raises:
        StoreError: the place is taken, also by another evaluation; names what differs.
    """
    run, since = RunFolder(place), None
    if not is_cut_off(place):
        RunFolder.check_free(place)
        settings.write(run.evaluation_file)
    _refuse_another(run, settings)
    if run.exists:
        since = run.status().started
    run.start(since)
    return run


def _refuse_another(run: RunFolder, settings: EvaluationSettings) -> None:
    """Refuse a folder whose evaluation is of something else.

    Raises:
        StoreError: names what differs.
    """
    before = EvaluationSettings.read(run.evaluation_file)
    if other := [name for name in type(settings).model_fields if getattr(before, name) != getattr(settings, name)]:
        raise StoreError(
            f"{run.path} holds another evaluation; they differ in {', '.join(other)}",
            hint="give another --out, or remove the folder",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; None means: as in the run."""

    model: str
    source: str | None = None
    splits: str | None = None
    split: str = "test"
    limit: int | None = None
    prefix: str | None = None
    dtype: Dtype | None = None
    """Precision of a base model, by default what the card computes best; a run is asked as it was trained."""
    base: str | None = None
    """The base model of an adapter of another program, in place of the one that it names."""
    quantisation: Quantisation | None = None
    """Of a base model, alone or below such an adapter."""
    merged: bool = False
    """The adapter is added to the weights; the signature tells it."""
    out: Path | None = None
    max_rejected_share: float | None = None
    baselines: bool = True
    seed: int = 0
    allow_seen: bool = False
    """Score a run on images it was trained on; the score is marked."""
    changes: tuple[str, ...] = ()
    """Overrides of decode settings, such as `generate.beams=3`."""
    resume: bool = False
    """Give the result of the same evaluation where it is finished already; one that was cut off resumes anyway."""
    given: str | None = None
    """The digest of examples without their test split that are handed in, to tell whether a run was trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A request with everything filled in."""

    request: Request
    model: ModelRef
    data: DataSection
    out: Path

    @property
    def in_place(self) -> bool:
        """The result belongs to the folder of the run that is evaluated."""
        return self.model.trained is not None and self.out.resolve() == self.model.trained[0].path.resolve()

    @property
    def settings(self) -> EvaluationSettings:
        """What the folder of an evaluation says it is of."""
        return EvaluationSettings(
            model=self.request.model,
            data=self.data.model_dump(mode="json", exclude_none=True),
            split=self.request.split,
            limit=self.request.limit,
            prefix=self.model.prefix,
            training_prefixes=self.model.training_prefixes,
            generate=self.model.generate.model_dump(mode="json"),
            **_told(base=self.request.base, quantisation=self.request.quantisation, merged=self.model.merged or None),
        )

    @property
    def finished(self) -> bool:
        """Whether its result is there already."""
        done = RunFolder(self.out).scores(self.request.split).is_file()
        return done if self.in_place else done and _is_finished(self.out, self.request.split)


def prepare(request: Request) -> Task:
    """Decide model, data, prompt and place, before anything heavy is loaded.

    Raises:
        StoreError: the place is taken.
        RecipeError: a precision was named for a run, or a value is out of range.
        DataError: a base model was named without data to evaluate it on.
    """
    if request.limit is not None and request.limit < 1:
        raise RecipeError(f"a limit of {request.limit} images leaves none", hint="without a limit all are captioned")
    model = ModelRef.of(
        request.model,
        base=request.base,
        prefix=request.prefix,
        dtype=request.dtype,
        quantisation=request.quantisation,
        merged=request.merged,
        changes=request.changes,
    )
    if model.trained and request.dtype:
        raise RecipeError(
            f"{request.model} is a run and is evaluated in the precision it was trained in",
            hint="leave the dtype out; it is for base models",
        )
    named = ("source", "splits", "max_rejected_share")
    changes = {name: value for name in named if (value := getattr(request, name)) is not None}
    if model.trained:
        data = check_table(DataSection, {**model.trained[1].data.model_dump(), **changes}, name="data")
    elif request.source is None:
        raise DataError(
            f"no data named to evaluate {request.model} on",
            hint="add --source, for example --source sample; if a run was meant, there is none at that path",
        )
    else:
        data = check_table(DataSection, changes, name="data")
    return Task(request=request, model=model, data=data, out=_place(request, model))


def evaluate(
    task: Task, *, progress: Progress, say: Say, source: Source | None = None
) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    """Carry a task out: captions, scores, baselines; returns the folder and the sheets by name.

    The same task resumes an evaluation that was cut off, in the same folder. `source` replaces the data that the
    task names.

    Raises:
        DataError: a run would be scored on images it was trained on, and the request does not allow it.
        ModelError: the installed torch has no kernels for the card.
        RscapError: whatever else makes it impossible; a new folder then says `failed` and why.
        Interrupted: SIGTERM or Ctrl-C; the captions so far are kept.
    """
    request, place = task.request, task.out
    if request.resume and task.finished:
        say(f"{place} is finished: these are its scores")
        return _read_back(task)
    check_served(best_device())  # before data are downloaded
    if note := emulated(task.model.section, best_device()):
        say(note)
    if source is None:
        source = open_data(task.data)
    test = source.subset(request.split, request.limit, request.seed) if request.limit else source.split(request.split)
    seen = _seen(task, test, source, say)
    captioner = task.model.load()  # before the folder is made: a missing token should not take the name
    work = _Work(task, source, test, seen, captioner, progress, say, captioner.base.describe())
    target = RunFolder(place) if task.in_place else begin(place, task.settings)
    with RunFolder(place).locked(request.split):
        try:
            with stopping():
                journal = work.journal(target)
                sheets = work.run(target, journal)
                if not task.in_place:
                    target.close("finished")
                journal.end()  # last of all: until here the captions are worth keeping
        except BaseException as error:
            if not task.in_place:
                with suppress(OSError, StoreError):  # the error itself reports a full disk
                    state: Ending = "interrupted" if isinstance(error, Interrupted) else "failed"
                    target.close(state, error=f"{type(error).__name__}: {error}")
            if isinstance(error, Interrupted):
                error.hint = "the same command continues where it stopped"
            raise
    return target, sheets


def _seen(task: Task, test: list[Example], source: Source, say: Say) -> dict[str, int | str]:
    """What the model has seen of the evaluated images; nothing is known of what a base model was pretrained on.

    Raises:
        DataError: it was trained on some of them, and the request does not allow that.
    """
    model = task.model
    if model.trained is None and model.adapter is None and model.exported is None:
        return {}
    foreign = "it is an export, without its run" if model.exported else "it is an adapter of another program"
    seen = seen_by(*model.trained, say) if model.trained else foreign
    found = Overlap(of=len(test), unknown=seen) if isinstance(seen, str) else overlap(seen, test, source.contents)
    if not task.request.allow_seen:
        refuse_trained_on(found, task.model.name)
    for sentence in scoring.seen_sentences(found.fields()):
        say(f"warning: {task.model.name} {sentence}")
    return found.fields()


@dataclass(frozen=True, slots=True)
class _Work:
    task: Task
    source: Source
    test: list[Example]
    seen: dict[str, int | str]
    """What the model has seen of `test`, as a score sheet holds it."""
    captioner: Captioner
    progress: Progress
    say: Say
    described_base: dict[str, Any]

    def run(self, target: RunFolder, journal: Journal) -> dict[str, ScoreSheet]:
        split, data = self.task.request.split, self.task.data
        if not self.task.in_place:
            self._describe(target)
        train = self._trained_on()
        outcome = evaluate_model(
            self.captioner,
            test=self.test,
            train=train,
            max_rejected_share=data.max_rejected_share,
            workers=data.workers,
            progress=self.progress,
            say=self.say,
            journal=journal,
            seen=self.seen,
        )
        baselines = self._baselines(target, split, train)
        sheet = write_outcome(target, split, outcome, self.test)  # scores last: where they are, nothing is missing
        if ties := sum(1 for prediction in outcome.predictions if prediction.near_ties):
            self.say(
                f"{ties} captions could differ between machines: they hold a near-tie, two tokens within rounding error"
            )
        return {target.name: sheet} | baselines

    def _trained_on(self) -> list[Example] | None:
        """What the run was trained on, `train_limit` and quality rules included; for a base model the training split.

        None where the data of the run cannot be opened.
        """
        source = self.source
        if self.task.model.trained is None:
            return source.split("train") if source.splits.get("train") else []
        return trained_on(*self.task.model.trained, source, self.say)

    def _baselines(self, target: RunFolder, split: str, train: list[Example] | None) -> dict[str, ScoreSheet]:
        if not self.task.request.baselines:
            return {}
        if not train:
            why = (
                "its training images are not at hand" if train is None else f"{self.source.name} has no training split"
            )
            self.say(f"no baselines: {why}")
            return {}
        bar = titled(self.progress, "nearest images")
        return write_baselines(target, split, test=self.test, train=train, progress=bar)

    def journal(self, target: RunFolder) -> Journal:
        """Captions so far, and whatever decides what a caption is, the machine and its packages included."""
        model, split = self.task.model, self.task.request.split
        run = model.trained[0] if model.trained else None
        where = self._where()
        asked = {
            **{name: where[name] for name in ("rscap", "commit", "packages", "device", "device_name", "threads")},
            "base": self.described_base,
            "learned": (run.status().weights or weights_digests(run)) if run else self._adapter(),
            "merged": model.merged,
            "data": self.source.digest,
            "prefix": model.prefix,
            "generate": model.generate.model_dump(mode="json"),
        }
        return Journal(target.captions_so_far(split), asked)

    def _where(self) -> dict[str, Any]:
        """With what the captions are made."""
        source, device = self.source, self.captioner.packed.device
        return provenance.collect(
            device=str(device),
            device_name=device_name(device),
            threads=torch.get_num_threads(),
            data={"name": source.name, "digest": source.digest, "split_scheme": source.split_scheme},
            base=self.described_base,
            **({"adapter": adapter} if (adapter := self._adapter()) else {}),
        )

    def _adapter(self) -> dict[str, Any] | None:
        """The adapter of another program that is asked."""
        return self.task.model.adapter.describe() if self.task.model.adapter else None

    def _describe(self, target: RunFolder) -> None:
        Provenance(**self._where()).write(target.provenance_file)
        write_rejected(target.rejected_file, self.source.rejected)


def _told(**settings: Any) -> dict[str, Any]:
    """Those that were given: evaluations of earlier versions, which had none of them, stay the same."""
    return {name: value for name, value in settings.items() if value is not None}


def _place(request: Request, model: ModelRef) -> Path:
    """The run's own folder for its own data, asked and decoded in its own way; a new folder otherwise.

    Raises:
        StoreError: the place is taken, or something else than the run's own evaluation is sent into its folder.
    """
    own = model.trained[0].path if model.trained else None
    same_place = own is not None and (request.out is None or request.out.resolve() == own.resolve())
    decoding = _other_decoding(model)
    changed = any(value is not None for value in (request.limit, request.prefix, decoding)) or _other_data(
        request, model
    )
    if own is not None and same_place and not changed:
        scores = RunFolder(own).scores(request.split)
        if scores.exists() and not request.resume:
            raise StoreError(
                f"{own} has been evaluated on {request.split} already: {scores}",
                hint="--resume shows its scores; or give --out for another folder, or move the old scores away",
            )
        return own
    if own is not None and same_place and request.out is not None:
        raise StoreError(
            f"{own} holds the scores of its own data in its own words and decoding", hint="give --out another folder"
        )
    kind = request.split if model.trained or model.adapter or model.exported else "zero-shot"
    parts = (model.name, kind, str(request.limit) if request.limit else None, decoding)
    place = request.out if request.out is not None else Path("runs") / "-".join(part for part in parts if part)
    if not is_cut_off(place) and not (request.resume and _is_finished(place, request.split)):
        RunFolder.check_free(place)
    return place


def _other_data(request: Request, model: ModelRef) -> bool:
    """Whether other data are named than the run was trained on; to name its own again changes nothing."""
    if model.trained is None:
        return True
    run, recipe = model.trained
    if request.given is not None and request.given != data_digest_of(run):
        return True
    named = ((request.source, recipe.data.source), (request.splits, recipe.data.splits))
    return any(value is not None and value != own for value, own in named)


def _is_finished(place: Path, split: str) -> bool:
    """Whether an evaluation of the split ended at `place`; its settings are compared when it is read."""
    run = RunFolder(place)
    return run.exists and run.evaluation_file.is_file() and run.scores(split).is_file()


def _read_back(task: Task) -> tuple[RunFolder, dict[str, ScoreSheet]]:
    """The sheets of an evaluation that is finished.

    Raises:
        StoreError: the place holds another evaluation; names what differs.
    """
    target, split = RunFolder(task.out), task.request.split
    if not task.in_place:
        _refuse_another(target, task.settings)
    found = {target.name: read_sheet(target.scores(split))}
    for baseline in target.baselines():
        if baseline.scores(split).is_file():
            found[baseline.path.name] = read_sheet(baseline.scores(split))
    return target, found


def _other_decoding(model: ModelRef) -> str | None:
    """The name of the decode settings where they are not those of the run, or a base model's defaults."""
    usual = model.trained[1].generate if model.trained else model.exported or GenerateSection()
    name = decode_name(model.generate) + ("-merged" if model.merged else "")
    return None if name == decode_name(usual) else name
