"""Scenes behind HTTP: read by ranges, and what was read is in the provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

import rscap
from ranges import served
from rscap.errors import SceneError
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


def test_a_scene_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`s3://` and `/vsis3/` of a server that speaks enough of S3: the local file's captions, a digest of ETag and
    length, an error for what is not there, and nothing secret in any file that is written."""
    (tmp_path / "web" / "bucket").mkdir(parents=True)
    bands = np.kron(noise(3, 32, 32), np.ones((1, 8, 8), dtype="uint8"))
    flat = write_raster(tmp_path / "flat.tif", bands)
    copy(flat, tmp_path / "web" / "bucket" / "a b.tif", driver="COG", BLOCKSIZE=128, COMPRESS="DEFLATE")
    names = ["s3://bucket/a b.tif", "/vsis3/bucket/a b.tif", "s3://bucket/gone.tif"]
    with served(tmp_path / "web") as server, rasterio.Env():
        for name, value in {
            "AWS_S3_ENDPOINT": f"127.0.0.1:{server.server_address[1]}",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_NO_SIGN_REQUEST": "YES",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-bucket",
            "GDAL_HTTP_USERPWD": "me:a-secret-of-the-server",
            "GDAL_HTTP_BEARER": "a-secret",
        }.items():
            monkeypatch.setenv(name, value)
        found = rscap.caption_scene(names, Echo(), tmp_path / "out", window=100, progress=False)
    rscap.caption_scene(flat, Echo(), tmp_path / "local.geojsonl", window=100, progress=False)
    assert list(found.complaints) == ["s3://bucket/gone.tif"]
    captions = {name: _captions(tmp_path / "out" / "captions.geojsonl", name) for name in names}
    assert captions[names[0]] == captions[names[1]] == _captions(tmp_path / "local.geojsonl", str(flat))
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text())["scenes"]
    assert facts[names[0]]["digest"].startswith("etag:")
    assert facts[names[0]]["digest"] == facts[names[1]]["digest"]
    assert not any(b"a-secret" in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hidden@example.org/a.tif",
        "https://me:hid/hidden@example.org/a.tif",
        "https://hidden@example.org/a.tif",
        "/vsicurl/https://me:hidden@example.org/a.tif",
        "/vsicurl?max_retry=1&url=https%3A%2F%2Fme%3Ahidden%40example.org%2Fa.tif",
        "https://example.org/a.tif?sv=2024&sig=hidden",
        "https://example.org/a.tif?X-Amz-Signature=hidden",
        "https://example.org/a.tif?access_token=hidden",
    ],
)
def test_an_address_with_a_secret_is_refused(tmp_path: Path, address: str) -> None:
    """It would be in every feature; the error does not repeat it."""
    with pytest.raises(SceneError, match=r"on example\.org holds a (name or a password|signature or key)") as caught:
        rscap.caption_scene(address, Echo(), tmp_path / "out", progress=False)
    assert "hidden" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def _captions(file: Path, scene: str) -> list[str]:
    said = [json.loads(line)["properties"] for line in file.read_text(encoding="utf-8").splitlines()]
    return [one["caption"] for one in said if one["scene"] == scene]
