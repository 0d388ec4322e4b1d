"""Small pictures of the evaluated images: small, bounded, and without those that cannot be decoded."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rscap.data import open_source
from rscap.data.images import FileImage
from rscap.errors import StoreError
from rscap.store import read_thumbnails, thumbnail_side, thumbnails, write_thumbnails


def test_every_image_has_its_picture(tmp_path: Path) -> None:
    """In the order of the examples, in the proportions of the image; one that is no image has none."""
    examples = open_source("sample").subset("test", 4, 0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (400, 100), "teal").save(tmp_path / "wide.png")
    broken = replace(examples[1], image=FileImage(tmp_path / "broken.png"))
    wide = replace(examples[2], image=FileImage(tmp_path / "wide.png"))
    write_thumbnails(tmp_path / "t.jsonl", [examples[0], broken, wide, examples[3]])
    found = read_thumbnails(tmp_path / "t.jsonl")
    assert list(found) == [examples[0].id, wide.id, examples[3].id]
    with Image.open(io.BytesIO(base64.b64decode(found[wide.id]))) as image:
        assert (image.format, image.size) == ("JPEG", (224, 56))


def test_more_images_have_smaller_pictures() -> None:
    """A page of thousands of images stays one that can be sent."""
    sides = [thumbnail_side(images) for images in (1, 200, 201, 1_000, 4_454, 44_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[-1]


def test_a_file_of_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit images have no picture, whatever they look like."""
    examples = open_source("sample").subset("test", 6, 0)
    write_thumbnails(tmp_path / "all.jsonl", examples)
    sizes = [len(base64.b64decode(one)) for one in read_thumbnails(tmp_path / "all.jsonl").values()]
    monkeypatch.setattr(thumbnails, "MOST_BYTES", sum(sizes[:3]))
    write_thumbnails(tmp_path / "few.jsonl", examples)
    assert list(read_thumbnails(tmp_path / "few.jsonl")) == [one.id for one in examples[:3]]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """With its number."""
    (tmp_path / "t.jsonl").write_text('{"id": "a", "jpeg": ""}\n{"id": 3}\n', encoding="utf-8")
    with pytest.raises(StoreError, match="line 2"):
        read_thumbnails(tmp_path / "t.jsonl")
