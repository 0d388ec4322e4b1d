"""The page in a real browser: images in, captions out, by mouse, keyboard and clipboard."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overflow import overflow
from rscap.sample import sample_examples
from rscap.serving.models import ServedModels
from served import Live, png

HAND_OVER = """([kind, content, name]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const moved = new DataTransfer();
    moved.items.add(new File([bytes], name, { type: "image/png" }));
    const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: moved, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: moved });
    (kind === "drop" ? document.getElementById("drop") : document).dispatchEvent(event);
}"""
"""Does what the browser does where somebody drops or pastes a file."""


@pytest.fixture
def page(browser: Any, live: Live) -> Iterator[Any]:
    """The page, loaded; at its end nothing has gone wrong in it, and nothing else than its server was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda sent: wrong.append(sent.url) if not _ours(sent.url, live.url) else None)
    opened.goto(live.url)
    opened.wait_for_selector("#models input")
    opened.wait_for_selector("#samples img")
    yield opened
    context.close()
    assert wrong == []


def _ours(url: str, server: str) -> bool:
    return url.startswith((f"{server}/", "data:", "blob:"))


def choose(page: Any, *names: str) -> None:
    """Ask these models alone."""
    for box in page.locator("#models input").all():
        box.set_checked(box.get_attribute("value") in names)


def caption(page: Any, model: str) -> str:
    """The newest caption by a model, once it is there."""
    section = page.locator("article").first.locator("section", has=page.get_by_role("heading", name=model, exact=True))
    section.locator(".text").wait_for()
    return str(section.locator(".text").inner_text()).strip()


@pytest.mark.browser
def test_a_sample_is_captioned_by_base_and_run_side_by_side(page: Any, models: ServedModels) -> None:
    """A click on a picture: both captions, how sure each word is, and what people wrote."""
    choose(page, "nano", "tuned")
    page.locator("#samples button").nth(3).click()
    scene = page.locator("#samples img").nth(3).get_attribute("src").removeprefix("samples/")
    image = next(one.image for one in sample_examples() if one.id == scene)
    for name in ("nano", "tuned"):
        assert caption(page, name) == models[name].captioner.caption(image.load()).caption
    first = page.locator("article").first
    assert first.locator(".word").first.get_attribute("title").endswith("sure")
    assert first.locator("li").count() == 5
    page.locator("summary", has_text="Word by word").first.click()
    words = [cell.inner_text() for cell in first.locator("tbody td:first-child").all() if cell.is_visible()]
    assert " ".join(words) in {caption(page, "nano"), caption(page, "tuned")}


@pytest.mark.browser
def test_files_are_chosen_dropped_and_pasted(page: Any, models: ServedModels) -> None:
    """Each way in gives the caption of the file; one that is no image tells what it is."""
    choose(page, "nano")
    whole = models["nano"].captioner.caption(png(1)).caption
    page.set_input_files("#files", [{"name": "one.png", "mimeType": "image/png", "buffer": png(1)}])
    assert caption(page, "nano") == whole
    for kind in ("drop", "paste"):
        before = page.locator("article").count()
        page.evaluate(HAND_OVER, [kind, b64encode(png(1)).decode(), f"{kind}.png"])
        page.locator("article").nth(before).wait_for()
        assert caption(page, "nano") == whole
    page.set_input_files("#files", [{"name": "no.png", "mimeType": "image/png", "buffer": b"nothing"}])
    page.locator(".error").wait_for()
    assert "not an image in a known format" in page.locator(".error").inner_text()


@pytest.mark.browser
def test_what_was_captioned_is_saved(page: Any) -> None:
    """As CSV and as JSON, newest first, with model, confidence and digest."""
    choose(page, "nano")
    for number in (0, 1):
        page.locator("#samples button").nth(number).click()
        page.locator("article").nth(number).wait_for()
        page.locator("article .text").nth(number).wait_for()
    found = {}
    for kind in ("csv", "json"):
        with page.expect_download() as saved:
            page.locator(f"#{kind}").click()
        found[kind] = Path(saved.value.path()).read_text(encoding="utf-8")
    rows = json.loads(found["json"])
    assert [row["caption"] for row in csv.DictReader(io.StringIO(found["csv"]))] == [row["caption"] for row in rows]
    assert [row["model"] for row in rows] == ["nano", "nano"]
    assert rows[0]["caption"] == caption(page, "nano")
    page.locator("#clear").click()
    assert page.locator("article").count() == 0


@pytest.mark.browser
def test_beams_and_words_are_passed_on(page: Any, models: ServedModels) -> None:
    """Five beams or a consensus are chosen; another prompt is used, and the caption says so."""
    choose(page, "nano")
    page.locator("#way").select_option("consensus")
    page.set_input_files("#files", [{"name": "none.png", "mimeType": "image/png", "buffer": png(2)}])
    drawn = {"temperature": 0.5, "choose": "consensus", "samples": 16}
    assert caption(page, "nano") == models["nano"].captioner.caption(png(2), **drawn).caption
    page.locator("#way").select_option("beams")
    page.set_input_files("#files", [{"name": "one.png", "mimeType": "image/png", "buffer": png(2)}])
    assert caption(page, "nano") == models["nano"].captioner.caption(png(2), beams=5).caption
    page.locator("#prompt").fill("describe")
    page.set_input_files("#files", [{"name": "two.png", "mimeType": "image/png", "buffer": png(2)}])
    page.locator("article").nth(2).wait_for()
    page.locator("article").first.get_by_text("asked in other words").wait_for()


@pytest.mark.browser
def test_a_geotiff_becomes_a_map(page: Any) -> None:
    """Its windows are drawn where they lie, with their captions in a list and under the pointer; axe finds nothing."""
    rasters = pytest.importorskip("rasters", reason="needs the extra `geo`")
    choose(page, "nano")
    content = rasters.geotiff(2, 7, 9)
    page.set_input_files("#files", [{"name": "field.tif", "mimeType": "image/tiff", "buffer": content}])
    page.locator(".map path").nth(2).wait_for()
    captions = [item.inner_text() for item in page.locator(".list li").all()]
    assert len(captions) == 3
    page.locator(".map path").nth(1).hover()
    assert page.locator(".map + .text").inner_text() == captions[1]
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    found = axe.Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.browser
def test_the_keyboard_is_enough(page: Any) -> None:
    """Tab to a sample and Enter: the caption is announced in the status line."""
    choose(page, "nano")
    page.locator("#files").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said = caption(page, "nano")
    page.locator("#status", has_text="nano: ").wait_for()
    assert said in page.locator("#status").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anybody(page: Any, width: int, colours: str) -> None:
    """axe-core finds nothing serious on the page with a caption in it, wide and narrow, light and dark; nothing is cut
    off on a phone. The page of the API too."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": width, "height": 844})
    page.locator("#samples button").nth(5).click()
    page.locator("article .text").first.wait_for()
    page.locator("summary", has_text="Word by word").first.click()
    for path in (None, "docs"):
        if path:
            page.goto(page.url + path)
            page.locator("table").first.wait_for()
        found = axe.Axe().run(page).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == []
        assert overflow(page) == []


@pytest.mark.browser
def test_a_key_is_asked_for_on_the_page(browser: Any, models: ServedModels) -> None:
    """Where the server needs one: a field appears, and with the key the models do."""
    with Live(models, key="a-long-key") as server:
        opened = browser.new_page()
        opened.goto(server.url)
        opened.locator("#key").wait_for()
        opened.locator("#key").fill("a-long-key")
        opened.locator("#key").blur()
        opened.wait_for_selector("#models input")
        opened.close()
