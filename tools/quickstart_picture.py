"""The README's picture: images and captions of `make quickstart`'s report as a browser shows them.

    python tools/quickstart_picture.py [runs/quickstart/report.html] [--browser /usr/bin/chromium]

Shows the first images of the data, whatever their scores, in the report's image browser, and nothing else of the page.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CARDS = 4
STYLE = """
body > :not(main), main > :not(#images), #images > :not(#browser-list) {{ display: none !important; }}
.card:nth-child(n+{hidden}) {{ display: none !important; }}
body {{ max-width: none; padding: 0; }} main, #images {{ padding-top: 0; }} .card:first-child {{ border-top: 0; }}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, default=Path("runs/quickstart/report.html"))
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium (%(default)s)")
    options = parser.parse_args()
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1120, "height": 900})
        page.goto(options.report.resolve().as_uri())
        page.locator("#browser-order").select_option("given")
        page.add_style_tag(content=STYLE.format(hidden=CARDS + 1))
        content = page.locator("#browser-list").screenshot()
        browser.close()
    small = Image.open(io.BytesIO(content)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(IMAGES / "quickstart.png", optimize=True)


if __name__ == "__main__":
    main()
