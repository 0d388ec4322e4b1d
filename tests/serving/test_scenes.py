"""A GeoTIFF in, GeoJSON out: the captions of its windows with their places."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rscap.sample import sample_examples
from rscap.serving.app import Server
from rscap.serving.models import ServedModels
from rscap.serving.settings import ServeSettings
from served import asked, client_of, png, running

geotiff = pytest.importorskip("rasters", reason="needs the extra `geo`").geotiff


def send(content: bytes, name: str = "north field.tif", **fields: str) -> Any:
    """A call that sends a scene."""
    return lambda client: client.post("/scene", files={"scene": (name, content)}, data=fields)


def test_windows_are_captioned_with_their_places(models: ServedModels) -> None:
    """Two windows: the captions of the two scenes alone, one beside the other, under the name of the file."""
    (answer,) = asked(models, send(geotiff(2, 7), model="nano"), scene_seconds=120)
    assert answer.status_code == 200
    found = answer.json()
    captioner = models["nano"].captioner
    alone = [captioner.caption(sample_examples()[number].image.load()).caption for number in (2, 7)]
    assert [feature["properties"]["caption"] for feature in found["features"]] == alone
    west, east = (min(x for x, _ in feature["geometry"]["coordinates"][0]) for feature in found["features"])
    assert west < east
    assert {feature["properties"]["scene"] for feature in found["features"]} == {"north_field.tif"}
    assert found["rscap"]["run"] == "nano"
    assert "/vsimem" not in answer.text


def test_a_scene_that_takes_long_is_a_job(models: ServedModels) -> None:
    """An address at once, the captions there in the end; another scene of the same client waits its turn."""

    async def work() -> None:
        server = Server(models, ServeSettings(scene_seconds=0.01))
        async with running(server), client_of(server) as client:
            with models.first.captioner._lock:
                begun = await send(geotiff(2), model="nano")(client)
                assert begun.status_code == 202
                assert (await send(geotiff(2))(client)).status_code == 429
            address = begun.headers["Location"]
            assert address == begun.json()["url"]
            while (state := (await client.get(address)).json())["status"] in ("waiting", "working"):
                await asyncio.sleep(0.05)
            assert state["status"] == "finished"
            assert (state["done"], state["windows"], len(state["result"]["features"])) == (1, 1, 1)
            assert (await client.get("/scene/other")).status_code == 404

    asyncio.run(work())


def test_what_is_no_geotiff_is_refused(models: ServedModels) -> None:
    """A VRT that names a file, other formats, broken and huge ones, wrong options: a 400 with one line."""
    vrt = b'<VRTDataset rasterXSize="9" rasterYSize="9"><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>'
    good = geotiff(2)
    calls = [
        send(vrt),
        send(png()),
        send(b"II*\0" + vrt),
        send(good[:200]),
        send(geotiff(2, 3, 4)),
        send(good, window="2"),
        send(good, gsd="x"),
        send(good, crs="+proj=utm"),
        send(good, aoi="/etc/passwd"),
        send(good, bands="9,9,9"),
        send(good, model="other"),
        lambda client: client.post("/scene", files={"image": ("a.tif", good)}),
        lambda client: client.post("/scene", data={"scene": "x"}, files={"x": ("y", b"z")}),
    ]

    async def work() -> list[Any]:
        server = Server(models, ServeSettings(scene_seconds=60, max_scene_pixels=100_000))
        async with running(server), client_of(server) as client:
            return [await call(client) for call in calls]

    for number, answer in enumerate(asyncio.run(work())):
        assert answer.status_code in (400, 404), (number, answer.text)
        message = answer.json()["error"]["message"]
        assert len(message.splitlines()) == 1
        assert "/vsimem" not in message
        assert "Traceback" not in message
