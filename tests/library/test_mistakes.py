"""What a person may easily hand in by mistake is refused with the way out, and never read in another way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rscap
from rscap.data import Source, opened
from rscap.errors import DataError, ExportError, RecipeError, ScoreError, StoreError
from rscap.records import Example, Picture, Prediction
from rscap.store import Journal, RunFolder, read_json, read_jsonl

FROZEN = Path(__file__).parents[1] / "frozen" / "v01"
REFERENCES = {"a": ["two planes"], "b": ["a river"]}
CANDIDATES = {"a": "two planes", "b": "a river"}


def example(**fields: Any) -> Example:
    """An example of one caption."""
    known = {"id": "e", "captions": ("a field",), "image": opened(b""), "split": "test", "source": "s"}
    return Example(**{**known, **fields})


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: rscap.score(["two planes"], REFERENCES), "item 0 is of type str, not Prediction"),  # type: ignore[list-item]
        (lambda: rscap.score(CANDIDATES, ["two planes"]), "item 0 is of type str, not Example"),  # type: ignore[list-item]
        (lambda: rscap.score(3, REFERENCES), "type int holds no captions"),  # type: ignore[arg-type]
        (lambda: rscap.score(CANDIDATES, REFERENCES, metrics="CIDEr"), "metrics is a list"),
        (lambda: rscap.score(CANDIDATES, REFERENCES, metrics=[]), "metrics is a list"),
    ],
    ids=["captions", "references", "number", "one metric", "no metric"],
)
def test_what_holds_no_captions_is_not_scored(ask: Callable[[], Any], says: str) -> None:
    """Nor are items of another kind left out in silence."""
    with pytest.raises(ScoreError, match=says) as caught:
        ask()
    assert caught.value.hint


def test_every_system_of_a_comparison_takes_part() -> None:
    """A list without a sheet, and a replicate whose name is another system's, are no systems that vanish."""
    mine = FROZEN / "evaluation"
    theirs = mine / "baselines" / "nearest" / "scores" / "test.json"
    with pytest.raises(ScoreError, match="'a' has no score sheet"):
        rscap.compare({"a": [], "b": mine, "c": theirs})
    with pytest.raises(ScoreError, match="'a 1' names a system and a replicate"):
        rscap.compare({"a 1": mine, "a": [theirs, mine]})
    with pytest.raises(ScoreError, match="names none"):
        rscap.compare([mine, theirs])  # type: ignore[arg-type]
    given: Iterator[Path] = iter([mine])
    found = rscap.compare({"a": given, "b": theirs}, draws=100)  # type: ignore[dict-item]
    assert [system.replicates for system in found.systems] == [1, 1]


def test_a_list_of_overrides_is_refused() -> None:
    """Overrides follow the recipe one by one."""
    with pytest.raises(RecipeError, match="is no string"):
        rscap.read_recipe("risc-fast", ["seed=3"])  # type: ignore[arg-type]


def test_settings_that_contradict_each_other_are_not_called_a_recipe() -> None:
    """The line says what contradicts what, under the name of what was asked for."""
    from rscap.recipe import GenerateSection, with_decoding

    with pytest.raises(RecipeError, match=r"decode settings .*\n  - beams = 3 searches"):
        with_decoding(GenerateSection(), {"beams": 3, "temperature": 1.0})


