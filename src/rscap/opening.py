"""Read a file that somebody named: a plain one of limited size; a pipe or an endless file holds nothing up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 2**29
"""Of a file that is read whole: predictions of a million images take 200 MB."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_plain(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file; links are followed.

    Raises:
        OSError: it is missing, may not be read, is no plain file or is larger than `most` bytes; `strerror` says which.
    """
    # A pipe that nobody writes to would hold up the opening itself, were it not for O_NONBLOCK.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, f"no file has such a name ({error})", str(path)) from None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if kind := not_plain(found.st_mode):
            number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
            raise OSError(number, f"it is {kind}, not a file", str(path))
        content = stream.read(most + 1) if found.st_size <= most else b""
        if found.st_size > most or len(content) > most:
            size = f"{found.st_size:,} bytes" if found.st_size > most else "more"
            raise OSError(errno.EOVERFLOW, f"it has {size}; at most {most:,} are read", str(path))
    return content


def not_plain(mode: int) -> str | None:
    """What a file is by its mode, if it is no plain one: `a folder`, `a pipe (FIFO)`, …"""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no plain file")
