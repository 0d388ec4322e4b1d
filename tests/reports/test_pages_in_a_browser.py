"""Pages of runs, studies and data in a real browser: nothing is cut off, and the image browser does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import study_folder as make
from overflow import WIDTHS, overflow
from rscap.data import open_source
from rscap.data.audit import audit
from rscap.data.inspection import inspect
from rscap.records import Prediction
from rscap.reports import write_report
from rscap.reports.dataset import audit_page, inspect_page
from rscap.reports.study import write_study_report
from rscap.store import RunFolder, TrainStep, write_rows, write_thumbnails

pytestmark = pytest.mark.browser
IMAGES = 45
"""More than two screens of the browser."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    examples = open_source("sample").subset("test", IMAGES, 0)
    runs = []
    for number, (name, share) in enumerate({"base": 0.8, "a run with rather a long name": 0.1, "third": 0.4}.items()):
        run = RunFolder(folder / name)
        said = make.predict(examples, share, number)
        if number == 1:
            said = [_special(one, place) for place, one in enumerate(said)]
        make.write_run(run.path, examples, said, minutes=1)
        steps = [TrainStep(event="step", step=step, loss=5 / step, learning_rate=1e-4 * step) for step in range(1, 60)]
        write_rows(run.train_log, steps)
        write_thumbnails(run.thumbnails("test"), examples)
        make.write_scores(run.baseline("constant"), "test", examples, make.predict(examples, 0.7, 8))
        runs.append(run.path)
    (runs[0] / "evaluation.json").write_text('{"model": "nano"}', encoding="utf-8")
    made = {"runs": write_report(runs, folder / "runs.html")[0]}
    rows = {f"{name} of rank {rank}": rank / 40 for rank in (0, 4, 8, 16) for name in ("a method", "another method")}
    study = make.write_study(folder / "study", images=20, rows=rows, seeds=2)
    made["study"] = write_study_report(study, folder / "study.html", pdf=False)[0]
    source = replace(open_source("sample"), examples=tuple(examples))
    for name, text in (
        ("inspect", inspect_page(source, inspect(source))),
        ("audit", audit_page(source, audit(source))),
    ):
        made[name] = folder / f"{name}.html"
        made[name].write_text(text, encoding="utf-8")
    return made


def _special(said: Prediction, place: int) -> Prediction:
    """The first captions as a browser has to show them: words of all kinds, a near-tie, one that was cut, none."""
    captions = ["zebra zebra of the zebra", "", "a a a a a a a"]
    if place < len(captions):
        return replace(
            said, caption=captions[place], near_ties=int(place == 0), stopped="length" if place == 2 else "eos"
        )
    return said


Opening = Callable[..., Any]


@pytest.fixture
def opening(browser: Any, pages: dict[str, Path]) -> Iterator[Opening]:
    """Opens a page by its name; at the end nothing has gone wrong in it, and nothing was asked for elsewhere."""
    wrong: list[str] = []

    @contextmanager
    def opened(name: str, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("request", lambda sent: None if sent.url.startswith(("file:", "data:")) else wrong.append(sent.url))
        page.goto(pages[name].as_uri())
        yield page
        page.close()

    yield opened
    assert wrong == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["runs", "study", "inspect", "audit"])
def test_nothing_is_cut_off(opening: Opening, name: str, width: int) -> None:
    """On a laptop and on a phone no element is wider than its box or the window; a table that is scrolls in its own."""
    with opening(name, width) as page:
        for one in page.locator("details").all():
            one.evaluate("(element) => { element.open = true }")
        assert overflow(page) == []
        if name == "runs":
            page.locator(".enlarge").first.click()
            assert overflow(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["runs", "study", "inspect", "audit"])
