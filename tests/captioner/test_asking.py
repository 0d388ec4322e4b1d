"""A captioner is asked in ways that its author did not think of."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rscap
from rscap.captioner import Captioner
from rscap.data import opened
from rscap.errors import DataError, ImageError, ModelError, RecipeError
from rscap.records import Picture, Prediction, Rejected

SHORT = {"max_new_tokens": 2}


@pytest.fixture(scope="module")
def model() -> Iterator[Captioner]:
    """The nano model as it is, in float32."""
    with rscap.load("nano", device="cpu", dtype="float32") as captioner:
        yield captioner


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A file with an image of noise."""
    path = tmp_path / "scene.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_broken_picture_leaves_its_record_in_its_own_place(model: Captioner, scene: Path, batch_size: int) -> None:
    """Also where a good picture before or behind it has the same id, as in two folders put together."""
    broken = scene.with_name("broken.jpg")
    broken.write_bytes(b"not an image")
    pictures = [Picture(id="same", image=opened(path)) for path in (scene, broken, broken, scene, broken)]
    found = model.caption(pictures, errors="keep", batch_size=batch_size, **SHORT)
    assert [type(item) for item in found] == [Prediction, Rejected, Rejected, Prediction, Rejected]


@pytest.mark.parametrize("last", ["a number", "an error of the iterable"])
def test_what_came_before_an_error_is_captioned_first(model: Captioner, scene: Path, last: str) -> None:
    """An object that is no image, or an iterable that fails, takes nothing with it that came before."""

    def images() -> Iterator[Any]:
        yield scene
        yield scene
        if last == "a number":
            yield 3
        raise OSError("the disk is gone")

    coming = model.stream(images(), **SHORT)
    assert [type(next(coming)) for _ in range(2)] == [Prediction, Prediction]
    with pytest.raises((ImageError, OSError), match=r"type int|disk is gone"):
        next(coming)


@pytest.mark.parametrize("form", ["path", "string", "bytes", "array", "Pillow image"])
def test_a_stream_of_one_image_names_the_way_out(model: Captioner, scene: Path, form: str) -> None:
    """`stream("a.png")` does not caption the files a, ., p, n and g."""
    image = Image.open(scene)
    forms = {"path": scene, "string": str(scene), "bytes": scene.read_bytes(), "array": np.array(image)}
    with pytest.raises(ImageError, match="takes several images") as caught:
        model.stream(forms.get(form, image))  # type: ignore[arg-type]
    assert "caption(image)" in str(caught.value.hint)


def test_an_open_file_a_mapping_and_a_table_are_not_lists_of_images(model: Captioner, scene: Path) -> None:
    """The lines of a file are not images, nor are the keys of a row paths; the hint names what to hand in."""
    for given, hint in (
        (io.BytesIO(scene.read_bytes()), "its bytes"),
        ({"image": str(scene)}, "that it holds"),
        (np.array([[str(scene)]], dtype=object), "uint8"),
        (np.array(str(scene)), "uint8"),
    ):
        with pytest.raises(ImageError, match="is not an image") as caught:
            model.caption(given)
        assert hint in str(caught.value.hint)
    content = memoryview(scene.read_bytes())
    assert model.caption(content, **SHORT).caption == model.caption(scene, **SHORT).caption  # type: ignore[call-overload]


def test_an_image_without_pixels_is_refused(model: Captioner) -> None:
    """As an array without pixels is."""
    with pytest.raises(ImageError, match="0 x 5 pixels"):
        model.caption(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("prefix", [5, ["caption en"]])
def test_a_prefix_that_is_no_string_is_refused(model: Captioner, scene: Path, prefix: Any) -> None:
    """Its representation would be the prompt."""
    with pytest.raises(DataError, match="a prefix is a string"):
        model.caption(scene, prefix=prefix)


@pytest.mark.parametrize("device", ["cdua", "cuda:99"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(device: str) -> None:
    """And nothing of torch's inside is shown."""
    with pytest.raises(ModelError, match=f"no device '{device}'") as caught:
        rscap.load("nano", device=device)
    assert "cpu" in str(caught.value.hint)


def test_an_unknown_dtype_is_named_with_those_that_there_are() -> None:
    """`fp16` is what other programs call float16."""
    with pytest.raises(RecipeError, match=r"dtype: .*'float16'.*given: 'fp16'"):
        rscap.load("nano", dtype="fp16")  # type: ignore[arg-type]
