"""Records: JSON files and lines whose keys and types are checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from rscap.errors import StoreError, WrittenByNewer
from rscap.store.files import numbered_lines, text_of, write_json, write_jsonl
from rscap.store.growing import append_line, is_json


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
        return cls.parse(text_of(path), where=str(path))

    def write(self, path: Path) -> None:
        """Write the file in one move."""
        write_json(path, self.content())

    def content(self) -> dict[str, Any]:
        """The JSON object: the keys that were given, in the order of the record, then those it does not know."""
        return self.model_dump(exclude_unset=True)

    @classmethod
    def _check_version(cls, text: str, where: str) -> None:
        found = json.loads(text) if is_json(text) else None
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > cls.VERSION:
            raise WrittenByNewer(
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
    """Add one line to a growing file, in place of a last one that was cut off."""
    append_line(path, json.dumps(record.content(), ensure_ascii=False, allow_nan=False))


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
