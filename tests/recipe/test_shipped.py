"""Recipes and studies come with the package and are found by name, wherever one works."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from checkout import ROOT
from rscap.ablation.plan import make_plan, write_plan
from rscap.ablation.study import read_study
from rscap.errors import RecipeError
from rscap.recipe import read_recipe
from rscap.shipped import names, shipped
from rscap.store import StudyFolder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without recipes and studies."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", names("recipes"))
def test_a_recipe_is_found_by_its_name(name: str) -> None:
    """As the command line takes it, with its ending, and as the checkout's path."""
    expected = read_recipe(ROOT / "recipes" / f"{name}.toml")
    assert read_recipe(Path(name)) == read_recipe(Path(f"{name}.toml")) == expected
    assert read_recipe(Path(f"recipes/{name}.toml")) == expected


@pytest.mark.parametrize("name", names("studies"))
def test_a_study_is_found_by_its_name_and_finds_its_base(name: str) -> None:
    """The base recipe is named relative to the study, so it is found too."""
    assert make_plan(read_study(Path(name))).rows


def test_a_study_may_name_a_shipped_base(tmp_path: Path) -> None:
    """In an override and in a file, wherever that lies; what is written down goes on without the name."""
    made = read_study(Path("peft"), ["base=risc-fast"])
    write_plan(make_plan(made), made, StudyFolder(tmp_path / "out"))
    assert (tmp_path / "out" / "base.toml").read_bytes() == (ROOT / "recipes" / "risc-fast.toml").read_bytes()
    for folder in (tmp_path, tmp_path / "sub"):
        folder.mkdir(exist_ok=True)
        own = folder / "own.toml"
        axis = '[axes.rank]\n"four" = {"adapter.rank" = 4}\n"eight" = {"adapter.rank" = 8}\n'
        keys = 'name = "own"\nbase = "risc-fast"\nreference = "four"\nseeds = [0]\n[budget]\nsteps = 3\n'
        own.write_text(keys + axis, encoding="utf-8")
        assert len(make_plan(read_study(own)).rows) == 2


def test_ones_own_file_goes_first(tmp_path: Path) -> None:
    """A recipe of one's own is never hidden by a shipped one of the same name."""
    own = tmp_path / "risc-fast.toml"
    own.write_text('[data]\nsource = "sample"\n[model]\nbase = "nano"\n[adapter]\nrank = 3\n', encoding="utf-8")
    recipe = read_recipe(Path("risc-fast.toml"))
    assert recipe.adapter is not None
    assert recipe.adapter.rank == 3


@pytest.mark.parametrize("path", ["mine/risc-fast.toml", "risc-fast.yaml", "../risc-fast", "no-such"])
def test_other_paths_are_what_they_are(path: str) -> None:
    """A folder in front, another ending or an unknown name finds nothing; the error lists what there is."""
    assert shipped(Path(path), "recipes") == Path(path)
    with pytest.raises(RecipeError, match="does not exist") as caught:
        read_recipe(Path(path))
    assert "risc-fast" in str(caught.value.hint)


def test_they_are_data_of_the_package() -> None:
    """pyproject.toml takes every TOML file below the package, and the checkout's folders are the package's."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "**/*.toml" in table["tool"]["setuptools"]["package-data"]["rscap"]
    for kind in ("recipes", "studies"):
        inside = Path(str(files("rscap") / kind))
        assert (ROOT / kind).resolve() == inside.resolve()
