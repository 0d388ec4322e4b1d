"""Tables of settings: read TOML, apply `section.key=value` overrides, flatten, compare, check and explain.

Recipes, studies and doctor.toml are nested tables with known keys. A *path* such as `train.learning_rate` names one
value in a table; *flat* tables have such paths as keys.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rscap.errors import RecipeError
from rscap.opening import read_plain


class Section(BaseModel):
    """A table that refuses unknown keys, infinity and NaN, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


_MOST_BYTES = 2**24
"""Of a file of settings; those that ship have less than 10 kB."""

Checked = TypeVar("Checked", bound=BaseModel)


def read_toml(path: Path, *, what: str, known: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file as a table.

    Args:
        path: the file.
        what: what an error calls it, such as `recipe`.
        known: names that the user could have given instead, for the hint.

    Raises:
        RecipeError: the file is missing, not UTF-8 or not TOML; names it.
    """
    try:
        return tomllib.loads(read_plain(path, most=_MOST_BYTES).decode("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else "is a folder"
        hint = f"give a TOML file, or one that ships with rscap: {', '.join(known)}" if known else None
        raise RecipeError(f"{what} {path} {problem}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what} {path} is not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:  # the former also for a number of thousands of digits
        raise RecipeError(f"{what} {path} is not TOML: {error}") from None
    except OSError as error:
        raise RecipeError(f"{what} {path} cannot be read: {error.strerror or error}") from None


def parse_override(override: str) -> tuple[str, Any]:
    """The path and the value of `section.key=value`. The value is TOML; what is not TOML is taken as a string.

    Raises:
        RecipeError: the override has another form.
    """
    if not isinstance(override, str):
        raise RecipeError(
            f"override {override!r} is no string", hint="each is a string of its own: 'section.key=value'"
        )
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise RecipeError(f"override {override!r} is not of the form section.key=value")
    try:
        return path.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return path.strip(), text.strip()


def changed(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested table with the values of a flat one put in; None removes a key or a section.

    Raises:
        RecipeError: a path leads through a value.
    """
    copied = copy.deepcopy(dict(table))
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = copied
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise RecipeError(f"{path!r}: {parent!r} is a value, not a section")
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    return copied


def overridden(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a table with `section.key=value` overrides, applied in order.

    Raises:
        RecipeError: an override has another form, or its path leads through a value.
    """
    for override in overrides:
        table = changed(table, dict([parse_override(override)]))
    return dict(table)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested table as a flat one; an empty section stays a value."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return flat


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The paths at which two nested tables differ, each with both values; None means an absent one."""
    old, new = flatten(before), flatten(after)
    return {path: (old.get(path), new.get(path)) for path in {**new, **old} if old.get(path) != new.get(path)}


def check_table(kind: type[Checked], table: Mapping[str, Any], *, name: str) -> Checked:
    """Check a nested table against the model `kind`; an error calls it `name`.

    Raises:
        RecipeError: unknown or wrong keys; lists each, with the nearest known one.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        lines = [_explain(problem, kind) for problem in _causes(error.errors())]
        raise RecipeError(f"{name} cannot be run as written:\n" + "\n".join(f"  - {line}" for line in lines)) from None


def unknown_key(kind: type[BaseModel], path: str) -> str | None:
    """The message about a path that a model of `kind` does not have, with the nearest one; None if it has it."""
    *parents, last = path.split(".")
    known = _known_keys(kind, parents)
    return None if last in known else _unknown(parents, last, known)


def _causes(problems: Sequence[Any]) -> list[Any]:
    """Problems without "too short" lists whose entries are invalid: those entries are already reported."""
    inside = {problem["loc"][:-1] for problem in problems}
    return [one for one in problems if not (one["type"] == "too_short" and one["loc"] in inside)]


def _explain(problem: Any, kind: type[BaseModel]) -> str:
    *parents, last = problem["loc"] or [""]
    if problem["type"] == "extra_forbidden":
        return _unknown(parents, last, _known_keys(kind, parents))
    given = "" if problem["type"] in ("missing", "value_error") else f" (given: {problem['input']!r})"
    where = f"{_path(*problem['loc'])}: " if problem["loc"] else ""
    return f"{where}{problem['msg'].removeprefix('Value error, ')}{given}"


def _unknown(parents: Sequence[str | int], last: str | int, known: Sequence[str]) -> str:
    path = _path(*parents, last)
    if near := difflib.get_close_matches(str(last), known, n=1, cutoff=0.5):
        return f"unknown key {path!r}; did you mean {_path(*parents, *near)!r}?"
    return f"unknown key {path!r}; known here: {', '.join(known) or 'none'}"


def _path(*parts: str | int) -> str:
    return ".".join(map(str, parts))


def _known_keys(kind: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """Keys of the section that `parents` leads to from `kind`; numbers are positions in a list of sections."""
    section: Any = kind
    for parent in (name for name in parents if isinstance(name, str)):
        if parent not in section.model_fields:
            return []
        annotation = section.model_fields[parent].annotation
        section = next((part for part in (annotation, *get_args(annotation)) if _is_section(part)), None)
        if section is None:
            return []
    return list(section.model_fields)


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
