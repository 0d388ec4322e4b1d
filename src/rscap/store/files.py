"""Files that a reader never sees half written, and records: JSON files and lines whose keys and types are checked."""

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
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

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
        return json.loads(_text(path))
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


def _text(path: Path) -> str:
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
    lines = _text(path).split("\n")  # not splitlines: U+2028 may stand inside a caption
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if growing and number == len(lines) and not _is_json(line):
            return
        yield number, line


def _is_json(text: str) -> bool:
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


class Record(BaseModel):
    """What a JSON file, or one line of it, holds: read and written here, its keys and their types checked.

    Keys that a record does not know are kept, and written again after those that it knows. A record whose shape
    changes counts VERSION up and writes it under the key `version`; without the key it is the first shape, that of
    rscap 0.1, which stays readable.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")
    VERSION: ClassVar[int] = 1

    @classmethod
    def parse(cls, text: str, *, where: str) -> Self:
        """The record that a JSON object holds; `where` names it in errors.

        Raises:
            StoreError: not JSON, not an object, or a key that is missing or holds the wrong type; or a newer rscap
                wrote it.
        """
        try:
            record = cls.model_validate_json(text)
        except ValidationError as error:
            cls._check_version(text, where)
            raise StoreError(f"{where} is damaged: {_problems(error)}", hint=_RESTORE) from None
        if record.model_extra:
            cls._check_version(text, where)
        return record

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record that a file holds.

        Raises:
            StoreError: as `parse`, or the file is missing; names it.
        """
        return cls.parse(_text(path), where=str(path))

    def write(self, path: Path) -> None:
        """Write the file in one move."""
        write_json(path, self.content())

    def content(self) -> dict[str, Any]:
        """The JSON object: the keys that were given, in the order of the record, then those it does not know."""
        return self.model_dump(exclude_unset=True)

    @classmethod
    def _check_version(cls, text: str, where: str) -> None:
        found = json.loads(text) if _is_json(text) else None
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > cls.VERSION:
            raise StoreError(
                f"{where} was written by a newer rscap: its format is version {version}, and this rscap reads up to "
                f"version {cls.VERSION}",
                hint="read it with a newer rscap",
            )


_RESTORE = "bring the file back from a copy, or remove it and let the command that wrote it write it again"
_MOST_PROBLEMS = 3

AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_rows(path: Path, kind: type[AnyRecord], *, growing: bool = False) -> list[AnyRecord]:
    """The records of a JSON Lines file, one a line; of a `growing` file the last line may have been cut off.

    Raises:
        StoreError: the file is missing, or a line is damaged; names the line.
    """
    return [row for _, row in read_numbered_rows(path, kind, growing=growing)]


def read_numbered_rows(path: Path, kind: type[AnyRecord], *, growing: bool = False) -> list[tuple[int, AnyRecord]]:
    """As `read_rows`, each with the number of its line."""
    return [
        (number, kind.parse(line, where=f"{path}, line {number}"))
        for number, line in numbered_lines(path, growing=growing)
    ]


def write_rows(path: Path, records: Iterable[Record]) -> None:
    """Write JSON Lines in one move, one record a line."""
    write_jsonl(path, (record.content() for record in records))


def append_row(path: Path, record: Record) -> None:
    """Add one line to a growing file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record.content(), ensure_ascii=False, allow_nan=False) + "\n")


def _problems(error: ValidationError) -> str:
    """What is wrong, key by key, in plain words."""
    problems = error.errors(include_url=False)
    missing = [repr(_key(one)) for one in problems if one["type"] == "missing"]
    told = [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    told += [_problem(one) for one in problems if one["type"] != "missing"]
    rest = [f"and {len(told) - _MOST_PROBLEMS} more"] if len(told) > _MOST_PROBLEMS else []
    return "; ".join([*told[:_MOST_PROBLEMS], *rest])


def _problem(one: ErrorDetails) -> str:
    if one["type"] == "json_invalid":
        return f"not JSON ({one['ctx']['error']})"
    if one["type"] == "value_error":
        return f"{_key(one)!r}: {one['ctx']['error']}"
    if not one["loc"]:
        return f"expected a JSON object, found {one['input']!r:.60}"
    wanted = one["msg"].removeprefix("Input should be ")
    return f"{_key(one)!r} should be {wanted}, found {one['input']!r:.60}"


def _key(one: ErrorDetails) -> str:
    return ".".join(str(part) for part in one["loc"])
