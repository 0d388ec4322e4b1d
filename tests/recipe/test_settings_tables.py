"""Tables of settings: overrides, flat tables and their differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rscap.errors import RecipeError
from rscap.recipe import Recipe
from rscap.tables import (
    changed,
    differences,
    flatten,
    overridden,
    parse_override,
    read_toml,
    unknown_key,
)

NAMES = st.text("abc", min_size=1, max_size=3)
TABLES = st.recursive(
    st.dictionaries(NAMES, st.integers()), lambda inside: st.dictionaries(NAMES, st.integers() | inside), max_leaves=8
)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


@patient
@given(TABLES)
def test_a_flat_table_holds_all_of_a_nested_one(table: dict[str, Any]) -> None:
    """Putting every value of the flat table into an empty one gives the nested table again."""
    assert changed({}, flatten(table)) == table


@patient
@given(TABLES, TABLES)
def test_differences_lead_from_one_table_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Every path that differs is named with both values, and no other."""
    old, new = flatten(before), flatten(after)
    found = differences(before, after)
    assert {path: new.get(path) for path in {**old, **new}} == {
        path: found[path][1] if path in found else old[path] for path in {**old, **new}
    }
    assert all(was != now for was, now in found.values())


def test_a_change_leaves_the_given_table_alone() -> None:
    """Values are put in and taken out of a copy; None removes a key or a whole section."""
    table = {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    assert changed(table, {"a.b": 5, "a.c": None, "d": None, "f.g": 6}) == {"a": {"b": 5}, "f": {"g": 6}}
    assert overridden(table, ["a.b=7", "a.b=8"])["a"]["b"] == 8
    assert table == {"a": {"b": 1, "c": 2}, "d": {"e": 3}}


def test_a_path_through_a_value_is_refused() -> None:
    """`a.b.c=1` cannot be set where a.b is a number."""
    with pytest.raises(RecipeError, match=r"'a\.b\.c': 'b' is a value, not a section"):
        overridden({"a": {"b": 1}}, ["a.b.c=1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", ("a.b", 1)),
        (" a.b = [1, 2]", ("a.b", [1, 2])),
        ("a=true", ("a", True)),
        ("a=two words", ("a", "two words")),
        ("a='=1'", ("a", "=1")),
        ("a=", ("a", "")),
    ],
)
def test_the_value_of_an_override_is_toml_or_a_string(text: str, expected: tuple[str, Any]) -> None:
    """Numbers, lists, booleans and quoted strings are TOML; everything else is the string itself."""
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["a.b", "=3", " =3"])
def test_an_override_of_another_form_is_refused(text: str) -> None:
    """Without a key or without `=` there is nothing to set."""
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        parse_override(text)


def test_an_unknown_path_is_explained() -> None:
    """A known path needs no message; an unknown one is told with the nearest key, or with all there are."""
    assert unknown_key(Recipe, "data.quality.noise") is None
    assert unknown_key(Recipe, "train.epoch") == "unknown key 'train.epoch'; did you mean 'train.epochs'?"
    assert unknown_key(Recipe, "prompt.zzz") == "unknown key 'prompt.zzz'; known here: prefix, training_prefixes"
    assert unknown_key(Recipe, "nowhere.zzz") == "unknown key 'nowhere.zzz'; known here: none"


def test_a_folder_is_not_a_toml_file(tmp_path: Path) -> None:
    """A folder in place of a file is an error that names it."""
    with pytest.raises(RecipeError, match=r"recipe .* is a folder"):
        read_toml(tmp_path, what="recipe")
