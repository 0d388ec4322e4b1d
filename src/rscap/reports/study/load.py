"""Read a study folder for a report: its plan, and the results in its run folders.

Only finished runs with scores of the evaluation split count; any other run is listed with its state, and is part of no
mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rscap.errors import StoreError
from rscap.records import Prediction, ScoreSheet
from rscap.reports.load import LoadedRun, load_runs, run_colour
from rscap.scoring import SEEN, seen_sentences
from rscap.store import (
    WORST_FIRST,
    Attempt,
    FolderState,
    RowRecord,
    RunRecord,
    State,
    StudyFolder,
    StudyRecord,
    explained,
    read_predictions,
    read_sheet,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """One row with one seed."""

    seed: int
    folder: Path
    state: State
    reason: str
    run: LoadedRun | None
    """The content of the folder, for finished runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRow:
    """One row: its differences from the base recipe, and its runs."""

    name: str
    differences: Mapping[str, Any]
    replicates: tuple[Replicate, ...]
    excluded: str | None
    colour: int
    """Number of its colour on the page, by its place in the plan."""

    @property
    def finished(self) -> list[Replicate]:
        return [one for one in self.replicates if one.run is not None]

    @property
    def status(self) -> State | Literal["excluded"]:
        """`finished` if all runs are, else their worst state."""
        if self.excluded is not None:
            return "excluded"
        return min((one.state for one in self.replicates), key=WORST_FIRST.index, default="finished")

    @property
    def reason(self) -> str:
        """Why it is not finished; empty where it is."""
        return self.excluded or next((one.reason for one in self.replicates if one.reason), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """A system that was not trained: a base model as it is, or a baseline that needs no model."""

    name: str
    kind: Literal["zero-shot", "baseline"]
    sheet: ScoreSheet
    predictions: Mapping[str, Prediction]
    """By example id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudy:
    """The content of a study folder."""

    folder: StudyFolder
    plan: StudyRecord
    rows: tuple[LoadedRow, ...]
    untrained: tuple[Untrained, ...]
    missing: tuple[str, ...]
    """Zero-shot evaluations and baselines that were planned and are not there, each with the reason."""

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def reference(self) -> str:
        """The row that the others are compared with."""
        return self.plan.reference

    @property
    def split(self) -> str:
        return self.plan.split

    def sheets(self) -> dict[tuple[str, int], ScoreSheet]:
        """The score sheets of all finished runs."""
        return {
            (row.name, one.seed): one.run.scored.sheet
            for row in self.rows
            for one in row.finished
            if one.run is not None and one.run.scored.sheet is not None
        }

    def seen(self) -> list[str]:
        """Which finished runs have seen images that they are scored on, a sentence each."""
        return [
            f"{row}, seed {seed}, {text}"
            for (row, seed), sheet in self.sheets().items()
            for text in seen_sentences(sheet.extra.get(SEEN))
        ]


def is_study(path: Path) -> bool:
    """Whether a folder is a study's."""
    return StudyFolder(path).exists


def load_study(path: Path) -> LoadedStudy:
    """Read a study folder.

    Raises:
        StoreError: there is no study, or its plan is damaged; names the key.
    """
    folder = StudyFolder(path)
    plan = folder.plan()
    last = {attempt.folder: attempt for attempt in folder.attempts()}
    systems = [_untrained(folder, one.folder, "zero-shot", plan.split) for one in plan.zero_shot]
    systems += [_untrained(folder, place, "baseline", plan.split) for place in plan.baselines]
    return LoadedStudy(
        folder=folder,
        plan=plan,
        rows=tuple(_row(folder, row, plan.split, last, number) for number, row in enumerate(plan.rows)),
        untrained=tuple(one for one in systems if isinstance(one, Untrained)),
        missing=tuple(one for one in systems if isinstance(one, str)),
    )


def _row(study: StudyFolder, row: RowRecord, split: str, last: Mapping[str, Attempt], number: int) -> LoadedRow:
    return LoadedRow(
        name=row.name,
        differences=row.differences,
        replicates=tuple(_replicate(study, run, split, last.get(run.folder)) for run in row.runs),
        excluded=row.excluded,
        colour=run_colour(number),
    )


def _replicate(study: StudyFolder, planned: RunRecord, split: str, last: Attempt | None) -> Replicate:
    run, loaded = study.run(planned.folder), None
    try:
        found = explained(run.state(split), last)
        if found.state == "finished":
            loaded = load_runs([run.path], split)[0]
            if loaded.scored.sheet is None:
                found, loaded = FolderState("failed", "; ".join(loaded.notes)), None
    except StoreError as error:
        found = FolderState("failed", error.message)
    reason = found.reason.partition("\n")[0]
    return Replicate(seed=planned.seed, folder=run.path, state=found.state, reason=reason, run=loaded)


def _untrained(study: StudyFolder, folder: str, kind: Literal["zero-shot", "baseline"], split: str) -> Untrained | str:
    place, path = study.run(folder), PurePosixPath(folder)
    try:
        sheet = read_sheet(place.scores(split))
        predictions = read_predictions(place.predictions(split))
    except StoreError as error:
        return f"{folder}: {error.message}"
    name = path.name if kind == "baseline" else " ".join(path.parts)
    return Untrained(name=name, kind=kind, sheet=sheet, predictions=predictions)
