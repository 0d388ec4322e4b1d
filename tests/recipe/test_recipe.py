"""Recipes are read strictly: every key is known, every value checked, every shipped file parses."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from checkout import ROOT
from rscap.errors import RecipeError
from rscap.recipe import Recipe, dump_recipe, parse_recipe, read_recipe
from rscap.tables import differences

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
MINIMAL = {"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": {}}


def test_there_are_recipes() -> None:
    """The collector below finds the shipped recipes."""
    names = {path.stem for path in RECIPES}
    assert names >= {
        "risc-qlora", "risc-lora-r32", "risc-lora-r8", "risc-lora-r4-ko", "risc-fast", "risc-mini-nano"
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    """A shipped recipe is valid, and what the run folder keeps of it reads back as the same recipe."""
    recipe = read_recipe(path)
    copy = tmp_path / "recipe.toml"
    copy.write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_recipe(copy) == recipe


def test_prior_work_b_is_rebuilt_figure_by_figure() -> None:
    """risc-qlora.toml is B's main run: NF4, rank 16, alpha 32, dropout .05, rsLoRA, LoRA+ 16, 1e-4, 4 x 4."""
    recipe = read_recipe(next(path for path in RECIPES if path.stem == "risc-qlora"))
    assert recipe.adapter is not None
    assert (recipe.adapter.rank, recipe.adapter.alpha, recipe.adapter.dropout) == (16, 32.0, 0.05)
    assert (recipe.adapter.rank_stabilised, recipe.adapter.lora_plus_ratio) == (True, 16.0)
    assert (recipe.model.quantisation, recipe.model.dtype) == ("nf4", "bfloat16")
    train = recipe.train
    assert (train.learning_rate, train.weight_decay, train.warmup_share, train.epochs) == (1e-4, 1e-6, 0.03, 1.0)
    assert (train.micro_batch, train.accumulation, train.gradient_checkpointing) == (4, 4, True)
    assert (recipe.data.captions, recipe.prompt.prefix, recipe.generate.max_new_tokens) == ("random", "caption en", 64)
    assert recipe.towers.in_state("adapted") == ["language_model"]


def test_prior_work_b_is_rebuilt_to_the_module() -> None:
    """risc-b-exact.toml is risc-qlora.toml but for the vision tower, whose q, k and v learn and which is quantised too,
    and for evaluations on the way. Its test images are those that B scored."""
    exact, frozen = read_recipe("risc-b-exact"), read_recipe("risc-qlora")
    changed = differences(frozen.model_dump(mode="json"), exact.model_dump(mode="json"))
    assert set(changed) == {
        "data.splits", "data.workers", "model.quantise", "towers.vision_tower", "adapter.vision_targets",
        "train.evaluate_every", "generate.batch_size",
    }  # fmt: skip
    assert exact.data.splits == "seed42-test-500"
    assert exact.adapter is not None
    assert exact.adapter.vision_targets == ("q_proj", "k_proj", "v_proj")
    assert exact.model.quantise == ("vision_tower", "projector", "language_model")


@pytest.mark.parametrize(
    ("section", "key", "near"),
    [("adapter", "rnak", "rank"), ("train", "learning_rat", "learning_rate"), ("data", "captons", "captions")],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(section: str, key: str, near: str) -> None:
    """A misspelt key is refused and the message says what was probably meant."""
    table = {**MINIMAL, section: {**MINIMAL.get(section, {}), key: 3}}
    with pytest.raises(RecipeError, match=rf"unknown key '{section}.{key}'; did you mean '{section}.{near}'"):
        parse_recipe(table)


def test_all_problems_are_told_at_once() -> None:
    """Two mistakes give two lines, so that nobody mends a recipe one run at a time."""
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**MINIMAL, "train": {"learning_rate": -1}, "prompt": {"prefx": "x"}})
    assert "train.learning_rate" in caught.value.message
    assert "prompt.prefx" in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"towers": {"language_model": "frozen"}, "adapter": {}}, "nothing would be adapted"),
        ({"towers": {"projector": "adapted"}}, "one matrix"),
        ({"towers": {"vision_tower": "adapted", "language_model": "trained"}}, "not 'trained'"),
        ({"model": {"base": "x", "quantisation": "nf4", "quantise": ["projector"]}, "towers": {"projector": "trained"}},
         "both 'trained' and quantised"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(change: dict, message: str) -> None:
    """A recipe that asks for two things that exclude each other says which."""
    with pytest.raises(RecipeError, match=message):
        parse_recipe({**MINIMAL, **change})


def test_a_wrong_entry_is_no_short_list() -> None:
    """A list whose only entry is wrong is told for the entry; an empty one for its length."""
    table = {"data": {"source": "sample"}, "adapter": {}}
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**table, "model": {"base": "nano", "quantise": ["vision"]}})
    assert "model.quantise.0" in str(caught.value)
    assert "at least 1" not in str(caught.value)
    with pytest.raises(RecipeError, match="at least 1"):
        parse_recipe({**table, "model": {"base": "nano", "quantise": []}})


