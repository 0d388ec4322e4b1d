"""The constant-caption baseline."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rscap import baselines
from rscap.baselines import constant, constant_caption
from rscap.errors import DataError
from rscap.records import Example


class Nothing:
    """An image that nobody may look at."""

    name = "nothing"

    def load(self) -> Image.Image:
        raise AssertionError("the constant caption must not look at images")


def example(name: str, *captions: str) -> Example:
    return Example(id=name, captions=captions, image=Nothing(), split="train", source="made")


def some_examples(seed: int, count: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    nouns, places = ["plane", "boat", "tree", "house", "car", "pond"], ["field", "port", "street", "desert"]

    def caption() -> str:
        number = ["a", "two", "many"][rng.integers(3)]
        return f"{number} {nouns[min(rng.integers(6), rng.integers(6))]} in the {places[rng.integers(4)]} ."

    return [example(f"e{index}", *[caption() for _ in range(5)]) for index in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_constant_is_the_best_caption_by_the_reference_cider(seed: int) -> None:
    """Among all training captions, pycocoevalcap's CIDEr is highest for the one chosen (up to equal scores)."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    train = some_examples(seed, 25)
    references = {one.id: [caption.removesuffix(" .") for caption in one.captions] for one in train}

    def score(caption: str) -> float:
        return float(cider.compute_score(references, {one.id: [caption.removesuffix(" .")] for one in train})[0])

    best = max(score(caption) for caption in {caption for one in train for caption in one.captions})
    assert score(constant_caption(train)) == pytest.approx(best, rel=1e-6)


def test_constant_does_not_depend_on_order() -> None:
    """Shuffled training examples give the same sentence."""
    train = some_examples(1, 40)
    shuffled = [train[index] for index in np.random.default_rng(0).permutation(len(train))]
    assert constant_caption(shuffled) == constant_caption(train)


def test_large_training_sets_are_subsampled_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond POOL_IMAGES the pool is a fixed subset: the same for any order, and its captions alone are candidates."""
    train = some_examples(2, 60)
    monkeypatch.setattr(baselines, "POOL_IMAGES", 10)
    chosen = constant_caption(train)
    assert chosen == constant_caption(train[::-1])
    pool = {one.id for one in baselines._pool(train)}
    assert len(pool) == 10
    assert any(chosen in one.captions for one in train if one.id in pool)


def test_constant_is_said_of_every_image() -> None:
    """One prediction an image, with the word count as tokens."""
    train = [example("a", "a red barn ."), example("b", "a red barn ."), example("c", "the sea .")]
    found = constant(train, [example("t1", "x"), example("t2", "y")])
    assert [(one.example_id, one.caption, one.tokens, one.prefix, one.stopped) for one in found] == [
        ("t1", "a red barn .", 4, "", "eos"),
        ("t2", "a red barn .", 4, "", "eos"),
    ]


def test_odd_captions_do_not_matter() -> None:
    """Captions without a word, of one word or in another script are scored like any other."""
    train = [example("a", ".", "", "море ."), example("b", "море .", "море"), example("c", "plane", "\n|||")]
    assert constant_caption(train) in {caption for one in train for caption in one.captions}


def test_no_training_example_is_an_error() -> None:
    """An empty training split is named as the reason."""
    with pytest.raises(DataError, match="there are none"):
        constant_caption([])


def test_constant_reaches_the_known_score_on_real_captions(real_data: Path) -> None:
    """On the 900 test images of the RISC excerpt the constant scores CIDEr .304, the best known of any sentence."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    train, references = [], {}
    with (real_data / "risc-mini" / "captions.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            captions = [row[f"caption_{number}"] for number in range(1, 6)]
            if row["split"] == "train":
                train.append(example(row["image"], *captions))
            elif row["split"] == "test":
                references[row["image"]] = [" ".join(baselines._words(caption)) for caption in captions]
    said = " ".join(baselines._words(constant_caption(train)))
    score = float(cider.compute_score(references, {name: [said] for name in references})[0])
    assert score == pytest.approx(0.304, abs=0.002)
