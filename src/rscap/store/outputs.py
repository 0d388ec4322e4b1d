"""The door through which files and folders are written: whole or not at all, and never over what must stay."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rscap.errors import StoreError
from rscap.opening import not_plain

STANDARD_OUTPUT = Path("-")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS = "|".join(map(os.strerror, _NO_ROOM))
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
    place = None if _is_stream(path) else path.parent
    try:
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_prefix(path), suffix=".part", dir=place)
    except (OSError, ValueError) as error:
        if no_room(error):
            raise
        raise _not_written(path, error) from error
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
    _is_stream(path)  # what came to stand there meanwhile is not replaced either
    try:
        temporary.replace(path)
    except OSError as error:
        raise _not_written(path, error) from error


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before the work that it is to hold.

    Raises:
        StoreError: a folder or a link has this name, a file stands where its folder would be, or nothing may be
            written there.
    """
    if _is_stream(path):
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


def _is_stream(path: Path) -> bool:
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
        raise _not_written(path, error) from error
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
                raise _not_written(path, error) from error
            if time.monotonic() > until:
                raise StoreError(f"{path} cannot be written: nobody reads from this pipe") from error
            time.sleep(0.05)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


# Files that grow.


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
            _is_stream(path)  # says what it is
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


# Folders.


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
        place = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=_MAKING, dir=target.parent))
    except OSError as error:
        if no_room(error):
            raise
        raise _not_written(target, error) from error
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
                raise _not_written(target, error) from error
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
    for place in target.parent.glob(f"{_glob(_prefix(target))}*{_MAKING}"):
        if place.is_symlink() or not (place / _LOCK).is_file():
            continue
        with suppress(OSError, NotImplementedError, Timeout), FileLock(place / _LOCK, timeout=0):
            shutil.rmtree(place, ignore_errors=True)


def _check_free(target: Path) -> None:
    try:
        there = os.path.lexists(target)
        empty = there and target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    except (OSError, ValueError) as error:
        raise _not_written(target, error) from error
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


# Errors.


def way_out(reason: str) -> str:
    """What to do about a reason that `no_room` found."""
    return "lift the limit on the size of a file" if reason == os.strerror(errno.EFBIG) else "make room"


def no_room(error: BaseException) -> str | None:
    """What the system said, where an error means that nothing more can be written; None for any other error.

    Also looks into the words of a `SafetensorError`, which is no `OSError`.
    """
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in _NO_ROOM else None
    found = re.search(_NO_ROOM_WORDS, str(error)) if type(error).__name__ == "SafetensorError" else None
    return found[0] if found else None


def _not_written(path: Path, error: OSError | ValueError) -> StoreError:
    reason: object = getattr(error, "strerror", None) or error
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{error.filename} is not a folder"
    return StoreError(f"{path} cannot be written: {reason}", hint="choose another place")


def _prefix(path: Path) -> str:
    return f".{path.name[:_NAME_SHOWN]}."


def _glob(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
