"""Write the two folders that studies/adapt.toml trains on: new images of one source, and the same with old ones.

    python tools/adapt_data.py SOURCE OUT [--new NWPU] [--images 300]

OUT/new/captions.csv names --images images of the source --new from SOURCE's val split, chosen by a hash of their ids,
as training images; OUT/mixed/captions.csv also names as many of SOURCE's training images. Images are linked, not
copied. The test split is left alone: the study evaluates on SOURCE's own.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

from rscap import open_data
from rscap.data import Source
from rscap.data.images import FileImage
from rscap.records import Example


def write_folder(folder: Path, examples: Sequence[Example]) -> None:
    """A folder with captions.csv and links to the images, all of them for training."""
    images = folder / "resized"
    images.mkdir(parents=True, exist_ok=True)
    widest = max(len(example.captions) for example in examples)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", *(f"caption_{number + 1}" for number in range(widest))])
        for example in examples:
            if not isinstance(example.image, FileImage):
                raise SystemExit(f"{example.id} is no file: give a folder with captions.csv and images")
            name, link = example.image.path.name, images / example.image.path.name
            if not link.exists():
                link.symlink_to(os.path.abspath(example.image.path))
            padded = [*example.captions, *[""] * (widest - len(example.captions))]
            writer.writerow([example.source, "train", name, *padded])


def chosen(source: Source, split: str, count: int, origin: str | None) -> list[Example]:
    """Some images of a split by a hash of their ids, as training images."""
    return source.subset(split, count, 0, source=origin)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--new", default="NWPU")
    parser.add_argument("--images", type=int, default=300)
    given = parser.parse_args(arguments)
    source = open_data(given.source)
    new = chosen(source, "val", given.images, given.new)
    write_folder(given.out / "new", new)
    write_folder(given.out / "mixed", [*new, *chosen(source, "train", given.images, None)])
    print(f"{given.out}: {len(new)} images of {given.new}, alone and with as many old ones")


if __name__ == "__main__":
    main()
