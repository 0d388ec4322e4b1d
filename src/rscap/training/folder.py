"""The life of a run folder: a run begins or resumes in it, and its status and provenance are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rscap.errors import Interrupted, RecipeError, StoreError
from rscap.progress import Say
from rscap.recipe import Recipe, read_recipe, recipe_changes
from rscap.stopping import stopping
from rscap.store import Provenance, RunFolder, Seen, no_room, read_seen, remove_leftover, way_out

SAVING = ".saving-"
"""Begins the name of a temporary folder below the run folder."""


def trained_folder(run: RunFolder, recipe: Recipe) -> Path:
    """Where the weights of a finished run are: the adapter, or the model after full fine-tuning."""
    return run.adapter if recipe.adapter else run.model


def check_new(out: Path) -> None:
    """Check that a new run can begin at `out`.

    Raises:
        StoreError: there is something else; if it is an unfinished run, the hint says how to resume it.
    """
    if (run := RunFolder(out)).exists and (state := run.status().state) != "finished":
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
    if differing := recipe_changes(read_recipe(run.recipe_file), recipe):
        listed = "; ".join(f"{path}: {was!r} → {now!r}" for path, (was, now) in differing.items())
        raise RecipeError(
            f"{run.path} began with another recipe: {listed}",
            hint=f"`rscap train {run.path} --resume` resumes with its own recipe; for another recipe, choose another "
            "--out",
        )


def is_finished(run: RunFolder, recipe: Recipe) -> bool:
    """Whether the run has ended and its weights are there."""
    return run.status().state == "finished" and trained_folder(run, recipe).is_dir()


@contextmanager
def recorded(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Hold a run folder for this process alone, and record in its status how the block ends.

    Yields a table; what the block puts in it, keys of `Status`, is added to the status of a finished run. Within the
    block a signal that asks to stop raises `Interrupted`.

    Raises:
        StoreError: another process trains in the folder, or the disk is full; the hint says how to resume.
    """
    resume = f"resume with `rscap train {run.path} --resume`"
    with run.locked():
        for leftover in run.path.glob(f"{SAVING}*"):  # of a process that was killed
            remove_leftover(leftover)
        run.start(run.status().started)
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
            with suppress(OSError, StoreError):  # on a full disk, `error` itself says so
                run.close("failed", error=f"{type(error).__name__}: {error}")
            if reason := no_room(error):
                raise StoreError(
                    f"{run.path} could not be written: {reason}", hint=f"{way_out(reason)}, then {resume}"
                ) from error
            raise


def record_provenance(run: RunFolder, now: Provenance, say: Say) -> None:
    """Write where the result comes from; a resumed run adds a session to it.

    Raises:
        StoreError: the data or the base model differ from those that the run began with.
    """
    if not run.provenance_file.exists():
        now.write(run.provenance_file)
        return
    first = first_provenance(run)
    for part, key, before, after in (
        ("data", "digest", first.data.digest, now.data.digest),
        ("base", "digest", first.base.digest, now.base.digest),
        ("base", "revision", first.base.revision, now.base.revision),
    ):
        if key == "revision" and before is None:  # rscap 0.1 recorded only commits that it had pinned
            if after is not None:
                say(f"the run did not record the commit of its base model; this session uses {after}")
        elif before != after:
            raise StoreError(
                f"the {part} changed since {run.path} began: {key} {before} before, {after} now",
                hint="restore the old one, or start another run",
            )
    names = ("commit", "packages", "device_name", "processes", "threads")
    if changed := [name for name in names if getattr(now, name) != getattr(first, name)]:
        say(f"changed since the run began: {', '.join(changed)}; the result may differ in the last bits")
    first.resumed_by(now).write(run.provenance_file)


def check_same_images(run: RunFolder, now: Seen) -> None:
    """Check by their pixels that the images are those that the run began with: names and sizes may stay the same.

    Raises:
        StoreError: names the first of those that differ.
    """
    before = {image.id: image.digest for image in read_seen(run.seen_file)}
    known = {image.id: image.digest for image in now if image.digest and before.get(image.id)}
    if changed := [name for name, digest in known.items() if digest != before[name]]:
        raise StoreError(
            f"{len(changed):,} images changed since {run.path} began, such as {changed[0]}",
            hint="restore the old ones, or start another run",
        )


def first_provenance(run: RunFolder) -> Provenance:
    """Where a run that resumes comes from.

    Raises:
        StoreError: it does not name the data and the base model that the run began with.
    """
    first = Provenance.read(run.provenance_file)
    if not {"data", "base"} <= first.model_fields_set:
        raise StoreError(
            f"{run.provenance_file} is damaged: it does not name the data and the base model that the run began with",
            hint="restore the file, or start another run",
        )
    return first
