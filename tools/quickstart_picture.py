"""The README's picture: images and captions of `make quickstart`'s report as a browser shows them.

    python tools/quickstart_picture.py [runs/quickstart/report.html] [--browser /usr/bin/chromium]

Shows the first images of the report, in its order; the rest of the page is hidden.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from data_pages import IMAGES, photograph

CARDS = 4
SIZE = (1120, 1200)
BELOW = 16
"""Pixels of the page's ground left under the last card."""
STYLE = """
<style>
header, footer, section:not(#images), #images h2, article.card:nth-child(n+{hidden}) {{ display: none !important; }}
main, #images {{ padding-top: 8px !important; margin-top: 0 !important; border-top: 0 !important; }}
</style>
</head>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, default=Path("runs/quickstart/report.html"))
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium (%(default)s)")
    options = parser.parse_args()
    out = IMAGES / "quickstart.png"
    html = options.report.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "page.html"
        page.write_text(html.replace("</head>", STYLE.format(hidden=CARDS + 1), 1), encoding="utf-8")
        photograph(options.browser, page, out, SIZE)
    cut_below(out)


def cut_below(path: Path) -> None:
    """Cut off what lies under the last row that is not the page's ground."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        used = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
        picture.crop((0, 0, picture.width, min(picture.height, int(used[-1]) + BELOW))).save(path, optimize=True)


if __name__ == "__main__":
    main()
