"""Scenes behind HTTP: read by ranges, and what was read is in the provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.shutil import copy

import rscap
from ranges import served
from scene_files import Echo, noise, write_raster


def test_a_remote_scene_is_read_by_ranges(tmp_path: Path) -> None:
    """The same captions as of the local file; the bytes in the provenance are those that the server sent, little more
    than the blocks under the windows; of a part of the scene a part of the file is read."""
    (tmp_path / "web").mkdir()
    flat = write_raster(tmp_path / "flat.tif", np.kron(noise(3, 128, 128), np.ones((1, 8, 8), dtype="uint8")))
    cog = tmp_path / "web" / "cog.tif"
    copy(flat, cog, driver="COG", BLOCKSIZE=256, COMPRESS="DEFLATE")
    local = rscap.caption_scene(cog, Echo(), tmp_path / "local", window=256, progress=False)
    with served(tmp_path / "web") as server, rasterio.Env():
        url = server.url("cog.tif")
        remote = rscap.caption_scene(url, Echo(), tmp_path / "remote", window=256, progress=False)
        whole = server.sent
        gone = rscap.caption_scene(server.url("gone.tif"), Echo(), tmp_path / "gone", progress=False)
    captions = [
        [json.loads(line)["properties"]["caption"] for line in (out / "captions.geojsonl").read_text().splitlines()]
        for out in (local.out, remote.out)
    ]
    assert captions[0] == captions[1]
    facts = json.loads((tmp_path / "remote" / "provenance.json").read_text())["scenes"][url]
    assert facts["digest"].startswith("etag:")
    assert 0 < facts["bytes_needed"] <= facts["bytes_read"] <= whole <= 1.5 * facts["bytes_needed"] + 65_536
    assert "is the address right" in gone.complaints[server.url("gone.tif")]
