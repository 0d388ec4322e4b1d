"""Write the data that studies/adapt.toml trains on, and the validation images by which studies/decoding.toml chooses.

    python tools/study_data.py ../shared/data/risc-mini runs/study-data

OUT/new          --images images of the source --new, cut from SOURCE's val split, for training; among risc-mini's
                 training images are none of this source
OUT/mixed        the same, and as many of SOURCE's training images
OUT/validation   a val split for what is reported on SOURCE's test split: of each of its sources, and of images whose
                 references are one sentence and others, the same share. The images are those of SOURCE's val split and
                 the training images that data.reward_share = --share keeps from a likelihood run, so that a run
                 with this share has seen none of them

Each is a folder with captions.csv and copies of the images, since rscap follows no link out of a data folder. Images
are chosen by a hash of their ids. Of the test split only the numbers of images are read; none of its images is written.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rscap import open_data
from rscap.data import Source
from rscap.data.draw import key, uniform
from rscap.data.images import FileImage
from rscap.records import Example

Kind = tuple[str, bool]
"""Source, and whether all references are one sentence."""


def kind(example: Example) -> Kind:
    return example.source, len(set(example.captions)) == 1


def first(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` examples by a hash of their ids, or all if there are fewer."""
    return sorted(examples, key=lambda one: (key("study", one.id), one.id))[:count]


def like_the_test_split(source: Source, share: float) -> list[Example]:
    """As many images as there are in the proportions of the test split, of those that no likelihood run has seen."""
    held = [one for one in source.split("train") if uniform("reward", one.id) < share]
    pools: dict[Kind, list[Example]] = {}
    for example in [*source.split("val"), *held]:
        pools.setdefault(kind(example), []).append(example)
    wanted = Counter(kind(example) for example in source.split("test"))
    scale = min(len(pools.get(one, [])) / count for one, count in wanted.items())
    return [example for one, count in wanted.items() for example in first(pools[one], round(scale * count))]


def write_folder(folder: Path, examples: Sequence[Example], split: str) -> None:
    """captions.csv, which puts all examples into one split, and copies of their images."""
    images = folder / "resized"
    images.mkdir(parents=True)
    widest = max(len(example.captions) for example in examples)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "split", "image", *(f"caption_{number + 1}" for number in range(widest))])
        for example in examples:
            if not isinstance(example.image, FileImage):
                raise SystemExit(f"{example.id} is no file: give a folder with captions.csv and images")
            name = example.image.path.name
            shutil.copyfile(example.image.path, images / name)
            padded = [*example.captions, *[""] * (widest - len(example.captions))]
            writer.writerow([example.source, split, name, *padded])
    kinds = Counter(f"{one.source}, one sentence" if kind(one)[1] else one.source for one in examples)
    print(f"{folder}: {len(examples)} images ({'; '.join(f'{name} {count}' for name, count in sorted(kinds.items()))})")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--new", default="NWPU")
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--share", type=float, default=0.3)
    given = parser.parse_args(arguments)
    if given.out.exists():
        raise SystemExit(f"{given.out} exists: remove it, or name another folder")
    source = open_data(given.source)
    new = first([one for one in source.split("val") if one.source == given.new], given.images)
    if not new:
        raise SystemExit(f"the val split of {given.source} has no image of the source {given.new!r}")
    old = first([one for one in source.split("train") if one.source != given.new], len(new))
    write_folder(given.out / "new", new, "train")
    write_folder(given.out / "mixed", [*new, *old], "train")
    write_folder(given.out / "validation", like_the_test_split(source, given.share), "val")


if __name__ == "__main__":
    main()
