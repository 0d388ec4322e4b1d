"""What is said where nothing can be written: no room, no right, a file where a folder would be."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from rscap.errors import StoreError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS = "|".join(map(os.strerror, _NO_ROOM))


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


def not_written(path: Path, error: OSError | ValueError) -> StoreError:
    """The error for a file or folder that the system refuses to write."""
    reason: object = getattr(error, "strerror", None) or error
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{error.filename} is not a folder"
    return StoreError(f"{path} cannot be written: {reason}", hint="choose another place")
