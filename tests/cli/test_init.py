"""From a folder of images to a run: `rscap init`, and splits drawn by a ratio."""

from __future__ import annotations

import csv
import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rscap.cli import app
from rscap.data import open_source
from rscap.data.splits import assign_by_ratio, read_ratio
from rscap.errors import DataError
from rscap.recipe import read_recipe

RATIO = (0.8, 0.1, 0.1)


def pictures(folder: Path, count: int) -> None:
    """Images that no two of are alike, in a folder of their own."""
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / "img" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.NEAREST).save(path)


def fill_in(table: Path, *, but: int = 0) -> None:
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    for number, row in enumerate(rows[: len(rows) - but]):
        row["caption_1"] = f"A field of {number} rows ."
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def init(folder: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["init", str(folder), "--out", str(folder.parent), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_images_without_captions_get_a_table_to_fill_in(tmp_path: Path) -> None:
    """The first call writes every image's name with empty cells, says what to fill in, and ends well; so does a second
    call before anything was filled in, which writes nothing."""
    mine = tmp_path / "mine"
    pictures(mine, 12)
    assert "caption_1" in init(mine)
    rows = list(csv.DictReader((mine / "captions.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["image"] for row in rows] == [f"img/{number:03}.png" for number in range(12)]
    assert not any(row["caption_1"] for row in rows)
    before = (mine / "captions.csv").read_bytes()
    assert "Fill in the captions." in init(mine)
    assert (mine / "captions.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_captions_give_a_split_and_a_recipe_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With captions, the recipe is valid, names the frozen split, allows for the rows left out, and opens the data with
    all three splits."""
    monkeypatch.chdir(tmp_path)
    mine = Path("mine")
    pictures(mine, 30)
    init(mine)
    fill_in(mine / "captions.csv", but=2)
    told = init(mine)
    assert "28 images with captions, 2 rows left out" in told
    recipe = read_recipe("mine.toml")
    source = open_source(
        recipe.data.source, split_scheme=recipe.data.splits, max_rejected_share=recipe.data.max_rejected_share
    )
    assert source.splits["train"] == 28 - 3 - 3
    assert source.splits["val"] == source.splits["test"] == 3


@pytest.mark.parametrize("count", [12, 21, 30])
def test_the_recipe_says_how_often_it_evaluates(tmp_path: Path, count: int) -> None:
    """The number in the comment is how many multiples of `evaluate_every`, the last step among them, the run has."""
    mine = tmp_path / "mine"
    pictures(mine, count)
    init(mine)
    fill_in(mine / "captions.csv")
    told = init(mine)
    recipe = read_recipe(tmp_path / "mine.toml")
    train = int(told.partition("train ")[2].partition(",")[0])
    steps = math.ceil(train / recipe.train.micro_batch) * recipe.train.epochs
    times = math.ceil(steps / recipe.train.evaluate_every)
    assert f"# {times} times in {steps:,.0f} steps" in (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert times <= 6


def test_commands_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is on one line however narrow the screen is, a shell reads the paths out of it, and the recipe opens."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(tmp_path)
    mine = Path('my "best" images; of $HOME & the O\'Neill farm')
    pictures(mine, 30)
    assert commands(init(mine)) == [["rscap", "init", str(mine)]]
    fill_in(mine / "captions.csv")
    recipe = f"{mine}.toml"
    assert commands(init(mine)) == [
        ["rscap", "data", "audit", str(mine)],
        ["rscap", "doctor", recipe],
        ["rscap", "train", recipe, "--out", f"runs/{mine}"],
    ]
    assert read_recipe(recipe).data.source == str(mine)
    assert open_source(str(mine), split_scheme=read_recipe(recipe).data.splits).splits["train"] == 24


def commands(told: str) -> list[list[str]]:
    """The words that a shell makes of each line with a command."""
    lines = [line.removeprefix("next:").strip() for line in told.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("rscap ")]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A recipe that is there stays, and the error names it."""
    mine = tmp_path / "mine"
    pictures(mine, 30)
    init(mine)
    fill_in(mine / "captions.csv")
    init(mine)
    before = {path: path.read_bytes() for path in tmp_path.glob("mine.*")}
    result = CliRunner().invoke(app, ["init", str(mine), "--out", str(tmp_path)])
    assert isinstance(result.exception, DataError)
    assert "mine.toml exists" in str(result.exception)
    assert {path: path.read_bytes() for path in tmp_path.glob("mine.*")} == before


def test_splits_that_the_data_name_are_kept(tmp_path: Path) -> None:
    """Where a table names train, val and test, no other split is drawn."""
    mine = tmp_path / "mine"
    pictures(mine, 9)
    lines = ["split,image,caption_1"]
    lines += [f"{('train', 'val', 'test')[n % 3]},img/{n:03}.png,A field of {n} rows ." for n in range(9)]
    (mine / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "split of the data set itself: train 3, val 3, test 3" in init(mine)
    assert not (tmp_path / "mine.splits.json").exists()
    assert read_recipe(tmp_path / "mine.toml").data.splits == "official"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("google/paligemma-3b-pt-224", "caption en"),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "Describe this aerial image in one sentence."),
    ],
)
def test_a_real_model_is_adapted_and_not_trained_whole(tmp_path: Path, base: str, words: str) -> None:
    """A recipe for a real base trains adapters on a frozen model, which is asked with the words of its family."""
    mine = tmp_path / "mine"
    pictures(mine, 20)
    init(mine)
    fill_in(mine / "captions.csv")
    init(mine, "--base", base)
    recipe = read_recipe(tmp_path / "mine.toml")
    assert recipe.model.base == base
    assert recipe.towers.in_state("trained") == []
    assert recipe.prompt.prefix == words


@pytest.mark.parametrize(
    ("ratio", "wanted"), [("80/10/10", (80, 10, 10)), (".6/.2/.2", (60, 20, 20)), ("90/10/0", (90, 10, 0))]
)
def test_a_ratio_is_met(tmp_path: Path, ratio: str, wanted: tuple[int, int, int]) -> None:
    """Where no two images are alike, the counts are the ratio's; another seed draws another split of the same size."""
    pictures(tmp_path, 100)
    rows = "".join(f"img/{n:03}.png,A field of {n} rows .\n" for n in range(100))
    (tmp_path / "captions.csv").write_text("image,caption_1\n" + rows, encoding="utf-8")
    examples = open_source(tmp_path).examples
    drawn = [assign_by_ratio(examples, read_ratio(ratio), seed=seed)[0] for seed in (0, 1)]
    for split in drawn:
        assert tuple(sum(one.split == name for one in split) for name in ("train", "val", "test")) == wanted
    assert drawn[0] != drawn[1]


def test_duplicates_and_published_test_images_stay_together(tmp_path: Path) -> None:
    """A copy of an image is on its side, and an image that the source calls test is never trained on."""
    pictures(tmp_path, 40)
    for number in range(0, 40, 4):
        (tmp_path / "img" / f"{number + 1:03}.png").write_bytes((tmp_path / "img" / f"{number:03}.png").read_bytes())
    rows = "".join(f"{'test' if n % 10 == 7 else 'train'},img/{n:03}.png,A field of {n} rows .\n" for n in range(40))
    (tmp_path / "captions.csv").write_text("split,image,caption_1\n" + rows, encoding="utf-8")
    examples = open_source(tmp_path).examples
    split = {one.id: one.split for one in assign_by_ratio(examples, RATIO)[0]}
    assert all(split[f"img/{n:03}.png"] == split[f"img/{n + 1:03}.png"] for n in range(0, 40, 4))
    assert all(split[one.id] == "test" for one in examples if one.split == "test")


@pytest.mark.parametrize("ratio", ["80/20", "80/10/20", "a/b/c", "0/50/50", "-80/90/90", ""])
def test_what_is_no_ratio_is_refused(ratio: str) -> None:
    """Three numbers that sum to 100 or 1, the first above 0; anything else is told with an example."""
    with pytest.raises(DataError, match="ratio"):
        read_ratio(ratio)


def test_data_split_draws_what_its_hint_promises(tmp_path: Path) -> None:
    """A table without splits: the plain command refuses and names --ratio, which then writes train, val and test."""
    pictures(tmp_path / "mine", 20)
    rows = "".join(f"img/{n:03}.png,A field of {n} rows .\n" for n in range(20))
    (tmp_path / "mine/captions.csv").write_text("image,caption_1\n" + rows, encoding="utf-8")
    words = ["data", "split", str(tmp_path / "mine"), "--out", str(tmp_path / "splits.json")]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, DataError)
    assert "--ratio" in str(refused.exception.hint)
    assert CliRunner().invoke(app, [*words, "--ratio", "70/15/15"]).exit_code == 0
    counts = {name: len(ids) for name, ids in json.loads((tmp_path / "splits.json").read_text())["splits"].items()}
    assert counts == {"train": 14, "val": 3, "test": 3}
