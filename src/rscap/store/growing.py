"""Files that grow line by line, and the locks of those who write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rscap.errors import StoreError
from rscap.opening import not_plain
from rscap.store.outputs import is_stream, not_plain_there
from rscap.store.refusals import no_room


def append_line(path: Path, line: str) -> None:
    """Add a line to a growing file. A last line that was cut off, by a full disk or a `kill -9`, gives way to it.

    Raises:
        StoreError: it is a link, or no plain file.
    """
    with open_growing(path) as stream:
        _mend(stream)
        stream.write(f"{line}\n".encode("utf-8", "backslashreplace"))


def open_growing(path: Path) -> IO[bytes]:
    """A file of ours to read and to add to, made where there is none.

    Raises:
        StoreError: it is a link, or no plain file.
        OSError: it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if path.is_symlink() or not_plain_there(path):
            is_stream(path)  # says what it is
            raise StoreError(f"{path} cannot be written: it is no plain file", hint="remove it") from error
        raise
    if kind := not_plain(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreError(f"{path} cannot be written: it is {kind}, not a file", hint="remove it")
    return os.fdopen(descriptor, "r+b")


def _mend(stream: IO[bytes]) -> None:
    """Stand at the end of the last whole line."""
    end = stream.seek(0, os.SEEK_END)
    tail = b""
    while end and not tail.startswith(b"\n"):
        start = max(0, end - _TAIL)
        stream.seek(start)
        part = stream.read(end - start)
        if not tail and part.endswith(b"\n"):
            break
        place = part.rfind(b"\n")
        tail, end = (part[place:] if place >= 0 else part) + tail, start
    line = tail.removeprefix(b"\n")
    length = stream.seek(0, os.SEEK_END)
    if not line:
        return
    if is_json(line):  # all but its end was written
        stream.write(b"\n")
    else:
        stream.truncate(length - len(line))
        stream.seek(0, os.SEEK_END)


_TAIL = 4096


def is_json(text: str | bytes) -> bool:
    """Whether this is a whole JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@contextmanager
def locked(path: Path, *, busy: str) -> Iterator[None]:
    """Hold a lock file, which is made where there is none.

    Raises:
        StoreError: another process holds it, as `busy` says; it is a link; or the file system has no locks.
    """
    if path.is_symlink():  # whoever locks a file empties it first
        raise StoreError(f"{path} is a link to {path.readlink()}", hint="remove it: rscap makes no links")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(busy, hint="wait until it ends, or stop it") from None
    except (OSError, NotImplementedError) as error:
        if no_room(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{path} cannot be locked: {reason}",
            hint="keep the folder where its user may write and files can be locked",
        ) from error
    try:
        yield
    finally:
        lock.release()
