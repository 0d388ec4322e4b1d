"""How far each part of a study is, told from its folders: nothing that is failed, partial or foreign is counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rscap.errors import StoreError
from rscap.recipe import Recipe, read_recipe
from rscap.store import RunFolder, read_jsonl
from rscap.tables import flatten

Progress = Literal["finished", "trained", "partial", "failed", "refused", "missing"]
"""`trained`: not evaluated yet; `refused`: what was asked for cannot be done, and doing it again will not help."""

REFUSALS = ("RecipeError", "DataError", "ImageError", "ModelError", "AdapterError", "BrokenTargets", "ScoreError")
"""Errors that say no to what was asked; every other one is a failure."""

ATTEMPTS_FILE = "attempts.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far one folder is."""

    progress: Progress
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one job: a line of attempts.jsonl."""

    folder: str
    progress: Progress
    reason: str = ""
    seconds: float
    """From start to end, without imports."""
    cpu_seconds: float | None = None
    """Processor time of the job's process, imports included; None where it ended without a word."""


def run_state(folder: Path, recipe: Recipe, split: str) -> State:
    """The state of a run folder that should hold `recipe`.

    Raises:
        StoreError: the folder holds another recipe; lists the keys.
    """
    run = RunFolder(folder)
    if not folder.exists():
        return State(progress="missing")
    if not run.status_file.is_file():
        return State(progress="partial", reason="it has no status.json")
    check_recipe(run, recipe)
    status = run.status()
    if status["state"] == "failed":
        return State(progress=kind_of(status.get("error", "")), reason=status.get("error", ""))
    if status["state"] != "finished":
        return State(progress="partial", reason=f"status.json says {status['state']}")
    return State(progress="finished" if run.scores(split).is_file() else "trained")


def evaluation_state(folder: Path, split: str) -> State:
    """The state of the folder of a zero-shot evaluation."""
    run = RunFolder(folder)
    if not run.status_file.is_file():
        return State(progress="partial" if folder.exists() else "missing")
    status = run.status()
    if status["state"] == "failed":
        return State(progress=kind_of(status.get("error", "")), reason=status.get("error", ""))
    return State(progress="finished" if status["state"] == "finished" and run.scores(split).is_file() else "partial")


def kind_of(error: str) -> Progress:
    """`refused` or `failed`, from `ErrorName: message`."""
    return "refused" if error.partition(":")[0] in REFUSALS else "failed"


def check_recipe(run: RunFolder, recipe: Recipe) -> None:
    """Refuse a run folder that holds another recipe; one that has not written any yet holds none.

    Raises:
        StoreError: lists the keys that differ.
    """
    if not run.recipe_file.is_file():
        return
    there, here = (flatten(one.model_dump(mode="json")) for one in (read_recipe(run.recipe_file), recipe))
    differing = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    if differing:
        listed = "; ".join(f"{key} is {there.get(key)!r}, the study says {here.get(key)!r}" for key in differing[:4])
        raise StoreError(
            f"{run.path} holds another recipe: {listed}",
            hint="give --out another folder, or move that run away",
        )


def same_images(folders: Mapping[str, Path], split: str) -> dict[str, str]:
    """Names of folders whose references are not those of the first, with the reason; all should be measured alike."""
    expected: tuple[str, bytes] | None = None
    odd = {}
    for name, folder in folders.items():
        found = RunFolder(folder).references(split).read_bytes()
        if expected is None:
            expected = name, found
        elif found != expected[1]:
            odd[name] = f"measured on other images or references than {expected[0]}; was the data changed in between?"
    return odd


def read_attempts(folder: Path) -> list[Attempt]:
    """All attempts so far, in order; a line that a crash cut off is left out."""
    path = folder / ATTEMPTS_FILE
    rows: list[dict[str, Any]] = read_jsonl(path) if path.exists() else []
    return [Attempt(**row) for row in rows]


def add_attempt(folder: Path, attempt: Attempt) -> None:
    """Append one line."""
    with (folder / ATTEMPTS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(attempt), ensure_ascii=False, allow_nan=False) + "\n")
