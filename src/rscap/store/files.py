"""The names of a run folder's files, which `rscap.store` describes, and how they are written: a reader never sees one
half written.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rscap.errors import StoreError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS = "|".join(map(os.strerror, _NO_ROOM))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: it takes the name if the block ends well, and vanishes if it does not.

    Raises:
        StoreError: a folder has this name, or no file can be made here.
    """
    if path.is_dir():
        raise StoreError(f"{path} cannot be written: it is a folder", hint="name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        if no_room(error):
            raise
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint="choose another place") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one move."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move; NaN and infinity are refused, since no other reader takes them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines in one move."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: the file is missing or is not JSON; names it.
    """
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError) as error:  # the former also for a number of thousands of digits
        raise StoreError(f"{path} is not JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines; a line that is not a JSON object is an error that names file and line.

    Raises:
        StoreError: the file is missing, or a line of it is broken.
    """
    rows = []
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise StoreError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows


def text_of(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        StoreError: the file is missing or cannot be read; names it.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def numbered_lines(path: Path, *, growing: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a file that hold anything, with their numbers.

    A `growing` file is appended to, so that its last line may have been cut off: it is left out where it has no end
    and is not JSON.
    """
    lines = text_of(path).split("\n")  # not splitlines: U+2028 may stand inside a caption
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if growing and number == len(lines) and not is_json(line):
            return
        yield number, line


def is_json(text: str) -> bool:
    """Whether this is a whole JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def now() -> str:
    """This moment, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def replace_folder(source: Path, target: Path) -> None:
    """Put the finished folder `source` at `target`, in one rename where `target` does not exist yet."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


RECIPE = "recipe.toml"
STATUS = "status.json"
PROVENANCE = "provenance.json"
PARAMETERS = "parameters.json"
REJECTED = "rejected.jsonl"
REMOVED = "removed.jsonl"
WEIGHTED = "weighted.jsonl"
QUALITY = "quality.json"
TRAIN_LOG = "train.jsonl"
SPEED_LOG = "speed.jsonl"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
MODEL = "model"
PREDICTIONS = "predictions"
REFERENCES = "references"
SCORES = "scores"
PANEL = "panel"
BASELINES = "baselines"
TRACKERS = "trackers"
REPORT = "report.html"
SEEN = "seen.npz"
