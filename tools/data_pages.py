"""The pictures of docs/data.md: pages of `rscap data inspect` and `audit` as a browser shows them.

    python tools/data_pages.py [--browser /usr/bin/chromium]

Inspects the built-in sample, and audits 48 of its images with planted copies, damage and noise. The browser is started
without a window, once a page and width.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rscap.data import open_source
from rscap.data.audit import audit
from rscap.data.inspection import inspect
from rscap.quality import disagreements
from rscap.records import Example
from rscap.reports.dataset import audit_page, inspect_page

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZES = {"laptop": (1280, 1950), "phone": (390, 2000)}

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


def pages(folder: Path) -> dict[str, str]:
    """The HTML of each page by name."""
    sample = open_source("sample")
    broken = open_source(planted(folder / "planted"), check="none", max_rejected_share=1.0)
    found = audit(broken, more=disagreements(broken))
    return {"data-inspect": inspect_page(sample, inspect(sample)), "data-audit": audit_page(broken, found)}


def photograph(browser: str, page: Path, out: Path, size: tuple[int, int], *, colours: int | None = 256) -> None:
    """What the browser shows of a page in a window of `size` pixels, in 256 colours; all of them with None."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        window = f"--window-size={size[0]},{size[1]}"
        command = [browser, *flags, window, f"--screenshot={out}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    with Image.open(out) as picture:
        whole = picture.convert("RGB")
    small = whole.quantize(colours, dither=Image.Dither.NONE) if colours else whole
    assert np.asarray(small).any()
    small.save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for name, html in pages(Path(place)).items():
            page = Path(place) / f"{name}.html"
            page.write_text(html, encoding="utf-8")
            for width, size in SIZES.items():
                photograph(options.browser, page, IMAGES / f"{name}-{width}.png", size)


if __name__ == "__main__":
    main()