def test_axe_finds_nothing_serious(opening: Opening, name: str, scheme: str) -> None:
    """Contrast, names of controls, what a keyboard reaches."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    with opening(name, scheme=scheme) as page:
        found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def scores_shown(page: Any) -> list[float]:
    """The scores of the captions that are asked about, in the order of the page."""
    return [float(text.split()[-1]) for text in page.locator(".asked .score").all_inner_texts()]


def test_all_images_come_worst_first_beside_baselines_and_runs(opening: Opening) -> None:
    """The best trained run is asked about; beside it stand the base model, the baseline and the other run, each in the
    colour that it has in the table; more images come on demand, and so do their pictures."""
    with opening("runs") as page:
        assert (
            page.locator("#browser-count").inner_text().startswith(f"{IMAGES} of {IMAGES} images, mean CIDEr of a run")
        )
        assert page.locator(".card").count() == page.locator(".card img").count() == 20
        first = page.locator(".card").nth(3)
        assert [who.split("CIDEr")[0].strip() for who in first.locator(".who").all_inner_texts()] == [
            "a run with rather a long name",
            "base",
            "third",
            "constant caption",
        ]
        for name in ("base", "third"):
            row = page.locator("#scores th", has_text=name).first.locator(".swatch").get_attribute("class")
            assert first.locator(".who", has_text=name).locator(".swatch").get_attribute("class") == row
        while page.locator("#browser-more").is_visible():
            page.locator("#browser-more").click()
        shown = scores_shown(page)
        assert len(shown) == IMAGES
        assert shown == sorted(shown)
        page.locator("#browser-order").select_option("best")
        assert scores_shown(page)[0] == shown[-1]
        page.locator(".chip", has_text="third").locator("input").uncheck()
        assert page.locator(".who", has_text="third").count() == 0


def test_words_flags_and_scores_filter(opening: Opening) -> None:
    """Words of captions and of references, flags, and a range of scores, each by itself and together."""
    with opening("runs") as page:
        count = page.locator("#browser-count")
        page.locator("#browser-words").fill("zebra")
        assert count.inner_text().startswith("1 of ")
        page.locator("#browser-words").fill("")
        reference = page.locator(".card li").first.inner_text()
        page.locator("#browser-words").fill(reference)
        assert page.locator(".card li").first.inner_text() == reference
        page.locator("#browser-words").fill("")
        for flag, caption in (
            ("near-tie", "zebra zebra of the zebra"),
            ("empty", "empty caption"),
            ("loop", "a a a a a a a"),
        ):
            page.locator("#browser-flag").select_option(flag)
            assert caption in page.locator(".asked .caption").all_inner_texts()
        page.locator("#browser-flag").select_option("cut at the limit")
        assert count.inner_text().startswith("1 of ")
        page.locator("#browser-flag").select_option("")
        page.locator("#browser-low").fill("1")
        assert min(scores_shown(page)) >= 1
        page.locator("#browser-words").fill("zebra")
        assert count.inner_text().startswith("0 of ")


def test_words_are_marked_but_for_function_words(opening: Opening) -> None:
    """A word that no reference has is a miss, one that stands there more often too; `of` and `the` never are."""
    with opening("runs") as page:
        page.locator("#browser-words").fill("zebra")
        caption = page.locator(".asked .caption")
        assert caption.locator(".miss").all_inner_texts() == ["zebra", "zebra", "zebra"]
        assert caption.inner_text() == "zebra zebra of the zebra"
        page.locator("#browser-words").fill("")
        page.locator("#browser-order").select_option("best")
        said = page.locator(".card").first
        words = set(re.findall(r"\w+", " ".join(said.locator("li").all_inner_texts()).lower()))
        for hit in said.locator(".hit").all_inner_texts():
            assert hit.lower() in words


def test_keys_walk_search_and_enlarge(opening: Opening) -> None:
    """j and k walk over the end of a screen, Enter enlarges, arrows turn, Esc closes, / searches."""
    with opening("runs") as page:
        ids = page.locator(".card .id b").all_inner_texts()
        for _ in range(22):
            page.keyboard.press("j")
        assert page.locator(".card").count() == 40
        for _ in range(20):
            page.keyboard.press("k")
        assert page.locator(".card.current .id b").inner_text() == ids[1]
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert page.locator("dialog .id b").inner_text() == ids[2]
        page.keyboard.press("ArrowRight")
        assert page.locator("dialog .id b").inner_text() == ids[3]
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert page.locator(".card.current .id b").inner_text() == ids[3]
        page.keyboard.press("/")
        page.keyboard.type("zebra")
        assert page.locator("#browser-count").inner_text().startswith("1 of ")
        page.keyboard.press("Escape")
        assert page.locator("#browser-count").inner_text().startswith(f"{IMAGES} of ")


def test_a_chart_tells_the_values_under_the_pointer(opening: Opening) -> None:
    """Step, run and value of every line, as the log has them."""
    with opening("runs") as page:
        chart = page.locator("svg.chart.hover", has=page.locator("polyline[data-label='third']")).last
        chart.scroll_into_view_if_needed()
        place = chart.bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        told = page.locator(".tip").inner_text()
        step = int(re.search(r"step (\d+)", told).group(1))
        assert {"base", "third"} <= set(re.findall(r"base|third", told))
        assert re.search(r"third ([\d.e-]+)", told)
        assert 1 <= step <= 59


def test_a_column_sorts(opening: Opening) -> None:
    """By its values, not by its letters; lines without a value come last where the highest is first."""
    with opening("study") as page:
        page.locator("#table th button", has_text="CIDEr").click()
        cells = page.locator("#table td[data-name='CIDEr'] .value").all_inner_texts()
        known = [float(one) for one in cells if one != "—"]
        assert known == sorted(known, reverse=True)
        assert cells[len(known) :] == ["—"] * (len(cells) - len(known))
