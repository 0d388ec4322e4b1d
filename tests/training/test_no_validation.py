"""Data without validation images: what would be judged by them is refused, and what would look at them says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recipes import small_recipe
from rscap.data import open_source
from rscap.doctor import diagnose
from rscap.errors import RecipeError
from rscap.recipe import Recipe, dump_recipe
from rscap.store import read_jsonl
from rscap.training.examples import check_validation
from rscap.training.session import train


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    """Four training images and one test image of noise."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = ["source,split,image,caption_1"]
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        rows.append(f"T,{'train' if number < 4 else 'test'},{number}.png,a plane of kind {number} .")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def recipe(data: Path, **sections: Any) -> Recipe:
    """Two steps of nano, with validation images asked for after each."""
    train = {"max_steps": 2, "micro_batch": 2, "evaluate_every": 1}
    return small_recipe({"data": {"source": str(data)}, "train": train}, sections)


def test_selecting_by_nothing_is_refused_before_the_model_is_loaded(two_splits: Path, tmp_path: Path) -> None:
    """The error names the section and the way out, no folder is made, and the doctor knows it beforehand."""
    made = recipe(two_splits, selection={"patience": 2})
    with pytest.raises(RecipeError, match=r"\[selection\]") as caught:
        train(made, tmp_path / "run", say=lambda _: None)
    assert "`val`" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
    (tmp_path / "recipe.toml").write_text(dump_recipe(made), encoding="utf-8")
    (finding,) = diagnose(tmp_path / "recipe.toml").findings
    assert finding.code == "cannot-start"
    assert "validation" in finding.evidence


def test_a_run_that_was_begun_all_the_same_goes_on(two_splits: Path) -> None:
    """Earlier versions began it: it says that nothing is evaluated, for its recipe cannot be changed any more."""
    said: list[str] = []
    source = open_source(str(two_splits))
    check_validation(recipe(two_splits, selection={"patience": 2}), source, said.append, resumes=True)
    assert "no validation images" in said[0]


def test_a_run_that_would_look_at_none_says_so(two_splits: Path, tmp_path: Path) -> None:
    """`evaluate_every` alone is no reason to stop."""
    said: list[str] = []
    run = train(recipe(two_splits), tmp_path / "run", say=said.append)
    assert any("no validation images" in line for line in said)
    assert {row["event"] for row in read_jsonl(run.train_log)} == {"step"}
