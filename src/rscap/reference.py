"""Every key of a recipe with its type, range, default and meaning: as a JSON schema for editors, and as a page.

The meaning is the text that stands below the key in `rscap.recipe`, so that code, schema and page say the same.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import rscap.recipe
from rscap.recipe import Recipe

_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `train.epochs`, what it takes, what it is when absent (as TOML, or in words), what it means."""

    name: str
    takes: str
    default: str
    meaning: str


def recipe_keys() -> list[Key]:
    """All keys of a recipe, section by section."""
    return list(_keys(Recipe, ""))


def recipe_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a recipe, with a description of every key."""
    found = Recipe.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "rscap recipe"
    for name, section in [("Recipe", found), *found.get("$defs", {}).items()]:
        for key, entry in section.get("properties", {}).items():
            if meaning := _meanings().get(name, {}).get(key):
                entry["description"] = meaning
    return found


def recipe_page() -> str:
    """The reference as Markdown: one table a section."""
    lines = [
        "# Every key of a recipe",
        "",
        "<!-- made by `rscap recipe keys`; the text of each key is in src/rscap/recipe.py -->",
        "",
        "A recipe is a TOML file; `rscap recipe show NAME` prints one that ships with rscap. A key that is absent has",
        "the default; an unknown key is refused, with the nearest right one. `rscap recipe schema` prints a JSON",
        "schema, with which editors complete keys and mark mistakes: save it as recipe.schema.json and put",
        "`#:schema recipe.schema.json` on the first line of a recipe.",
    ]
    section = None
    for key in recipe_keys():
        table, _, name = key.name.rpartition(".")
        if table != section:
            section = table
            title = f"[{table}]" if table else "At the top"
            lines += [
                "",
                f"## {title}",
                "",
                _section_text(table),
                "",
                "| key | takes | default | |",
                "|---|---|---|---|",
            ]
        lines.append(f"| `{name}` | {_cell(key.takes)} | {_cell(key.default)} | {_cell(key.meaning)} |")
    return "\n".join(lines) + "\n"


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    properties = section.model_json_schema().get("properties", {})
    inner = []
    for name, field in section.model_fields.items():
        if (below := _section(field.annotation)) is not None:
            inner.append((name, below))
            continue
        meaning = _meanings()[section.__name__].get(name, "")
        yield Key(prefix + name, _takes(properties[name]), _default(field), meaning)
    for name, below in inner:
        yield from _keys(below, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _takes(entry: Mapping[str, Any]) -> str:
    """What a key takes, from its JSON schema: `integer ≥ 1`, `"none" or "turns"`, `list of string`."""
    if "anyOf" in entry:
        return " or ".join(_takes(one) for one in entry["anyOf"] if one.get("type") != "null")
    if "enum" in entry or "const" in entry:
        return " or ".join(f'`"{value}"`' for value in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        items = entry.get("items") or (entry.get("prefixItems") or [{}])[0]
        return f"list of {_takes(items)}"
    kind = "true or false" if entry.get("type") == "boolean" else str(entry.get("type", "value"))
    bounds = " and ".join(f"{sign} {entry[name]:g}" for name, sign in _BOUNDS if name in entry)
    return f"{kind} {bounds}".strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(_plain(one) for one in value)}]`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _section_text(table: str) -> str:
    section: type[BaseModel] = Recipe
    for name in filter(None, table.split(".")):
        section = _section(section.model_fields[name].annotation) or section
    return " ".join(inspect.cleandoc(section.__doc__ or "").split())


@cache
def _meanings() -> dict[str, dict[str, str]]:
    """The string below each field of each section in `rscap.recipe`, by class and field (PEP 257's attribute docs)."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(rscap.recipe)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name] = {
            field.target.id: " ".join(text.value.value.split())
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
    return found
