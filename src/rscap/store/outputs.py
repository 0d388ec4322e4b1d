"""The door through which files are written: whole or not at all, and never over what must stay."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rscap.errors import StoreError
from rscap.opening import not_plain
from rscap.store.refusals import no_room, not_written

STANDARD_OUTPUT = Path("-")

_STREAMS = tuple(Path(name) for name in ("/dev", "/dev/fd", "/proc/self/fd"))
_NAME_SHOWN = 40
"""Characters of a file's name in that of its temporary neighbour: with more, a long name would become too long."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: it takes the name if the block ends well, and vanishes if it does not.

    To `-` (standard output), a device or a pipe its bytes are written instead: nothing takes their place.

    Raises:
        StoreError: a folder or a link has this name, or no file can be made here.
    """
    place = None if is_stream(path) else path.parent
    try:
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=temporary_prefix(path), suffix=".part", dir=place)
    except (OSError, ValueError) as error:
        if no_room(error):
            raise
        raise not_written(path, error) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        if place is None:
            _send(temporary, path)
        else:
            _put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o644)
    is_stream(path)  # what came to stand there meanwhile is not replaced either
    try:
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before the work that it is to hold.

    Raises:
        StoreError: a folder or a link has this name, a file stands where its folder would be, or nothing may be
            written there.
    """
    if is_stream(path):
        return
    folder = next((one for one in path.absolute().parents if os.path.lexists(one)), path.absolute().parent)
    if not folder.is_dir():
        raise StoreError(f"{path} cannot be written: {folder} is not a folder", hint="choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"{path} cannot be written: {folder} is read-only for this user", hint="choose another place")


def check_outputs(*outputs: Path | None, inputs: Iterable[Path | str | None] = ()) -> None:
    """As `check_output` for each; and none may be another output, or what the same command reads.

    Of a folder that is read no file is replaced but a page (`.html`).

    Raises:
        StoreError: names the output and what it would destroy.
    """
    read = [Path(one) for one in inputs if one is not None]
    taken: list[Path] = []
    for path in (one for one in outputs if one is not None):
        check_output(path)
        if path == STANDARD_OUTPUT or not_plain_there(path):
            continue
        if path.absolute() in taken:
            raise StoreError(f"{path} is to be written twice by one command", hint="give each output its own file")
        taken.append(path.absolute())
        for source in read:
            if _destroys(path, source):
                what = "is what is read" if not source.is_dir() else f"is a file of {source}, which is read"
                raise StoreError(
                    f"{path} {what}: nothing is written over it", hint="give the output another name, or another folder"
                )


def not_plain_there(path: Path) -> bool:
    """Whether something other than a plain file has this name."""
    try:
        return not_plain(path.stat().st_mode) is not None
    except (OSError, ValueError):
        return False


def _destroys(path: Path, source: Path) -> bool:
    with suppress(OSError, ValueError):
        if not path.exists() or not source.exists():
            return False
        if source.is_dir():
            return path.suffix != ".html" and path.resolve().is_relative_to(source.resolve())
        return path.samefile(source)
    return False


def is_stream(path: Path) -> bool:
    """Whether bytes are written into what is there (standard output, a device, a pipe) and nothing takes its place.

    Raises:
        StoreError: it is a folder, a link, a disk or a socket.
    """
    if path == STANDARD_OUTPUT:
        return True
    try:
        own = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise not_written(path, error) from error
    mode, linked = own.st_mode, stat.S_ISLNK(own.st_mode)
    if linked:
        with suppress(OSError):
            mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or (linked and path.parent in _STREAMS):
        return True
    if linked:
        target = path.readlink()
        raise StoreError(
            f"{path} cannot be written: it is a link to {target}",
            hint="name the file itself; rscap writes through no link",
        )
    if kind := not_plain(mode):
        raise StoreError(f"{path} cannot be written: it is {kind}", hint="name a file")
    return False


_PATIENCE_SECONDS = 5.0


def _send(temporary: Path, path: Path) -> None:
    """Write the bytes of a finished file into a stream."""
    with temporary.open("rb") as content:
        if path == STANDARD_OUTPUT:
            sys.stdout.flush()
            if (binary := getattr(sys.stdout, "buffer", None)) is not None:
                shutil.copyfileobj(content, binary)
            else:  # a notebook, or a test
                sys.stdout.write(content.read().decode("utf-8", "replace"))
            sys.stdout.flush()
            return
        with _opened(path) as stream:
            shutil.copyfileobj(content, stream)


def _opened(path: Path) -> IO[bytes]:
    """A device or a pipe to write to; a pipe that nobody reads is an error and no waiting for ever."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise not_written(path, error) from error
            if time.monotonic() > until:
                raise StoreError(f"{path} cannot be written: nobody reads from this pipe") from error
            time.sleep(0.05)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def temporary_prefix(path: Path) -> str:
    """How the temporary neighbours of a file or folder begin."""
    return f".{path.name[:_NAME_SHOWN]}."
