"""The folder of an evaluation that stands apart from its run: begun, or gone on with where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rscap.errors import StoreError
from rscap.store import RunFolder, now, read_json, write_json


def is_cut_off(place: Path) -> bool:
    """Whether an evaluation was begun at `place` that did not finish; a run that trains is none."""
    run = RunFolder(place)
    if not run.evaluation_file.is_file() or run.recipe_file.exists():
        return False
    return not run.status_file.exists() or run.status().get("state") != "finished"


def begin(place: Path, described: Mapping[str, Any]) -> RunFolder:
    """A new folder, or that of the same evaluation; evaluation.json, which tells what it is, is written first.

    Raises:
        StoreError: the place is taken, also by another evaluation; names what differs.
    """
    run, since = RunFolder(place), now()
    if not is_cut_off(place):
        RunFolder.check_free(place)
        write_json(run.evaluation_file, described)
    before = read_json(run.evaluation_file)
    if other := [name for name, value in described.items() if before.get(name) != value]:
        raise StoreError(
            f"{place} holds another evaluation, which did not finish; they differ in {', '.join(other)}",
            hint="give another --out, or remove the folder",
        )
    if run.status_file.exists():
        since = run.status().get("started", since)
    write_json(run.status_file, {"state": "started", "started": since})
    return run
