"""Turning an overhead image is a pure draw, leaves its pixels whole, and respects captions that name directions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rscap.data.augment import crop, tells_directions, turn, vary

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
FREE = ("two white planes are near the runway .", "planes on the apron")


def turned(epoch: int, captions: tuple[str, ...] = FREE) -> np.ndarray:
    return np.asarray(turn(IMAGE, captions, seed=0, epoch=epoch, example_id="a"))


def test_turns_are_pure_draws_over_all_eight() -> None:
    """The same (seed, epoch, id) gives the same turn; over many epochs all eight occur, each moving pixels only."""
    seen = {turned(epoch).tobytes() for epoch in range(200)}
    assert len(seen) == 8
    assert (turned(3) == turned(3)).all()
    original = np.sort(np.asarray(IMAGE).reshape(-1))
    assert all((np.sort(turned(epoch).reshape(-1)) == original).all() for epoch in range(20))


@pytest.mark.parametrize(
    "caption",
    ["a lake on the left of the road", "trees in the upper right corner", "the northern part is bare", "Top: a river"],
)
def test_captions_that_name_directions_keep_their_image(caption: str) -> None:
    """One caption among five that says where is enough."""
    assert tells_directions((*FREE, caption))
    assert all((turned(epoch, (*FREE, caption)) == np.asarray(IMAGE)).all() for epoch in range(20))


@pytest.mark.parametrize("caption", ["an upright tower", "a bright roof", "cars stop at the topic", "a lefty"])
def test_words_that_only_contain_a_direction_do_not_count(caption: str) -> None:
    """`bright` is not `right`."""
    assert not tells_directions((caption,))


def test_a_crop_keeps_size_and_most_of_the_picture() -> None:
    """A crop has the image's size, shows a window of it, differs between epochs and is the same for one."""
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3)))
    crops = [np.asarray(crop(ramp, FREE, least=0.75, seed=0, epoch=epoch, example_id="a")) for epoch in range(20)]
    assert all(array.shape == (64, 64, 3) for array in crops)
    assert all(int(array[-1, 0, 0]) - int(array[0, 0, 0]) >= 0.75 * 63 - 2 for array in crops)
    assert len({array.tobytes() for array in crops}) > 10
    again = crop(ramp, FREE, least=0.75, seed=0, epoch=3, example_id="a")
    assert (np.asarray(again) == crops[3]).all()


@pytest.mark.parametrize("change", [vary, turn])
def test_nothing_is_changed_that_captions_speak_of(change) -> None:
    """A caption with a direction and a colour leaves the image as it is."""
    captions = ("a red roof on the left",)
    for epoch in range(10):
        assert (np.asarray(change(IMAGE, captions, seed=0, epoch=epoch, example_id="a")) == np.asarray(IMAGE)).all()
