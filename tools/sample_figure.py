"""A contact sheet of the sample, one picture of each scene class: `python tools/sample_figure.py sample.jpg`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from rscap.sample import RenderedScene
from rscap.sample.canvas import SIZE
from rscap.sample.scenes import SCENES
from rscap.store import atomic_path

GAP_PX = 4


def contact_sheet(*, number: int = 36, columns: int = 4) -> Image.Image:
    """One picture of each of the 16 scene classes, by name from left to right, white lines between them."""
    rows = -(-len(SCENES) // columns)
    pitch = SIZE + GAP_PX
    sheet = Image.new("RGB", (columns * pitch - GAP_PX, rows * pitch - GAP_PX), "white")
    for index, scene_class in enumerate(SCENES):
        row, column = divmod(index, columns)
        sheet.paste(RenderedScene(scene_class, number).load(), (column * pitch, row * pitch))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the contact sheet and print the captions of its pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a .jpg or .png file")
    parser.add_argument(
        "--number", type=int, default=36, help="which picture of each class; 34 to 39 are the test split"
    )
    parser.add_argument("--columns", type=int, default=4)
    chosen = parser.parse_args(arguments)
    with atomic_path(chosen.out) as temporary:
        contact_sheet(number=chosen.number, columns=chosen.columns).save(
            temporary, format="JPEG" if chosen.out.suffix == ".jpg" else "PNG", quality=86
        )
    for scene_class in SCENES:
        handle = RenderedScene(scene_class, chosen.number)
        print(handle.name, *handle.captions(), sep="\n  ")


if __name__ == "__main__":
    main()
