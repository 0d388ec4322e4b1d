"""How soon the page of many runs can be used in a browser.

    python benchmarks/report_page.py [--runs 12] [--images 900] [--repetitions 5] [--busy-ok]

Writes run folders as evaluations leave them (captions are references that lost words, pictures are scenes of the sample
again and again), makes their page, and opens it in Chromium each time in a new window. Ready: from the request to the
first images in the image browser, with its controls at work. Filtered: from a word in the search field to its images.
It needs the extra `browser` and a Chromium, and takes some minutes, nearly all of them for scores and paired tests.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from common import check_load, count, options, write_record
from rscap import scoring
from rscap.data import open_source
from rscap.records import Example, Prediction
from rscap.reports import write_report
from rscap.store import RunFolder, write_predictions, write_references, write_sheet, write_thumbnails

TARGET_S = 2.0
WORD = "airplanes"


def examples(images: int) -> list[Example]:
    """So many images, those of the sample again and again under new ids."""
    known = open_source("sample").examples
    return [replace(one, id=f"{number:05}-{one.id}") for number, one in enumerate(islice(cycle(known), images))]


def write_run(folder: Path, images: Sequence[Example], seed: int) -> Path:
    """A finished run whose captions are references without some of their words."""
    draw, run = random.Random(seed), RunFolder.create(folder)
    said = {one.id: " ".join(w for w in draw.choice(one.captions).split() if draw.random() > 0.3) for one in images}
    rows = [
        Prediction(example_id=name, caption=text, prefix="caption en", tokens=9, stopped="eos")
        for name, text in said.items()
    ]
    write_predictions(run.predictions("test"), rows)
    write_references(run.references("test"), images)
    write_thumbnails(run.thumbnails("test"), images)
    references = {one.id: one.captions for one in images}
    sources = {one.id: one.scene_class or "" for one in images}
    sheet = scoring.score_captions(said, references, metrics=["CIDEr"], draws=200, sources=sources)
    write_sheet(run.scores("test"), sheet)
    run.close("finished")
    return folder


def opened(browser: Browser, page: Path) -> tuple[float, float, int]:
    """Seconds until the page is ready and until a word has filtered it, and the elements it then has."""
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    began = time.perf_counter()
    window.goto(page.as_uri())
    window.wait_for_selector("#browser-list .card img")
    ready = time.perf_counter() - began
    began = time.perf_counter()
    window.locator("#browser-words").fill(WORD)
    window.locator("#browser-list .card").first.wait_for()
    filtered = time.perf_counter() - began
    cards = window.locator(".card").count()
    window.close()
    return ready, filtered, cards


def main() -> None:
    parser = options(__doc__, repetitions=5, out="report_page.json")
    parser.add_argument("--runs", type=count, default=12)
    parser.add_argument("--images", type=count, default=900)
    chosen = parser.parse_args()
    load = check_load(busy_ok=chosen.busy_ok)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as running:
        images = examples(chosen.images)
        runs = [write_run(Path(place) / f"run-{number:02}", images, number) for number in range(chosen.runs)]
        page = write_report(runs, Path(place) / "page.html")[0]
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        times = [opened(browser, page) for _ in range(chosen.repetitions)]
        size = page.stat().st_size
        browser.close()
    ready, filtered, cards = (statistics.median(one) for one in zip(*times, strict=True))
    write_record(
        chosen.out,
        load=load,
        threads=chosen.threads,
        runs=chosen.runs,
        images=chosen.images,
        bytes=size,
        ready_s={"median": ready, "target": TARGET_S, "all": [one[0] for one in times]},
        filtered_s={"median": filtered, "all": [one[1] for one in times]},
        cards_at_once=cards,
    )
    print(
        f"{chosen.runs} runs x {chosen.images} images, {size / 1e6:.1f} MB: "
        f"ready in {ready:.2f} s, filtered in {filtered:.2f} s"
    )


if __name__ == "__main__":
    main()
