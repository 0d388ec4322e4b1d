"""Read a study folder for a report: plan.json says what was planned, the run folders what came of it.

A run counts when its status.json says `finished` and it has scores of the evaluation split; every other run stands in
the report with its state and never in a mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscap.errors import ScoreError, StoreError
from rscap.records import ScoreSheet
from rscap.reports.load import LoadedRun, load_runs
from rscap.scoring import read_sheet
from rscap.store import RunFolder, read_json, read_jsonl

PLAN_FILE = "plan.json"
_REFUSALS = ("RecipeError", "DataError", "ImageError", "ModelError", "AdapterError", "BrokenTargets", "ScoreError")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One row with one seed."""

    seed: int
    folder: Path
    state: str
    """`finished`, `failed`, `refused`, `interrupted`, `started` or `missing`."""
    reason: str
    run: LoadedRun | None
    """What the folder holds, for finished runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One row: what sets it apart, and its runs."""

    name: str
    differences: Mapping[str, Any]
    runs: tuple[StudyRun, ...]
    excluded: str | None

    @property
    def finished(self) -> list[StudyRun]:
        return [one for one in self.runs if one.run is not None]

    @property
    def status(self) -> str:
        """`finished` where all runs are, else the worst state, with how many finished."""
        if self.excluded is not None:
            return "excluded"
        others = [one.state for one in self.runs if one.run is None]
        if not others:
            return "finished"
        order = ("failed", "refused", "interrupted", "started", "missing")
        return min(others, key=lambda state: order.index(state) if state in order else -1)

    @property
    def reason(self) -> str:
        """Why it is not finished; empty where it is."""
        return self.excluded or next((one.reason for one in self.runs if one.reason), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A packed that was not trained: a base model as it is, or a baseline without a model."""

    name: str
    kind: str
    """`zero-shot` or `baseline`."""
    sheet: ScoreSheet
    captions: Mapping[str, str]
    """By example id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All that a study folder says."""

    name: str
    path: Path
    reference: str
    split: str
    evaluation: Mapping[str, Any]
    rows: tuple[StudyRow, ...]
    beside: tuple[Beside, ...]
    missing: tuple[str, ...]
    """Zero-shot evaluations and baselines that were planned and are not there, each with the reason."""

    def sheets(self) -> dict[tuple[str, int], ScoreSheet]:
        """The score sheets of all finished runs."""
        return {
            (row.name, one.seed): one.run.scored.sheet
            for row in self.rows
            for one in row.finished
            if one.run is not None and one.run.scored.sheet is not None
        }


def is_study(path: Path) -> bool:
    """Whether a folder is a study's."""
    return (path / PLAN_FILE).is_file()


def load_study(path: Path) -> Study:
    """Read a study folder.

    Raises:
        StoreError: no plan.json, or one that is not a plan; names the key.
    """
    if not is_study(path):
        raise StoreError(f"{path} is no study: it has no {PLAN_FILE}", hint="`rscap ablate STUDY.toml` makes one")
    plan = read_json(path / PLAN_FILE)
    try:
        split = str(plan["split"])
        rows = tuple(_row(path, row, split) for row in plan["rows"])
        places = [(str(one["folder"]), "zero-shot") for one in plan["zero_shot"]]
        places += [(str(folder), "baseline") for folder in plan["baselines"]]
        beside = [_beside(path, folder, kind, split) for folder, kind in places]
        return Study(
            name=str(plan["name"]),
            path=path,
            reference=str(plan["reference"]),
            split=split,
            evaluation=dict(plan["evaluation"]),
            rows=rows,
            beside=tuple(one for one in beside if isinstance(one, Beside)),
            missing=tuple(one for one in beside if isinstance(one, str)),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path / PLAN_FILE} is not the plan of a study: {error!r}") from error


def _row(study: Path, row: Mapping[str, Any], split: str) -> StudyRow:
    excluded = row.get("excluded")
    return StudyRow(
        name=str(row["name"]),
        differences=dict(row["differences"]),
        runs=tuple(_run(study / _inside(one["folder"]), int(one["seed"]), split) for one in row["runs"]),
        excluded=None if excluded is None else str(excluded),
    )


def _inside(folder: str) -> str:
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise StoreError(f"{PLAN_FILE} names a folder outside the study: {folder!r}")
    return folder


def _run(folder: Path, seed: int, split: str) -> StudyRun:
    run = RunFolder(folder)
    if not run.status_file.is_file():
        return StudyRun(seed=seed, folder=folder, state="missing", reason="", run=None)
    status = run.status()
    state, reason = str(status.get("state", "unknown")), str(status.get("error", ""))
    if state == "failed" and reason.partition(":")[0] in _REFUSALS:
        state = "refused"
    if state != "finished":
        return StudyRun(seed=seed, folder=folder, state=state, reason=_first_line(reason), run=None)
    loaded = load_runs([folder], split)[0]
    if loaded.scored.sheet is None:
        reason = loaded.notes[0] if loaded.notes else f"no scores for the {split} split"
        return StudyRun(seed=seed, folder=folder, state="started", reason=reason, run=None)
    return StudyRun(seed=seed, folder=folder, state="finished", reason="", run=loaded)


def _first_line(reason: str) -> str:
    return reason.partition("\n")[0]


def _beside(study: Path, folder: str, kind: str, split: str) -> Beside | str:
    place = RunFolder(study / _inside(folder))
    name = Path(folder).name if kind == "baseline" else " ".join(Path(folder).parts)
    try:
        sheet = read_sheet(place.scores(split))
        captions = {str(row["id"]): str(row["caption"]) for row in read_jsonl(place.predictions(split))}
    except (ScoreError, StoreError, KeyError) as error:
        return f"{folder}: {error}"
    return Beside(name=name, kind=kind, sheet=sheet, captions=captions)
