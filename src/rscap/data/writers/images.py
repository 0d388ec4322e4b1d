"""The pixels of a converted data set: the source's own bytes, never encoded anew."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rscap.data.handles import MissingImage
from rscap.errors import DataError
from rscap.records import Example, ImageHandle


def image_bytes(image: ImageHandle) -> bytes:
    """The encoded bytes of an image as the source holds them; a rendered image, which has none, as PNG."""
    data = getattr(image, "data", None)
    if data is not None:
        return data()
    stream = io.BytesIO()
    image.load().save(stream, format="PNG")
    return stream.getvalue()


def write_images(examples: Iterable[Example], folder: Path) -> None:
    """Write each image under its id; an image that is not at hand is left out, as it was in the source."""
    for example in examples:
        if isinstance(example.image, MissingImage):
            continue
        path = folder / example.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(example.image))


def require_file_names(examples: Iterable[Example]) -> None:
    """Stop where an id cannot name a file: `row-00017` of a table without file names has no suffix.

    Raises:
        DataError: an id without a suffix; names it.
    """
    for example in examples:
        if not PurePosixPath(example.id).suffix:
            raise DataError(
                f"{example.id!r} is no file name, so the images cannot be written as files under their ids",
                hint="convert to parquet, which needs no file names",
            )
