"""Recolouring reads captions, is a pure function, and stays within its strength (turns: tests/data/test_augment.py)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rscap.data.augment import names_colours, recolour, tells_directions
from rscap.errors import DataError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(60, 190, (16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "caption",
    [
        "a Red roof .",
        "greenish water .",
        "two grey planes",
        "the darker side",
        "colourful houses",
        "a golden dome",
        "bright sand",
    ],
)
def test_a_caption_that_names_a_colour_keeps_the_image(caption: str) -> None:
    """One colour or light word in any caption, and nothing is changed."""
    assert names_colours(["a plane .", caption])
    same = recolour(PICTURE, ["a plane .", caption], strength=0.5, seed=0, epoch=0, example_id="x")
    assert np.array_equal(np.asarray(same), np.asarray(PICTURE))


@pytest.mark.parametrize(
    "caption", ["a highlighted road", "a greenhouse", "blackberries", "a credit building", "browse"]
)
def test_words_that_merely_hold_a_colour_do_not_count(caption: str) -> None:
    """Only whole words name colours."""
    assert not names_colours([caption])


def test_recolouring_is_pure_bounded_and_varied() -> None:
    """The same draw gives the same pixels; epochs differ; the mean moves by no more than the strength allows."""
    means = []
    for epoch in range(20):
        draw = {"strength": 0.2, "seed": 1, "epoch": epoch, "example_id": "x"}
        first, second = (np.asarray(recolour(PICTURE, ["a plane ."], **draw)) for _ in range(2))  # type: ignore[arg-type]
        assert np.array_equal(first, second)
        means.append(first.mean() / np.asarray(PICTURE).mean())
    assert len({round(mean, 6) for mean in means}) > 15
    assert 0.78 < min(means) < 0.95
    assert 1.05 < max(means) < 1.22


@pytest.mark.parametrize("strength", [-0.1, 0.6, float("nan")])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    """A strength out of its range is an error, not a default."""
    with pytest.raises(DataError, match=r"0 to 0\.5"):
        recolour(PICTURE, ["a plane ."], strength=strength, seed=0, epoch=0, example_id="x")


@pytest.mark.parametrize(
    "caption", ["on the left", "the Northern part", "south-west corner", "upper-left", "top right", "horizontally laid"]
)
def test_directions_are_told(caption: str) -> None:
    """Left, right, north, top and their kin are found, in whatever case and compound."""
    assert tells_directions(["a plane .", caption])
