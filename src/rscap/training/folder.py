"""The life of a run folder: a run begins or resumes in it, and its status and provenance are recorded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rscap.errors import Interrupted, RecipeError, StoreError
from rscap.progress import Say
from rscap.recipe import Recipe, read_recipe
from rscap.stopping import stopping
from rscap.store import RunFolder, no_room, read_json, way_out, write_json
from rscap.tables import differences

SAVING = ".saving-"
"""Begins the name of a temporary folder below the run folder."""


def trained_folder(run: RunFolder, recipe: Recipe) -> Path:
    """Where the weights of a finished run are: adapter/, or model/ after full fine-tuning."""
    return run.adapter if recipe.adapter else run.model


def check_new(out: Path) -> None:
    """Check that a new run can begin at `out`.

    Raises:
        StoreError: there is something else; if it is an unfinished run, the hint says how to resume it.
    """
    if (out / "status.json").is_file() and (state := RunFolder(out).status().get("state")) != "finished":
        raise StoreError(
            f"{out} holds a run that is {state}",
            hint=f"resume it with `rscap train {out} --resume`, or choose another --out",
        )
    RunFolder.check_free(out)


def check_same_recipe(run: RunFolder, recipe: Recipe) -> None:
    """Check that a run resumes with the recipe that it began with.

    Raises:
        RecipeError: it does not; names each key that differs.
    """
    if not run.recipe_file.exists():  # the run was stopped before it was written
        return
    before = read_recipe(run.recipe_file)
    if differing := differences(before.model_dump(mode="json"), recipe.model_dump(mode="json")):
        listed = "; ".join(f"{path}: {was!r} → {now!r}" for path, (was, now) in differing.items())
        raise RecipeError(
            f"{run.path} began with another recipe: {listed}",
            hint=f"`rscap train {run.path} --resume` resumes with its own recipe; for another recipe, choose another "
            "--out",
        )


def is_finished(run: RunFolder, recipe: Recipe) -> bool:
    """Whether the run has ended and its weights are there."""
    return run.status()["state"] == "finished" and trained_folder(run, recipe).is_dir()


@contextmanager
def recorded(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Hold a run folder for this process alone, and record in status.json how the block ends.

    Yields a table; what the block puts in it is added to status.json of a finished run. Within the block a signal that
    asks to stop raises `Interrupted`.

    Raises:
        StoreError: another process trains in the folder, or the disk is full; the hint says how to resume.
    """
    resume = f"resume with `rscap train {run.path} --resume`"
    try:
        with FileLock(run.path / ".lock", timeout=0):
            for leftover in run.path.glob(f"{SAVING}*"):  # of a process that was killed
                shutil.rmtree(leftover)
            write_json(run.status_file, {"state": "started", "started": run.status()["started"]})
            details: dict[str, Any] = {}
            try:
                with stopping():
                    yield details
                run.close("finished", **details)
            except Interrupted as error:
                run.close("interrupted", error=error.message)
                error.hint = resume
                raise
            except BaseException as error:
                with suppress(OSError):  # on a full disk, `error` itself says so
                    run.close("failed", error=f"{type(error).__name__}: {error}")
                if reason := no_room(error):
                    raise StoreError(
                        f"{run.path} could not be written: {reason}", hint=f"{way_out(reason)}, then {resume}"
                    ) from error
                raise
    except Timeout:
        raise StoreError(f"another process is training in {run.path}", hint="wait until it ends, or stop it") from None


def record_provenance(run: RunFolder, now: Mapping[str, Any], say: Say) -> None:
    """Write provenance.json; a resumed run adds a session to it.

    Raises:
        StoreError: the data or the base model differ from those that the run began with.
    """
    if not run.provenance_file.exists():
        write_json(run.provenance_file, now)
        return
    first = first_provenance(run)
    for part, key in (("data", "digest"), ("base", "digest"), ("base", "revision")):
        if first[part].get(key) != now[part].get(key):
            raise StoreError(
                f"the {part} changed since {run.path} began: {key} {first[part].get(key)} before, "
                f"{now[part].get(key)} now",
                hint="restore the old one, or start another run",
            )
    same = {
        name: now[name] == first.get(name) for name in ("commit", "packages", "device_name", "processes", "threads")
    }
    if not all(same.values()):
        changed = ", ".join(name for name, is_same in same.items() if not is_same)
        say(f"changed since the run began: {changed}; the result may differ in the last bits")
    sessions = [*first.get("resumed", []), {name: now[name] for name in ("commit", "dirty", *same, "command")}]
    write_json(run.provenance_file, {**first, "resumed": sessions})


def first_provenance(run: RunFolder) -> dict[str, Any]:
    """provenance.json of a run that resumes.

    Raises:
        StoreError: it does not name the data and the base model that the run began with.
    """
    first = read_json(run.provenance_file)
    if not isinstance(first, dict) or not all(isinstance(first.get(part), dict) for part in ("data", "base")):
        raise StoreError(
            f"{run.provenance_file} is damaged: it does not name the data and the base model that the run began with",
            hint="restore the file, or start another run",
        )
    return first
