"""The rows of a study: every combination of its rows and axes, with a name and a checked recipe."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscap.ablation.study import NAME, BudgetSection, RowSection, Study
from rscap.errors import RecipeError
from rscap.recipe import Recipe, parse_recipe, read_recipe
from rscap.tables import changed, flatten, read_toml, unknown_key

UNTIL_BUDGET = 1_000_000
"""Epochs of a run that the budget ends."""
_DECIDED = {
    **dict.fromkeys(("train.epochs", "train.max_steps", "train.max_tokens", "train.max_minutes"), "[budget]"),
    "seed": "seeds",
}
"""Keys of a recipe that the study sets, and where it sets them."""

Differences = Mapping[str, Any]
"""A flat table of changes to a recipe; None removes the key or section."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One row of the study: its name and how it differs from the base recipe."""

    name: str
    differences: Differences


def expand(study: Study) -> list[StudyRow]:
    """All rows in the order of the file: named rows are the outermost loop, then the axes.

    Raises:
        RecipeError: two rows with one name, a malformed axis, or a key that the study sets elsewhere.
    """
    named = study.rows or (None,)
    axes = [list(_options(name, value)) for name, value in _axes(study.axes).items()]
    rows = []
    for combination in itertools.product([_named(row) for row in named], *axes):
        parts = [row for row in combination if row is not None]
        differences: dict[str, Any] = {}
        for part in parts:
            if both := sorted(set(differences) & set(part.differences)):
                raise RecipeError(
                    f"study {study.name!r}: row {'-'.join(p.name for p in parts)!r} changes {both[0]!r} twice"
                )
            differences |= part.differences
        rows.append(StudyRow("-".join(part.name for part in parts), differences))
    seen: set[str] = set()
    for row in rows:
        if row.name.lower() in seen:
            raise RecipeError(
                f"study {study.name!r} has two rows named {row.name!r}",
                hint='name the options: [axes.NAME] with an entry `option = {"section.key" = value}` for each',
            )
        seen.add(row.name.lower())
        _check_keys(f"row {row.name!r}", row.differences)
    return rows


def read_base(study: Study) -> dict[str, Any]:
    """The base recipe as a table, with the changes that the study makes in all rows.

    Raises:
        RecipeError: it cannot be read, or a change names an unknown key.
    """
    path = Path(study.base)
    read_recipe(path)  # reports errors of the file itself, before the changes of the study are mixed in
    table = read_toml(path, what="recipe")
    changes = dict.fromkeys(study.unset) | flatten(study.set)
    _check_keys("the study's set and unset", changes)
    return changed(table, changes)


def recipe_of(base: Mapping[str, Any], row: StudyRow, *, seed: int, budget: BudgetSection) -> Recipe:
    """The recipe of one run.

    Raises:
        RecipeError: it cannot be run as written; names the row and each key.
    """
    name = f"row {row.name!r}"
    table = changed(base, row.differences)
    start = table.get("model", {}).get("start")
    if isinstance(start, str):  # a finished run for each seed
        table = changed(table, {"model.start": start.replace("{seed}", str(seed))})
    checked = parse_recipe(table, name=name)
    limits = _limits(budget, per_update=checked.train.micro_batch * checked.train.accumulation)
    return parse_recipe(changed(table, {**limits, "seed": seed}), name=name)


def _limits(budget: BudgetSection, *, per_update: int) -> Differences:
    """The budget as keys of [train]; it replaces limits and epochs of the base recipe."""
    images = None if budget.images is None else math.ceil(budget.images / per_update)
    steps = [limit for limit in (budget.steps, images) if limit is not None]
    return {
        "train.epochs": UNTIL_BUDGET,
        "train.max_steps": min(steps) if steps else None,
        "train.max_tokens": budget.tokens,
        "train.max_minutes": budget.minutes,
    }


def _named(row: RowSection | None) -> StudyRow | None:
    return StudyRow(row.name, dict.fromkeys(row.unset) | flatten(row.set)) if row else None


def _axes(axes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Axes by name; an override of `axes.train.learning_rate` sets the axis `train.learning_rate`."""
    found: dict[str, Any] = {}
    for name, value in axes.items():
        path = f"{prefix}{name}"
        inside = path.split(".")[0] in Recipe.model_fields
        found |= _axes(value, f"{path}.") if inside and isinstance(value, Mapping) else {path: value}
    return found


def _options(name: str, value: Any) -> Iterator[StudyRow]:
    """The options of an axis: the values of one key, or named changes."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        _check_keys(f"axis {name!r}", {name: value})
        yield from (StudyRow(_slug(name, option), {name: option}) for option in value)
    elif isinstance(value, Mapping) and value and all(isinstance(option, Mapping) for option in value.values()):
        for option, differences in value.items():
            if not re.fullmatch(NAME, option):
                raise RecipeError(f"axis {name!r}: {option!r} cannot be a folder name; use letters, digits and . _ + -")
            yield StudyRow(option, flatten(differences))
    else:
        raise RecipeError(
            f"axis {name!r} must be a list of values of one recipe key, or a table of named changes "
            "whose name is not that of a section",
            hint='"data.captions" = ["all", "first"], or [axes.dtype] with nf4 = {"model.quantisation" = "nf4"}',
        )


def _slug(key: str, value: Any) -> str:
    """A short name of an option for its folder: the value; numbers and booleans are preceded by their key."""
    values = value if isinstance(value, list | tuple) else [value]
    text = "-".join(str(item).lower() if isinstance(item, bool) else str(item) for item in values)
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:40].rstrip("-.")
    if text and isinstance(values[0], str):
        return text
    return f"{key.rpartition('.')[2]}-{text}"


def _check_keys(where: str, differences: Differences) -> None:
    """Refuse keys that no recipe has, or that the study sets itself.

    Raises:
        RecipeError: names the key.
    """
    for path in differences:
        if path in _DECIDED:
            raise RecipeError(f"{where} sets {path!r}, which belongs in {_DECIDED[path]} of the study")
        if problem := unknown_key(Recipe, path):
            raise RecipeError(f"{where}: {problem}")
