"""Folders that are made whole or not at all, at a place that was free."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rscap.errors import StoreError
from rscap.store.outputs import temporary_prefix
from rscap.store.refusals import no_room, not_written


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which takes its name if the block ends well and vanishes if it does not.

    A process that is killed leaves its unfinished folder; the next that makes the same one removes it.

    Raises:
        StoreError: something is at `target`, from the start or by then, or no folder can be made there.
    """
    _check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        place = Path(tempfile.mkdtemp(prefix=temporary_prefix(target), suffix=_MAKING, dir=target.parent))
    except OSError as error:
        if no_room(error):
            raise
        raise not_written(target, error) from error
    try:
        with _held(place):
            folder = place / "new"
            folder.mkdir()
            yield folder
            try:
                folder.rename(target)  # over an empty folder at most: the system refuses all else
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise StoreError(
                        f"{target} was made by somebody else meanwhile; nothing is overwritten",
                        hint="choose another name",
                    ) from error
                raise not_written(target, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


_MAKING = ".making"
_LOCK = ".lock"


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold the lock by which a folder is known to be at work; where the file system has no locks, go without."""
    lock = FileLock(place / _LOCK, timeout=0)
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sweep(target: Path) -> None:
    """Remove the unfinished folders of processes that were killed; one that is locked belongs to a live process."""
    for place in target.parent.glob(f"{_glob(temporary_prefix(target))}*{_MAKING}"):
        if place.is_symlink() or not (place / _LOCK).is_file():
            continue
        with suppress(OSError, NotImplementedError, Timeout), FileLock(place / _LOCK, timeout=0):
            shutil.rmtree(place, ignore_errors=True)


def _check_free(target: Path) -> None:
    try:
        there = os.path.lexists(target)
        empty = there and target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    except (OSError, ValueError) as error:
        raise not_written(target, error) from error
    if there and not empty:
        raise StoreError(f"{target} exists; nothing is overwritten", hint="name a folder that does not exist")


def replace_folder(source: Path, target: Path) -> None:
    """Put the finished folder `source` at `target`; an earlier one of ours goes beside `source`, which is temporary.

    Raises:
        StoreError: `target` is a link.
    """
    if target.is_symlink():
        raise StoreError(f"{target} is a link to {target.readlink()}; rscap writes through no link", hint="remove it")
    if target.exists():
        target.rename(source.with_name(f"{source.name}.before"))
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def remove_leftover(path: Path) -> None:
    """Remove what a killed process left below a run folder; of a link the link alone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def _glob(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
