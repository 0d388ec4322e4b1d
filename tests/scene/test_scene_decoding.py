"""Scenes captioned by a real model with other ways of decoding: the same captions, however windows are batched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rscap
from rscap.errors import RecipeError
from scene_files import noise, write_raster

WAYS = {
    "beams": ["generate.beams=3"],
    "consensus": ['generate.choose="consensus"', "generate.samples=3", "generate.temperature=0.7"],
}


@pytest.mark.parametrize("way", WAYS)
def test_beams_and_consensus_do_not_depend_on_the_batch(tmp_path: Path, way: str) -> None:
    """Windows asked one by one get the captions of windows asked together; the provenance says how they were decoded,
    and a place with captions of one way is not continued in another."""
    path = write_raster(tmp_path / "scene.tif", noise(3, 64, 150))
    found = []
    for size in (1, 8):
        out = tmp_path / f"{way}-{size}.geojsonl"
        changes = [*WAYS[way], f"generate.batch_size={size}"]
        result = rscap.caption_scene(path, "nano", out, window=64, device="cpu", progress=False, changes=changes)
        assert result.captioned == 3
        found.append(out.read_bytes())
    assert found[0] == found[1]
    asked = json.loads((tmp_path / f"{way}-8.geojsonl.rscap" / "provenance.json").read_text())["asked"]
    assert asked["model"]["generate"]["beams" if way == "beams" else "choose"] == (3 if way == "beams" else "consensus")
    with pytest.raises(rscap.errors.StoreError, match="asked for otherwise"):
        rscap.caption_scene(path, "nano", tmp_path / f"{way}-8.geojsonl", window=64, progress=False)


def test_decoding_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """Before anything is read or written."""
    path = write_raster(tmp_path / "scene.tif", noise(3, 64, 64))
    with pytest.raises(RecipeError, match=r"generate\.beams"):
        rscap.caption_scene(path, "nano", tmp_path / "out", progress=False, changes=["generate.beam=3"])
    assert not (tmp_path / "out").exists()
