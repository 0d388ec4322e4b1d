"""Pages as a browser shows them, for the documentation.

    python tools/pages.py [--runs RUN…] [--study STUDY] [--browser /usr/bin/chromium]

Without arguments: the pages of `rscap data inspect` and `audit`, of the built-in sample and of 48 of its images with
planted copies, damage and noise. `--runs` takes the page of run folders (the two of the quickstart) and its image
browser instead, `--study` the page of a study up to its images. Each goes to docs/images as WebP, as a laptop and as a
phone show it. Whatever is cut off on one of the pages is printed and ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from rscap.data import open_source
from rscap.data.audit import audit
from rscap.data.inspection import inspect
from rscap.quality import disagreements
from rscap.records import Example
from rscap.reports import write_report
from rscap.reports.dataset import audit_page, inspect_page
from rscap.reports.study import write_study_report

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTHS = {"laptop": 1280, "phone": 390}
MOST_BYTES = 200_000

sys.path.insert(0, str(ROOT / "tests" / "support"))
from overflow import overflow  # noqa: E402  (the measure that the tests use)

PLANTED: tuple[tuple[int, str, Callable[[Image.Image], Image.Image]], ...] = (
    (0, "train", lambda picture: picture.resize((160, 160))),
    (1, "test", lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    (2, "test", lambda picture: picture.transpose(Image.Transpose.ROTATE_90)),
    (3, "train", lambda picture: picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, -4))),
    (4, "test", lambda picture: picture.point(lambda value: min(255, value + 2))),
)
"""Which image is planted once more, in which split, and how it is changed."""


def planted(folder: Path) -> Path:
    """A data set in RISC's layout with something of each kind for the audit to find."""
    chosen = open_source("sample").subset("train", 48, seed=2)
    (folder / "images").mkdir(parents=True)
    rows = [[one.source, "train" if i < 36 else "test", one.id, *one.captions] for i, one in enumerate(chosen)]
    for one in chosen:
        one.image.load().save(folder / "images" / one.id)
    for number, split, change in PLANTED:
        name = f"copy_{number}.jpg"
        change(chosen[number].image.load()).save(folder / "images" / name, quality=60)
        rows.append(["sample", split, name, *(f"{caption[:-1]}, again ." for caption in chosen[number].captions)])
    damage(folder / "images", chosen)
    noise(rows)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", *(f"caption_{k}" for k in range(1, 6))])
        writer.writerows(rows)
    return folder


def damage(images: Path, chosen: list[Example]) -> None:
    """A file that is no image, one of a single colour, one that is missing."""
    (images / chosen[10].id).write_bytes(b"this is no image")
    Image.new("RGB", (224, 224), "navy").save(images / chosen[11].id)
    (images / chosen[12].id).unlink()


def noise(rows: list[list[str]]) -> None:
    """Text noise, equal caption lists across splits, and one sentence five times."""
    rows[20][3] = rows[20][3].replace(" .", "\u200b .")
    rows[21][3] = f" {rows[21][3]}"
    rows[22][4] = "a caf\u00e9 caf\u00e9 ."
    rows[23][5] = rows[23][5].removesuffix(" .")
    rows[24][3:] = [rows[24][3]] * 5
    rows[40][3:] = rows[25][3:]
    rows[26][1] = "no split"


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a page: the part between two elements, after something was done to the page."""

    name: str
    page: Path
    top: str = "body"
    """The element at whose top the picture begins."""
    heights: tuple[int, int] = (1600, 1800)
    """At most so many pixels, on a laptop and on a phone."""
    prepare: Callable[[Any], None] | None = None


def data_shots(folder: Path) -> Iterator[Shot]:
    """The pages about data sets."""
    sample = open_source("sample")
    broken = open_source(planted(folder / "planted"), check="none", max_rejected_share=1.0)
    found = audit(broken, more=disagreements(broken))
    for name, html in (("inspect", inspect_page(sample, inspect(sample))), ("audit", audit_page(broken, found))):
        page = folder / f"{name}.html"
        page.write_text(html, encoding="utf-8")
        yield Shot(f"data-{name}", page, heights=(1950, 2000))


def run_shots(folder: Path, runs: list[Path]) -> Iterator[Shot]:
    """The page of runs: its head and scores, and its image browser with an image enlarged."""
    page = write_report(runs, folder / "runs.html")[0]
    yield Shot("report", page, heights=(1300, 1700))
    yield Shot("report-images", page, top="#images", heights=(1250, 1700))
    yield Shot("report-zoom", page, heights=(900, 900), prepare=lambda page: page.locator(".enlarge").nth(2).click())


def study_shots(folder: Path, study: Path) -> Iterator[Shot]:
    """The page of a study; the images of its data set are another's and are left out."""
    page = write_study_report(study, folder / "study.html", pdf=False)[0]
    yield Shot("study", page, heights=(2300, 2300), prepare=_without_images)


def _without_images(page: Any) -> None:
    page.add_style_tag(content="#images, footer { display: none }")


def photograph(browser: Browser, shot: Shot, width: int, height: int) -> tuple[Image.Image, list[str]]:
    """The picture, and what is cut off on the page at this width."""
    page = browser.new_page(viewport={"width": width, "height": 900}, device_scale_factor=1)
    page.goto(shot.page.as_uri())
    page.wait_for_load_state()
    cut = overflow(page)
    if shot.prepare:
        shot.prepare(page)
        cut += overflow(page)
    if page.locator("dialog[open]").count():
        content = page.screenshot()
    else:
        top = page.locator(shot.top).bounding_box()
        below = page.evaluate("document.documentElement.scrollHeight") - top["y"]
        clip = {"x": 0, "y": top["y"], "width": width, "height": min(height, below)}
        content = page.screenshot(full_page=True, clip=clip)
    page.close()
    return Image.open(io.BytesIO(content)).convert("RGB"), cut


def keep(picture: Image.Image, path: Path) -> None:
    """Write WebP of less than MOST_BYTES."""
    for quality in (80, 70, 60, 50, 40, 30):
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=quality, method=6)
        if len(stream.getvalue()) < MOST_BYTES:
            path.write_bytes(stream.getvalue())
            return
    raise SystemExit(f"{path} would be larger than {MOST_BYTES:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, default=[])
    parser.add_argument("--study", type=Path)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium (%(default)s)")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name, sync_playwright() as running:
        place = Path(name)
        browser = running.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        shots = run_shots(place, options.runs) if options.runs else data_shots(place)
        for shot in study_shots(place, options.study) if options.study else shots:
            for (device, width), height in zip(WIDTHS.items(), shot.heights, strict=True):
                picture, cut = photograph(browser, shot, width, height)
                keep(picture, IMAGES / f"{shot.name}-{device}.webp")
                print(f"{shot.name}-{device}.webp: {picture.width} x {picture.height}, {len(cut)} elements cut off")
                failed |= bool(cut)
                for one in cut:
                    print(f"  {one}")
        browser.close()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
