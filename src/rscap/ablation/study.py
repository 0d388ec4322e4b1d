"""The study file: a base recipe, what is varied, how often, how long, measured on what. See docs/ablation.md."""

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
"""What a row, an option or a study is called; it becomes the name of a folder."""


class BudgetSection(Section):
    """How long every run learns; it stops at what is reached first. Replaces the recipe's own epochs and limits."""

    steps: Positive | None = None
    """Updates."""
    images: Positive | None = None
    """Training images, counted in whole updates."""
    tokens: Positive | None = None
    """Supervised tokens."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time in the training loop."""

    @model_validator(mode="after")
    def _some(self) -> BudgetSection:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"a budget names at least one of {', '.join(type(self).model_fields)}")
        return self


class EvaluationSection(Section):
    """What every row is measured on: the same images for all. An absent key is as in the base recipe."""

    source: str | None = None
    splits: str | None = None
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "test"
    limit: Positive | None = None
    """Only so many images, chosen by a hash of their ids."""
    prefix: str | None = None
    """Ask all rows in these words; without it each is asked in the words it was trained on."""


class RowSection(Section):
    """A named difference from the base recipe."""

    name: Name
    set: dict[str, Any] = Field(default_factory=dict)
    unset: tuple[str, ...] = ()
    """Keys or whole sections that are taken out of the base recipe first."""


class ExcludeSection(Section):
    """Rows that are not run, and why; they are listed, and not counted as missing."""

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class Study(Section):
    """A whole study."""

    name: Name
    base: str
    """The recipe that all rows differ from; a path, relative to the study file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the base recipe for all rows."""
    unset: tuple[str, ...] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """One run of every row for each."""
    budget: BudgetSection
    evaluation: EvaluationSection = EvaluationSection()
    axes: dict[str, Any] = Field(default_factory=dict)
    """`"section.key" = [values]`, or a name with named differences; rows are multiplied by all of them."""
    rows: tuple[RowSection, ...] = ()
    exclude: tuple[ExcludeSection, ...] = ()
    reference: str | None = None
    """The row that others are compared with; the first when absent."""
    zero_shot: bool = True
    """Also measure each base model as it is."""
    baselines: bool = True
    """Also measure the constant caption and the nearest training image."""

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if not self.axes and not self.rows:
            raise ValueError("nothing is varied: give [axes], [[rows]] or both")
        if len({*self.seeds}) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat; a replicate with the same seed is the same run")
        return self


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, with `key=value` overrides; a key of a recipe (`model.base=…`) changes all rows.

    `[profiles.NAME]` holds another setting of the same study, such as the real model in place of nano; `profile=NAME`
    chooses it. Paths in the file are relative to it, those in overrides to the working folder.

    A shipped study is found by its name.

    Raises:
        RecipeError: unreadable, unknown or wrong keys, in a profile that is not chosen too; names each.
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
        raise RecipeError(f"study {path} has no profile {profile!r}", hint=f"it has: {known}")
    chosen = settings[profile]
    for override in rest:
        chosen = _overridden(chosen, override)
    if isinstance(base := chosen.get("base"), str):  # an override may name a shipped one
        chosen["base"] = str(shipped(Path(base), "recipes"))
    return check_table(Study, chosen, name=str(path))


def _settings(path: Path) -> dict[str | None, dict[str, Any]]:
    """The study's table as it stands, under None, and with each of its profiles; all are checked."""
    table = read_toml(path, what="study", known=names("studies"))
    profiles = table.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise RecipeError(f"study {path}: profiles are tables, [profiles.NAME]")
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
    """A study with a profile's keys: `set`, `axes` and `evaluation` key by key, rows by name, everything else whole."""
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