def test_an_opened_source_is_not_taken_for_one_opened_otherwise(tmp_path: Path) -> None:
    """A split scheme or a normalisation named beside an opened source is refused where the source has another."""
    source = rscap.open_data([example()])
    assert rscap.open_data(source) is source
    with pytest.raises(DataError, match="splits='official', not with splits='grouped'"):
        rscap.open_data(source, splits="grouped")
    with pytest.raises(DataError, match="normalise"):
        rscap.open_data(source, normalise=["lower"])
    with pytest.raises(DataError, match="splits='official'"):
        rscap.evaluate("nano", source, splits="grouped", out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_run_says_how_its_source_was_split(tmp_path: Path) -> None:
    """The recipe in the run folder names the scheme and the normalisation that the source was opened with."""
    examples = rscap.open_data("sample").examples[::24]
    source: Source = rscap.open_data(examples, splits="grouped", normalise=["lower"])
    table = {"data": {"source": "sample"}, "model": {"base": "nano", "dtype": "float32"}, "adapter": {"rank": 2}}
    recipe = rscap.read_recipe(table, "train.max_steps=1", "train.micro_batch=2")
    run = rscap.train(recipe, tmp_path / "run", data=source, progress=False)
    written = rscap.read_recipe(run.recipe_file).data
    assert (written.source, written.splits, written.normalise) == (source.name, "grouped", ("lower",))
    assert rscap.train(run, data=source, resume=True, progress=False) == run


@pytest.mark.parametrize("field", ["split", "source"])
def test_an_example_without_a_split_says_so_with_a_string(field: str) -> None:
    """None is no name of a split."""
    with pytest.raises(DataError, match=f"{field} of example 'e' is None"):
        rscap.open_data([example(**{field: None})])


def test_the_image_of_a_picture_may_be_a_path(tmp_path: Path) -> None:
    """A picture or an example written by hand is captioned under its own id, or leaves the reason there."""
    path = tmp_path / "a.png"
    rscap.open_data("sample").examples[0].image.load().save(path)
    with rscap.load("nano", device="cpu", dtype="float32") as model:
        found, broken = model.caption(
            [Picture(id="mine", image=str(path)), example(image=3)],  # type: ignore[arg-type]
            errors="keep",
            max_new_tokens=2,
        )
    assert isinstance(found, Prediction)
    assert found.example_id == "mine"
    assert broken.row == "e"  # type: ignore[union-attr]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_no_image_does_not_mean_all(limit: int, tmp_path: Path) -> None:
    """Nothing is captioned, and no folder is made."""
    with pytest.raises(RecipeError, match="leaves none"):
        rscap.evaluate("nano", "sample", limit=limit, out=tmp_path / "out", progress=False)
    with pytest.raises(RecipeError, match="max_rejected_share"):
        rscap.evaluate("nano", "sample", max_rejected_share=2.0, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"form": "onnx"}, {"dtype": "fp16"}])
def test_an_export_in_an_unknown_form_is_refused_before_a_model_is_loaded(wrong: Any, tmp_path: Path) -> None:
    """The error names those that there are."""
    with pytest.raises(ExportError, match="there is no") as caught:
        rscap.export(FROZEN / "run", tmp_path / "out", progress=False, **wrong)
    assert "one of" in str(caught.value.hint)


def test_overrides_beside_a_run_are_not_ignored() -> None:
    """A run that is over cannot be changed; a recipe can."""
    with pytest.raises(RecipeError, match="overrides change a recipe"):
        rscap.diagnose(FROZEN / "run", "seed=3", probe=False)


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000], ids=["nested", "digits"])
def test_json_that_python_cannot_hold_is_damage(content: str, tmp_path: Path) -> None:
    """Nesting beyond Python's recursion limit, a number beyond its digits: an error that names the file."""
    path = tmp_path / "some.json"
    path.write_text(content)
    for read in (read_json, read_jsonl):
        with pytest.raises(StoreError, match=r"some\.json"):
            read(path)
    assert Journal(path, {"model": "m"}).begin([], batch_size=1) == []


def test_a_folder_in_place_of_a_recipe_is_a_note_of_the_report(tmp_path: Path) -> None:
    """What cannot be read of a run leaves the rest of its page as it is."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(FROZEN / "run", run.path)
    run.recipe_file.unlink()
    run.recipe_file.mkdir()
    page, *_ = rscap.report(run, tmp_path / "page.html", split="val")
    assert "recipe.toml cannot be read" in page.read_text()


@pytest.mark.parametrize("place", ["folder", "file/below.json"])
def test_a_place_where_no_file_can_be_written_is_named(place: str, tmp_path: Path) -> None:
    """A folder of this name, or a file where a folder would be: two lines and no traceback."""
    from rscap.store import write_text

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=f"{place} cannot be written") as caught:
        write_text(tmp_path / place, "{}")
    assert caught.value.hint
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