def test_no_adapter_section_and_adapted_tower_is_refused() -> None:
    """An adapted tower without [adapter] is not filled in with defaults."""
    with pytest.raises(RecipeError, match=r"no \[adapter\] section"):
        parse_recipe({"data": {"source": "sample"}, "model": {"base": "nano"}})


def test_overrides_are_toml_values_or_bare_words(tmp_path: Path) -> None:
    """--set takes numbers, lists, booleans and bare strings, into sections that exist or not."""
    path = tmp_path / "r.toml"
    path.write_text('[data]\nsource = "sample"\n[model]\nbase = "nano"\n[adapter]\n', encoding="utf-8")
    recipe = read_recipe(
        path,
        [
            "train.epochs=2",
            "adapter.rank_stabilised=true",
            'adapter.language_targets=["q_proj"]',
            "data.captions=cycle",
        ],
    )
    assert recipe.adapter is not None
    assert (recipe.train.epochs, recipe.adapter.rank_stabilised) == (2.0, True)
    assert (recipe.adapter.language_targets, recipe.data.captions) == (("q_proj",), "cycle")
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        read_recipe(path, ["train.epochs"])
    with pytest.raises(RecipeError, match=r"did you mean 'train\.epochs'"):
        read_recipe(path, ["train.epoch=3"])


def test_a_recipe_is_a_name_a_path_or_a_table(tmp_path: Path) -> None:
    """A shipped name, a path as str or Path, and a table of Python give the same recipe; overrides apply to each."""
    path = tmp_path / "r.toml"
    path.write_text('[data]\nsource = "sample"\n[model]\nbase = "nano"\n[adapter]\n', encoding="utf-8")
    table = {"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": {}}
    assert read_recipe(path) == read_recipe(str(path)) == read_recipe(table)
    assert read_recipe("risc-fast", ["seed=5"]) == read_recipe(Path("risc-fast"), ["seed=5"])
    assert read_recipe(table, ["train.epochs=2"]).train.epochs == 2.0
    assert table == {"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": {}}


def test_a_table_of_python_takes_paths_and_any_mapping(tmp_path: Path) -> None:
    """A Path becomes the string that TOML would hold, and a read-only mapping is a table like any other."""
    table = MappingProxyType({**MINIMAL, "data": MappingProxyType({"source": tmp_path})})
    assert read_recipe(table).data.source == str(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"data": {"source": "sample"}, "model": {"base": "nano"}}, r"no \[adapter\] section; add one"),
        ({"data": {"source": "sample"}, "model": {"base": "nano"}, "adapter": None}, r"no \[adapter\] section"),
        ({}, "data: Field required"),
        ({**MINIMAL, "data": 3}, "data: .*given: 3"),
        ({**MINIMAL, 7: 3}, "7"),
        ({**MINIMAL, "adapter": {"method": ["lora"]}}, "adapter.method"),
        ({**MINIMAL, "adapter": {"rank": "many"}}, "adapter.rank"),
    ],
)
def test_a_wrong_table_is_a_recipe_error(table: dict, message: str) -> None:
    """Whatever is wrong with a table of Python, the error is a RecipeError that names the key."""
    with pytest.raises(RecipeError, match=message):
        read_recipe(table)


def test_a_table_without_adapters_needs_no_adapter_section() -> None:
    """Full fine-tuning of a tower is a recipe without [adapter]."""
    table = {"data": {"source": "sample"}, "model": {"base": "nano"}, "towers": {"language_model": "trained"}}
    assert read_recipe(table).adapter is None


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), (b"\xff\xfe", "not UTF-8"), (b"a = [", "not TOML")]
)
def test_an_unreadable_recipe_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing, non-UTF-8 or malformed file is an error that names it."""
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"broken.toml.*{message}"):
        read_recipe(path)


@pytest.mark.torch
def test_defaults_stand_in_one_place() -> None:
    """The quickstart recipe in the package is a recipe like any other."""
    from rscap.quickstart import quickstart_recipe

    assert isinstance(quickstart_recipe(), Recipe)
