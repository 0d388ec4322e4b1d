"""The reference of recipes: every key is explained, and page, schema and recipes agree."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from rscap import reference
from rscap.cli import app
from rscap.recipe import read_recipe
from rscap.shipped import names, shipped

ROOT = Path(__file__).parents[2]
RECIPES = names("recipes")


def command(*words: str) -> str:
    result = CliRunner().invoke(app, ["recipe", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_key_has_a_meaning() -> None:
    """No key of a recipe is left without a sentence that says what it is."""
    assert [key.name for key in reference.recipe_keys() if not key.meaning] == []


def test_the_page_is_what_the_code_says() -> None:
    """docs/recipe.md is the output of `rscap recipe keys`."""
    assert (ROOT / "docs/recipe.md").read_text(encoding="utf-8") == command("keys")


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_is_valid_by_the_schema(name: str) -> None:
    """An editor that checks by the schema marks nothing in the recipes that ship."""
    jsonschema.validate(tomllib.loads(shipped(Path(name), "recipes").read_text("utf-8")), json.loads(command("schema")))


@pytest.mark.parametrize(
    "change",
    [{"seeds": 1}, {"train": {"epoch": 2}}, {"train": {"micro_batch": 0}}, {"towers": {"vision_tower": "cold"}}],
)
def test_the_schema_marks_what_rscap_refuses(change: dict[str, object]) -> None:
    """An unknown key, a value out of range and a word that is no choice are marked in an editor too."""
    table = {"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": {}} | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(table, reference.recipe_schema())


@pytest.mark.parametrize("name", RECIPES)
def test_show_prints_a_recipe_that_can_be_used(name: str, tmp_path: Path) -> None:
    """What `recipe show` prints, with and without defaults, is the same recipe."""
    for words in (("show", name), ("show", name, "--full")):
        file = tmp_path / "recipe.toml"
        file.write_text(command(*words), encoding="utf-8")
        assert read_recipe(file) == read_recipe(name)


def test_list_names_every_recipe_with_its_purpose() -> None:
    """One line a recipe: its name, then what it is for."""
    lines = command("list").splitlines()
    assert [line.split()[0] for line in lines] == RECIPES
    assert all(len(line.split()) > 5 for line in lines)
