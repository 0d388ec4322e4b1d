"""The nearest-image baseline and its descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rscap.baselines import (
    DESCRIPTOR_SIZE,
    CaptionSpace,
    descriptor,
    nearest_image,
    typical_caption,
)
from rscap.errors import DataError, ImageError
from rscap.records import Example


@dataclass(frozen=True)
class Painted:
    """An image held in memory."""

    name: str
    image: Image.Image | None

    def load(self) -> Image.Image:
        if self.image is None:
            raise ImageError(f"{self.name} cannot be decoded")
        return self.image


def noise(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def example(name: str, image: Image.Image | None, captions: Sequence[str] = ("a field .",)) -> Example:
    return Example(
        id=name, captions=tuple(captions), image=Painted(name, image), split="train", source="made", scene_class=None
    )


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    mode=st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK", "1"]),
    shade=st.integers(0, 255),
)
@settings(max_examples=60, deadline=None)
def test_descriptor_takes_any_image(width: int, height: int, mode: str, shade: int) -> None:
    """Any size and mode, flat and black images included, gives float32[1104] whose parts are of length 1 or 0."""
    found = descriptor(Image.new("L", (width, height), shade).convert(mode))
    assert found.shape == (DESCRIPTOR_SIZE,)
    assert found.dtype == np.float32
    for part in np.split(found, [768, 960]):
        assert np.linalg.norm(part) == pytest.approx(1.0, abs=1e-5) or not part.any()


def test_descriptor_keeps_what_a_picture_shows_when_it_is_resized() -> None:
    """A picture is nearer to itself at half the size than to another picture."""
    gradient = np.add.outer(np.arange(256), np.arange(256)) // 2
    one = Image.fromarray(np.stack([gradient, gradient // 2, 255 - gradient], axis=2).astype(np.uint8))
    other = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(descriptor(one), descriptor(one.resize((128, 128)))) < 0.3 * distance(
        descriptor(one), descriptor(other)
    )


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(one - other))


def test_nearest_finds_the_copy_of_each_image() -> None:
    """Each test image that is a copy of a training image gets that image's caption, in the order of the test images."""
    train = [example(f"train-{seed:02d}", noise(seed), [f"picture {seed} ."]) for seed in range(30)]
    test = [example(f"test-{seed}", noise(seed)) for seed in (7, 29, 0, 7)]
    found = nearest_image(train, test)
    assert [(one.example_id, one.caption) for one in found] == [
        ("test-7", "picture 7 ."),
        ("test-29", "picture 29 ."),
        ("test-0", "picture 0 ."),
        ("test-7", "picture 7 ."),
    ]
    assert {(one.prefix, one.tokens, one.stopped) for one in found} == {("", 3, "eos")}


def test_nearest_does_not_depend_on_the_order_of_training_images() -> None:
    """Of equal training images the one with the smaller id speaks, whatever the order."""
    train = [example(name, noise(seed), [f"it is {name} ."]) for seed in range(12) for name in (f"b{seed}", f"a{seed}")]
    test = [example(f"test-{seed}", noise(seed)) for seed in range(12)]
    found = nearest_image(train, test)
    assert [one.caption for one in found] == [f"it is a{seed} ." for seed in range(12)]
    assert nearest_image(train[::-1], test) == found


def test_nearest_says_the_caption_that_its_siblings_support() -> None:
    """Of five captions the one closest to the others is said, not the first."""
    captions = (
        "something else entirely .",
        "a white plane on the runway .",
        "a white plane stands on the runway .",
        "a plane on the grey runway .",
        "we see a runway .",
    )
    train = [example("one", noise(1), captions), *[example(f"x{seed}", noise(seed)) for seed in range(2, 6)]]
    assert nearest_image(train, [example("test", noise(1))])[0].caption == "a white plane on the runway ."


def test_typical_caption_of_identical_captions_is_the_first() -> None:
    """Five copies of one sentence, a single caption and captions without words are no special cases."""
    space = CaptionSpace.of([example("one", None, ["a b c ."] * 5)])
    assert typical_caption(["a b c ."] * 5, space) == "a b c ."
    assert typical_caption(["only one ."], space) == "only one ."
    assert typical_caption([".", "!", ""], space) == "."


def test_progress_counts_every_image_once() -> None:
    """The progress callable sees 1 … N of N."""
    seen: list[tuple[int, int]] = []
    nearest_image(
        [example(str(seed), noise(seed)) for seed in range(3)],
        [example("t", noise(9))],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_broken_images_take_no_part() -> None:
    """An undecodable training image is nobody's neighbour, a test image has none; without any it is said."""
    found = nearest_image(
        [example("bad", None), example("a", noise(2))], [example("t", noise(1)), example("worse", None)]
    )
    assert [prediction.example_id for prediction in found] == ["t"]
    with pytest.raises(DataError, match="none of the 1 training images"):
        nearest_image([example("bad", None)], [example("t", noise(1))])
    with pytest.raises(DataError, match="there are none"):
        nearest_image([], [example("t", noise(1))])
