"""The map of captions: one page that needs nothing else, with pictures beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import rscap as command
from overflow import overflow
from rscap.errors import StoreError

pytest.importorskip("rasterio", reason="needs the extra `geo`")

import rscap
from rasters import geotiff
from rscap.records import Picture, Prediction
from rscap.scene.map_page import write_map


class Counting:
    """Captions windows by counting them; every third is of solar panels."""

    name, prefix, settings = "counting", "caption en", None

    def predictions(self, pictures: list[Picture]) -> Iterator[Prediction]:
        for number, picture in enumerate(pictures):
            text = f"</script> {number} solar panels" if number % 3 == 1 else f"a plane near {number} trees"
            yield Prediction(example_id=picture.id, caption=text, prefix="caption en", tokens=4, stopped="length")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A folder of captions of one scene with three windows."""
    (tmp_path / "field.tif").write_bytes(geotiff(2, 7, 9))
    rscap.caption_scene(tmp_path / "field.tif", Counting(), tmp_path / "out", progress=False)
    return tmp_path / "out"


def data_of(page: Path) -> Any:
    """What a page shows."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S
    )
    assert found
    return json.loads(found.group(1))


def test_a_page_holds_captions_places_overview_and_pictures(captions: Path, tmp_path: Path) -> None:
    """By command: every window with its outline and flags, pictures beside it, nothing from elsewhere; and a caption
    that would end the script does not."""
    assert command("map", str(captions), "--out", "look/map.html", cwd=tmp_path).code == 0
    data = data_of(tmp_path / "look/map.html")
    assert [one["properties"]["caption"] for one in data["features"]][1] == "</script> 1 solar panels"
    assert all(one["properties"]["flags"] == ["cut"] for one in data["features"])
    ring = data["features"][0]["rings"][0]
    source = json.loads((captions / "captions.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert ring == [[pytest.approx(y), pytest.approx(x)] for x, y in source[:-1]]
    [overview] = data["overviews"]
    assert overview["image"].startswith("data:image/webp;base64,")
    assert all((tmp_path / "look" / one["properties"]["picture"]).is_file() for one in data["features"])
    text = (tmp_path / "look/map.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src="|<link[^>]*href="|url\()(?:https?:)?//', text)


def test_scenes_that_are_gone_leave_a_page_without_pictures(captions: Path, tmp_path: Path) -> None:
    """And a line that says so."""
    (tmp_path / "field.tif").unlink()
    told: list[str] = []
    found = write_map(captions, tmp_path / "map.html", say=told.append)
    assert (found.windows, found.pictures) == (3, 0)
    assert "no pictures of" in told[0]


def test_what_cannot_become_a_page_is_refused(captions: Path, tmp_path: Path) -> None:
    """Another name, and a folder without captions."""
    with pytest.raises(StoreError, match="not named like a page"):
        write_map(captions, tmp_path / "map.pdf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no captions"):
        write_map(tmp_path / "empty", tmp_path / "map.html")


def test_a_place_off_the_earth_is_drawn_in_its_own_coordinates(tmp_path: Path) -> None:
    """Coordinates without a CRS: rings up and across, no longitude or latitude claimed."""
    (tmp_path / "bare.tif").write_bytes(geotiff(2, crs=None))
    rscap.caption_scene(tmp_path / "bare.tif", Counting(), tmp_path / "bare.geojson", progress=False)
    write_map(tmp_path / "bare.geojson", tmp_path / "map.html")
    data = data_of(tmp_path / "map.html")
    assert data["earth"] is False
    assert len(data["features"][0]["rings"][0]) >= 4


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_captions_are_found_filtered_shown_and_saved(browser: Any, captions: Path, tmp_path: Path, width: int) -> None:
    """The pointer shows a caption; words find plural and singular; a click shows the picture; what is found is saved;
    axe finds nothing serious."""
    write_map(captions, tmp_path / "map.html")
    page = browser.new_page(viewport={"width": width, "height": 844})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda sent: None if sent.url.startswith(("file:", "data:", "blob:")) else wrong.append(sent.url)
    )
    page.goto((tmp_path / "map.html").as_uri())
    assert page.locator("#list button").count() == 3
    place = page.evaluate("map.latLngToContainerPoint(rows[2].layer.getBounds().getCenter())")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + place["x"] - 3, box["y"] + place["y"])
    page.mouse.move(box["x"] + place["x"], box["y"] + place["y"])
    page.locator(".leaflet-tooltip", has_text="a plane near 2 trees").wait_for()
    page.mouse.click(box["x"] + place["x"], box["y"] + place["y"])
    page.locator(".leaflet-popup-content", has_text="a plane near 2 trees").wait_for()
    page.locator(".leaflet-popup-close-button").click()
    page.locator(".leaflet-popup").wait_for(state="detached")
    page.locator("#words").fill("solar panel")
    page.locator("#count", has_text="1 of 3 captions").wait_for()
    page.locator("#list button").first.click()
    page.locator(".leaflet-popup-content img").wait_for()
    assert page.locator(".leaflet-popup-content strong").inner_text() == "</script> 1 solar panels"
    with page.expect_download() as saved:
        page.locator("#geojson").click()
    found = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert [one["properties"]["column"] for one in found["features"]] == [1]
    page.locator("#words").fill("")
    page.locator("#flags input").first.check()
    page.locator("#count", has_text="3 of 3 captions").wait_for()
    page.locator("#least").fill("50")
    page.locator("#count", has_text="0 of 3 captions").wait_for()
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    violations = axe.Axe().run(page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    assert overflow(page, skipped="script, #map") == []  # the map is larger than what is seen of it
    page.close()
    assert wrong == []
