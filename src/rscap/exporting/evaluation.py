"""The evaluation that travels with an export, so that `rscap verify` can recompute the scores of its card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from rscap.errors import StoreError
from rscap.progress import Say
from rscap.store import CARRIED, RunFolder


def place_evaluation(
    run: RunFolder, folder: Path, *, wanted: bool | None, address: str | None, public: bool, say: Say
) -> str | None:
    """Where a reader of the card finds the captions and references that its scores follow from; None if nowhere.

    References are those who published the data set, so a public upload has them only where that is `wanted`.

    Args:
        folder: the export, into which they are copied.
        wanted: whether they travel with it; None: yes, but not in public.
        address: where they are published instead.
        public: whether everybody can download the export.

    Raises:
        StoreError: a file cannot be copied.
    """
    if address is not None:
        return address
    if public and wanted is None and run.splits():
        say("captions and references stay here, for the upload is public and they are others'; --evaluation adds them")
    if wanted or (wanted is None and not public):
        return CARRIED if _carry(run, folder, say) else None
    return None


def _carry(run: RunFolder, folder: Path, say: Say) -> bool:
    """Copy predictions, references and scores of every split; False, with a message, if a file of them is missing."""
    files = list(_files(run))
    if missing := [path for path in files if not path.is_file()]:
        say(f"the scores travel without their evaluation: {missing[0]} does not exist")
        return False
    for path in files:
        target = folder / CARRIED / path.relative_to(run.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        except OSError as error:
            raise StoreError(f"{path} cannot be copied to {folder}: {error.strerror or error}") from error
    return bool(files)


def _files(run: RunFolder) -> Iterator[Path]:
    for split in run.splits():
        yield from (run.predictions(split), run.references(split), run.scores(split))
        for baseline in run.baselines():
            if baseline.scores(split).is_file():
                yield from (baseline.predictions(split), baseline.scores(split))
