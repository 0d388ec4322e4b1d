"""Read run folders for a report: their files become records, and a missing or damaged one a note."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

from rscap.errors import RscapError, StoreError
from rscap.recipe import Recipe, read_recipe
from rscap.records import Prediction, Rejected, ScoreSheet
from rscap.scoring import SEEN
from rscap.store import (
    PROVENANCE,
    EvaluationSettings,
    PanelImage,
    Provenance,
    Quality,
    Reference,
    RunFolder,
    SpeedStep,
    Status,
    TowerParameters,
    TrainEvaluation,
    TrainStep,
    read_panel,
    read_parameters,
    read_predictions,
    read_references,
    read_rejected,
    read_sheet,
    read_speed_log,
    read_train_log,
    text_of,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Predictions with their score sheet, of a run or of one of its baselines."""

    name: str
    sheet: ScoreSheet | None
    predictions: Mapping[str, Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """All that a run folder says, for one split."""

    label: str
    folder: RunFolder
    split: str
    colour: int
    """Number of its colour, the same in every table and chart of a page: 0 for a base model as it is."""
    status: Status | None
    """None if it cannot be read."""
    scored: Scored
    baselines: tuple[Scored, ...]
    references: Mapping[str, Reference]
    panel: tuple[PanelImage, ...]
    steps: tuple[TrainStep, ...]
    """With speed and memory."""
    evaluations: tuple[TrainEvaluation, ...]
    parameters: Mapping[str, TowerParameters]
    """By tower."""
    rejected: tuple[Rejected, ...]
    quality: Quality | None
    """What the quality rules did to the training captions; None for a run without rules."""
    provenance: Provenance | None
    recipe_text: str | None
    settings: EvaluationSettings | None
    """Of an evaluation in a folder of its own."""
    trained: Recipe | None
    """The recipe that the model was trained with: this run's own, or that of the run which the evaluation names."""
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """`finished`, `failed`, `interrupted`, `started`; `unreadable` if the status file is."""
        return self.status.state if self.status else "unreadable"

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def untrained(self) -> bool:
        """Whether this is an evaluation of a base model as it is.

        Of an export or an adapter of another program, whose run is not here, the sheet says that it is not known which
        images it has seen; of a base model it says nothing.
        """
        adapted = self.provenance is not None and self.provenance.adapter is not None
        learned = self.scored.sheet is not None and SEEN in self.scored.sheet.extra
        asked = self.settings is not None and not self.settings.training_prefixes
        return asked and self.trained is None and not adapted and not learned

    @property
    def references_digest(self) -> str:
        """Twelve hexadecimal digits over ids and reference captions; empty if there are none."""
        if not self.references:
            return ""
        rows = [[example_id, reference.captions] for example_id, reference in sorted(self.references.items())]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()[:12]


def load_runs(paths: Sequence[Path], split: str, labels: Sequence[str] | None = None) -> list[LoadedRun]:
    """Read several run folders; labels are by default the shortest path endings that tell them apart.

    Raises:
        StoreError: a path is no run folder, or is given twice.
    """
    folders = [_open(path) for path in paths]
    places = [folder.path.resolve() for folder in folders]
    if not folders:
        raise StoreError("no run folder to report on", hint="`rscap report RUN…` takes one or several run folders")
    for place in places:
        if places.count(place) > 1:
            raise StoreError(f"{place} is given twice")
    loaded = [_load(folder, label, split) for folder, label in zip(folders, labels or _labels(places), strict=True)]
    trained = count()
    return [replace(run, colour=0 if run.untrained else run_colour(next(trained))) for run in loaded]


COLOURS = 7
"""Colours of runs; more runs begin again with the first."""


def run_colour(number: int) -> int:
    """The colour of a trained run, or of a row of a study, by its place among them."""
    return 1 + number % COLOURS


def _open(path: Path) -> RunFolder:
    try:
        return RunFolder.open(path)
    except StoreError:
        if inside := RunFolder.inside(path):
            names = " ".join(str(run.path) for run in inside)
            raise StoreError(f"{path} is not a run folder but holds some", hint=f"rscap report {names}") from None
        raise


def _labels(places: Sequence[Path]) -> list[str]:
    for length in range(1, max(len(place.parts) for place in places) + 1):
        labels = ["/".join(place.parts[-length:]) for place in places]
        if len(set(labels)) == len(labels):
            return labels
    return [str(place) for place in places]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the files of one run; a missing or damaged one becomes a note and an empty value."""

    folder: RunFolder
    notes: list[str]

    def read(self, path: Path, read: Callable[[Path], T], empty: T, missing: str | None = None) -> T:
        if not path.exists():
            if missing:
                self.notes.append(missing)
            return empty
        try:
            return read(path)
        except RscapError as error:
            within = path.is_relative_to(self.folder.path)
            name = path.relative_to(self.folder.path).as_posix() if within else str(path)
            self.notes.append(error.message.replace(str(path), name))
            return empty

    def scored(self, place: RunFolder, name: str, split: str) -> Scored:
        whose = "" if place is self.folder else f" of the baseline {name}"
        return Scored(
            name=name,
            sheet=self.read(place.scores(split), read_sheet, None, f"no scores for the {split} split{whose}"),
            predictions=self.read(place.predictions(split), read_predictions, {}),
        )

    def trained(self, settings: EvaluationSettings | None) -> Recipe | None:
        """The recipe of this run, or of the run that an evaluation names; None if it names a base model."""
        if self.folder.recipe_file.exists():
            return self.read(self.folder.recipe_file, read_recipe, None)
        run = _run_of(self.folder, (settings and settings.model) or "")
        return self.read(run.recipe_file, read_recipe, None) if run else None


def _load(folder: RunFolder, label: str, split: str) -> LoadedRun:
    notes: list[str] = []
    reader = _Reader(folder, notes)
    no_speed: dict[int, SpeedStep] = {}
    speed = reader.read(folder.speed_log, read_speed_log, no_speed)
    no_log: list[tuple[int, TrainStep | TrainEvaluation]] = []
    log = [row for _, row in reader.read(folder.train_log, read_train_log, no_log)]
    settings = reader.read(folder.evaluation_file, EvaluationSettings.read, None)
    return LoadedRun(
        label=label,
        folder=folder,
        split=split,
        colour=0,
        status=reader.read(folder.status_file, Status.read, None),
        scored=reader.scored(folder, label, split),
        baselines=tuple(reader.scored(place, place.path.name, split) for place in folder.baselines()),
        references=reader.read(folder.references(split), read_references, {}),
        panel=reader.read(folder.panel(split), read_panel, ()),
        steps=tuple(row.with_speed(speed.get(row.step)) for row in log if isinstance(row, TrainStep)),
        evaluations=tuple(row for row in log if isinstance(row, TrainEvaluation)),
        parameters=reader.read(folder.parameters_file, read_parameters, {}),
        rejected=tuple(reader.read(folder.rejected_file, read_rejected, [])),
        quality=reader.read(folder.quality_file, Quality.read, None),
        provenance=reader.read(folder.provenance_file, Provenance.read, None, f"no {PROVENANCE}"),
        recipe_text=reader.read(folder.recipe_file, _text, None),
        settings=settings,
        trained=reader.trained(settings),
        notes=tuple(notes),
    )


def _run_of(folder: RunFolder, model: str) -> RunFolder | None:
    """The run that an evaluation names; None if it names a base model, or the run no longer exists.

    The path starts from the folder in which `rscap evaluate` ran: the current one, or one above the evaluation. A name
    without a folder is only looked up in the current one, since `nano` is a base model and may be a run elsewhere.
    """
    above = folder.path.resolve().parents if "/" in model else ()
    for place in (parent / model for parent in (Path(), *above) if model):
        run = RunFolder(place)
        if run.exists and run.recipe_file.is_file():
            return run
    return None


def _text(path: Path) -> str:
    return text_of(path)
