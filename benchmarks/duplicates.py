"""Which share of planted duplicates the audit finds, and which pairs it names among real images.

    python benchmarks/duplicates.py ../shared/data/risc-mini [--copies 400] [--out FILE]

Copies of images drawn by chance are planted among all images of the data set, one kind of copy at a time, and the
search of `rscap data audit` runs over all of them: a copy is found when it is named together with its original. Pairs
that are neither planted nor named without any copy are counted as false. All copies but the resized are saved as JPEG
of quality 30 to 79. Exits with 1 where a kind that the audit promises (see TARGET) is found less often. A minute.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import RESULTS, check_load, count, write_record
from rscap.data import PixelImage, open_source
from rscap.data.audit.duplicates import VERIFIED, Duplicates, find_duplicates
from rscap.records import Example

Plant = Callable[[Image.Image, np.random.Generator], Image.Image]
TARGET = 0.95
"""Of copies of any kind in PROMISED this share must be found."""


def recompressed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """JPEG of quality 30 to 79."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(30, 80)))
    return Image.open(stream).convert("RGB")


def resized(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Half to one and a half times the side."""
    side = int(picture.width * rng.uniform(0.5, 1.5))
    return picture.resize((side, side), Image.Resampling.BILINEAR)


def flipped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Left-right or top-bottom."""
    return recompressed(picture.transpose(Image.Transpose(int(rng.integers(0, 2)))), rng)


def turned(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By 90, 180 or 270 degrees, or transposed."""
    return recompressed(picture.transpose(Image.Transpose(int(rng.integers(2, 7)))), rng)


def shifted(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By up to 6 pixels; the last line is repeated at the edge."""
    return recompressed(_shift(picture, rng.integers(-6, 7, size=2)), rng)


def shifted_over_black(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By up to 6 pixels over black."""
    right, down = (int(step) for step in rng.integers(-6, 7, size=2))
    return recompressed(picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, right, 0, 1, down)), rng)


def rolled(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By up to 6 pixels; what leaves at one edge comes in at the other."""
    steps = tuple(int(step) for step in rng.integers(-6, 7, size=2))
    return recompressed(Image.fromarray(np.roll(np.asarray(picture), steps, axis=(0, 1))), rng)


def shifted_far(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By 8 to 14 pixels both ways; the last line is repeated at the edge."""
    return recompressed(_shift(picture, rng.integers(8, 15, size=2) * rng.choice((-1, 1), size=2)), rng)


def _shift(picture: Image.Image, steps: np.ndarray) -> Image.Image:
    right, down = (int(step) for step in steps)
    edge = np.pad(np.asarray(picture), ((16, 16), (16, 16), (0, 0)), mode="edge")
    return Image.fromarray(edge[16 + down :, 16 + right :][: picture.height, : picture.width])


PROMISED: tuple[Plant, ...] = (recompressed, resized, flipped, turned, shifted, shifted_over_black, rolled)
KINDS: tuple[Plant, ...] = (*PROMISED, shifted_far)


def planted(examples: Sequence[Example], kind: Plant, number: int, seed: int) -> tuple[np.ndarray, list[Example]]:
    """Positions of `number` images drawn by chance, and their copies."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    chosen = rng.choice(len(examples), number, replace=False)
    originals = [examples[place] for place in chosen]
    copies = [
        replace(one, id=f"copy {one.id}", image=PixelImage(kind(one.image.load(), rng), "copy")) for one in originals
    ]
    return chosen, copies


def recall(examples: Sequence[Example], alone: Duplicates, kind: Plant, number: int, seed: int) -> dict[str, Any]:
    """How many of `number` copies of a kind are found among all images, and how many other pairs are named."""
    chosen, copies = planted(examples, kind, number, seed)
    found = find_duplicates([*examples, *copies])
    named = {(pair.first, pair.second) for pair in found.pairs}
    wanted = {(int(place), len(examples) + index) for index, place in enumerate(chosen)}
    twins = {place for pair in alone.pairs for place in (pair.first, pair.second)}
    source = {len(examples) + index: int(place) for index, place in enumerate(chosen)}
    # A copy of one of two images that are each other's duplicates is a duplicate of both: a pair may name the other.
    others = {pair for pair in named - wanted if not {source.get(place, place) for place in pair} <= twins}
    return {
        "copies": number,
        "found": len(named & wanted),
        "share": round(len(named & wanted) / number, 4),
        "false_pairs": len(others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of real images")
    parser.add_argument("--copies", type=count, default=400, help="copies of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "duplicates.json", help="the JSON record")
    options = parser.parse_args()
    load = check_load(busy_ok=True)  # nothing is timed
    examples = open_source(options.data, check="none").examples
    alone = find_duplicates(examples)
    kinds = {}
    for kind in KINDS:
        kinds[kind.__name__] = recall(examples, alone, kind, options.copies, options.seed)
        print(kind.__name__, kinds[kind.__name__], file=sys.stderr, flush=True)
    write_record(
        options.out,
        load=load,
        threads=1,
        data={"images": len(examples), "seed": options.seed, "verified": VERIFIED},
        real={
            "pairs_looked_at": alone.candidates,
            "named": [
                [examples[one.first].id, examples[one.second].id, round(one.similarity, 3)] for one in alone.pairs
            ],
        },
        kinds=kinds,
    )
    missed = [kind.__name__ for kind in PROMISED if kinds[kind.__name__]["share"] < TARGET]
    sys.exit(f"found less often than {TARGET:.0%}: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
