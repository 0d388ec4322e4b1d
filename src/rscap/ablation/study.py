"""The study file: a base recipe, what varies, the seeds, the budget and the evaluation. See docs/ablation.md."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from rscap.errors import RecipeError
from rscap.recipe import Positive, Recipe
from rscap.shipped import names, shipped
from rscap.tables import Section, check_table, flatten, overridden, parse_override, read_toml

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=80)]
"""The name of a row, an option or a study; it is also the name of a folder."""


class BudgetSection(Section):
    """How long every run trains: it stops at the first limit. The budget replaces epochs and limits of the recipe."""

    steps: Annotated[int, Field(ge=0)] | None = None
    """Updates; 0 for rows that only decode, each from the finished run that its `model.start` names."""
    images: Positive | None = None
    """Training images, counted in whole updates."""
    tokens: Positive | None = None
    """Supervised tokens."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes in the training loop."""

    @model_validator(mode="after")
    def _not_empty(self) -> BudgetSection:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"a budget needs at least one of {', '.join(type(self).model_fields)}")
        return self


class EvaluationSection(Section):
    """The images that all rows are evaluated on. An absent key is taken from the base recipe."""

    source: str | None = None
    splits: str | None = None
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "test"
    limit: Positive | None = None
    """At most this many images, chosen by a hash of their ids."""
    prefix: str | None = None
    """The prompt for all rows; without it each row is evaluated with its own `prompt.prefix`."""
    allow_seen: bool = False
    """Also score runs on images that they were trained on; their scores are marked."""


class RowSection(Section):
    """A named difference from the base recipe."""

    name: Name
    set: dict[str, Any] = Field(default_factory=dict)
    unset: tuple[str, ...] = ()
    """Keys or whole sections that are removed from the base recipe first."""


class ExcludeSection(Section):
    """Rows that are not run, and why; they are listed but do not count as missing."""

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class Study(Section):
    """A study."""

    name: Name
    base: str
    """The recipe that all rows start from: a path, relative to the study file, or the name of a shipped recipe."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the base recipe for all rows."""
    unset: tuple[str, ...] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Every row has one run for each seed."""
    budget: BudgetSection
    evaluation: EvaluationSection = EvaluationSection()
    axes: dict[str, Any] = Field(default_factory=dict)
    """`"section.key" = [values]`, or a name with named differences; rows are multiplied by all of them."""
    rows: tuple[RowSection, ...] = ()
    exclude: tuple[ExcludeSection, ...] = ()
    reference: str | None = None
    """The row that the others are compared with; the first when absent."""
    zero_shot: bool = True
    """Also evaluate each base model without training."""
    baselines: bool = True
    """Also score two baselines: the constant caption and the nearest training image."""

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if not self.axes and not self.rows:
            raise ValueError("the study varies nothing: give [axes], [[rows]] or both")
        if len({*self.seeds}) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} contain one twice; it would be the same run")
        return self


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, or a shipped one by its name, with `key=value` overrides.

    An override of a recipe's key (`model.base=…`) changes all rows. `[profiles.NAME]` holds a variant of the study,
    such as the real model instead of nano; `profile=NAME` selects it. Paths in the file are relative to it, those in
    overrides to the working folder.

    Raises:
        RecipeError: unreadable file, unknown or wrong keys, also in a profile that is not selected; names each.
    """
    path = shipped(path, "studies")
    settings = _settings(path)
    profile: str | None = None
    rest = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() == "profile":
            profile = value.strip().strip("\"'")
        else:
            rest.append(override)
    if profile not in settings:
        known = ", ".join(name for name in settings if name) or "none"
        raise RecipeError(f"study {path} has no profile {profile!r}", hint=f"profiles: {known}")
    chosen = settings[profile]
    for override in rest:
        chosen = _overridden(chosen, override)
    if isinstance(base := chosen.get("base"), str):  # an override may name a shipped one
        chosen["base"] = str(shipped(Path(base), "recipes"))
    return check_table(Study, chosen, name=str(path))


def _settings(path: Path) -> dict[str | None, dict[str, Any]]:
    """The table of the study without a profile, under None, and with each of its profiles; all are checked."""
    table = read_toml(path, what="study", known=names("studies"))
    profiles = table.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise RecipeError(f"study {path}: a profile must be a table, [profiles.NAME]")
    settings: dict[str | None, dict[str, Any]] = {None: table}
    settings |= {name: _merged(table, profile) for name, profile in profiles.items()}
    for name, setting in settings.items():
        if isinstance(base := setting.get("base"), str):
            beside = path.parent / base
            setting["base"] = os.path.relpath(beside if beside.exists() else shipped(Path(base), "recipes"))
        check_table(Study, setting, name=f"{path}, profile {name!r}" if name else str(path))
    return settings


def _overridden(table: Mapping[str, Any], override: str) -> dict[str, Any]:
    """A study with an override; a key of a recipe belongs to `set`, which changes all rows."""
    path, value = parse_override(override)
    if path.partition(".")[0] not in Recipe.model_fields:
        return overridden(table, [override])
    return {**table, "set": flatten(table.get("set", {})) | flatten({path: value})}


def _merged(table: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """A study with a profile: single keys of `set`, `axes` and `evaluation`, rows by name and other keys replaced."""
    merged = copy.deepcopy({**table})
    for key, value in copy.deepcopy({**profile}).items():
        if key in ("set", "axes", "evaluation") and isinstance(value, Mapping):
            before = merged.get(key, {})
            merged[key] = flatten(before) | flatten(value) if key == "set" else {**before, **value}
        elif key == "rows" and isinstance(value, list):
            replaced = {row.get("name"): row for row in value}
            merged[key] = [replaced.pop(row.get("name"), row) for row in merged.get(key, [])] + list(replaced.values())
        else:
            merged[key] = value
    return merged
