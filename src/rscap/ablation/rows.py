"""From a study to its rows: every combination of rows and axes, named, as a recipe that has been checked."""

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
"""Epochs of a run whose end is the budget."""
_DECIDED = {
    **dict.fromkeys(("train.epochs", "train.max_steps", "train.max_tokens", "train.max_minutes"), "[budget]"),
    "seed": "seeds",
}
"""Keys of a recipe that the study decides, and where."""

Differences = Mapping[str, Any]
"""`section.key` to its value; None where the key or section is taken out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what it is called and how it differs from the study's base."""

    name: str
    differences: Differences


def expand(study: Study) -> list[Row]:
    """All rows, in the order of the file: named rows outermost, then the axes.

    Raises:
        RecipeError: two rows of one name, an axis that is none, or a key that the study decides elsewhere.
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
                    f"study {study.name!r}: {both[0]!r} is varied twice in {'-'.join(p.name for p in parts)!r}"
                )
            differences |= part.differences
        rows.append(Row("-".join(part.name for part in parts), differences))
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
    """The base recipe as a table, with the study's changes for all rows.

    Raises:
        RecipeError: it cannot be read, or the changes name a key that there is not.
    """
    path = Path(study.base)
    read_recipe(path)  # says what is wrong with the file itself before the study's changes are mixed in
    table = read_toml(path, what="recipe")
    changes = dict.fromkeys(study.unset) | flatten(study.set)
    _check_keys("the study's set and unset", changes)
    return changed(table, changes)


def recipe_of(base: Mapping[str, Any], row: Row, *, seed: int, budget: BudgetSection) -> Recipe:
    """The recipe of one run.

    Raises:
        RecipeError: it cannot be run as written; names the row and each key.
    """
    name = f"row {row.name!r}"
    table = changed(base, row.differences)
    checked = parse_recipe(table, name=name)
    limits = _limits(budget, per_update=checked.train.micro_batch * checked.train.accumulation)
    return parse_recipe(changed(table, {**limits, "seed": seed}), name=name)


def _limits(budget: BudgetSection, *, per_update: int) -> Differences:
    """The budget as keys of [train]. Limits and epochs of the base recipe do not count beside it."""
    steps = [limit for limit in (budget.steps, budget.images and math.ceil(budget.images / per_update)) if limit]
    return {
        "train.epochs": UNTIL_BUDGET,
        "train.max_steps": min(steps) if steps else None,
        "train.max_tokens": budget.tokens,
        "train.max_minutes": budget.minutes,
    }


def _named(row: RowSection | None) -> Row | None:
    return Row(row.name, dict.fromkeys(row.unset) | flatten(row.set)) if row else None


def _axes(axes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Axes by name; `axes.train.learning_rate` in an override is the axis `train.learning_rate`."""
    found: dict[str, Any] = {}
    for name, value in axes.items():
        path = f"{prefix}{name}"
        inside = path.split(".")[0] in Recipe.model_fields
        found |= _axes(value, f"{path}.") if inside and isinstance(value, Mapping) else {path: value}
    return found


def _options(name: str, value: Any) -> Iterator[Row]:
    """The options of an axis: each value of a key, or each named difference."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        _check_keys(f"axis {name!r}", {name: value})
        yield from (Row(_slug(name, option), {name: option}) for option in value)
    elif isinstance(value, Mapping) and value and all(isinstance(option, Mapping) for option in value.values()):
        for option, differences in value.items():
            if not re.fullmatch(NAME, option):
                raise RecipeError(f"axis {name!r}: {option!r} cannot name a folder; use letters, digits and . _ + -")
            yield Row(option, flatten(differences))
    else:
        raise RecipeError(
            f"axis {name!r} is neither a list of values of a recipe key nor a table of named differences "
            f"(whose name is not that of a recipe's section)",
            hint='"data.captions" = ["all", "first"], or [axes.dtype] with nf4 = {"model.quantisation" = "nf4"}',
        )


def _slug(key: str, value: Any) -> str:
    """A short name of an option, fit for a folder: the value, with the key before a number or a truth value."""
    values = value if isinstance(value, list | tuple) else [value]
    text = "-".join(str(item).lower() if isinstance(item, bool) else str(item) for item in values)
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:40].rstrip("-.")
    if text and isinstance(values[0], str):
        return text
    return f"{key.rpartition('.')[2]}-{text}"


def _check_keys(where: str, differences: Differences) -> None:
    """Refuse keys that no recipe has, or that the study itself decides.

    Raises:
        RecipeError: names the key.
    """
    for path in differences:
        if path in _DECIDED:
            raise RecipeError(f"{where} gives {path!r}, which the study decides in {_DECIDED[path]}")
        if problem := unknown_key(Recipe, path):
            raise RecipeError(f"{where}: {problem}")
