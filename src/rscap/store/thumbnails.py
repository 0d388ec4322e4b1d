"""Small pictures of the evaluated images, so that a page of captions needs no data set.

They are JPEG, base64, one JSON line an image. The more images there are, the smaller each picture is, and a file
holds at most `MOST_BYTES` of JPEG: 900 photographs of RISC take 3.6 MB.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rscap.errors import ImageError
from rscap.records import Example
from rscap.store.record import Record, read_rows, write_rows

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 16 * 2**20
"""Of all pictures of a file together, before base64; images beyond have none."""
QUALITY = 60
_SIDES = ((200, 224), (1_000, 160), (5_000, 112))
"""Up to so many images, so many pixels of the longer side; 72 for more."""


class Thumbnail(Record):
    """A line of a file of thumbnails: one evaluation image, small."""

    id: str
    jpeg: str
    """Base64."""


def thumbnail_side(images: int) -> int:
    """Pixels of the longer side of each picture, where there are so many images."""
    return next((side for most, side in _SIDES if images <= most), 72)


def small_jpeg(image: Image, side: int, *, quality: int = QUALITY) -> bytes:
    """A JPEG of an RGB image, shrunk until its longer side has at most `side` pixels."""
    from PIL.Image import Resampling

    small, stream = image.copy(), io.BytesIO()
    small.thumbnail((side, side), Resampling.LANCZOS)
    small.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def thumbnails_of(examples: Sequence[Example]) -> Iterator[Thumbnail]:
    """Pictures of the examples, in order, until `MOST_BYTES` are reached; an image that cannot be decoded has none."""
    side, total = thumbnail_side(len(examples)), 0
    for example in examples:
        try:
            small = small_jpeg(example.image.load(), side)
        except ImageError:
            continue
        total += len(small)
        if total > MOST_BYTES:
            return
        yield Thumbnail(id=example.id, jpeg=base64.b64encode(small).decode("ascii"))


def write_thumbnails(path: Path, examples: Sequence[Example]) -> None:
    """Write the pictures of some examples, in one move."""
    write_rows(path, thumbnails_of(examples))


def read_thumbnails(path: Path) -> dict[str, str]:
    """The pictures by the id of their image, base64.

    Raises:
        StoreError: the file is missing, or a line is damaged; names the line.
    """
    return {row.id: row.jpeg for row in read_rows(path, Thumbnail)}
