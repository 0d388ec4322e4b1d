"""Which column of a table holds encoded images: `image`, or the only other one whose cells are images.

The first cell of a column that is not empty decides, among the first LOOKED_AT rows: a table may begin with images
that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from rscap.errors import DataError

IMAGE = "image"
LOOKED_AT = 100
"""Rows among which a cell that is not empty is looked for; what a column holds behind them does not count."""
_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
"""How JPEG, PNG, GIF, BMP, TIFF, BigTIFF and JPEG 2000 begin; `is_image` knows WebP."""


def image_column(label: str, schema: Any, cells: Callable[[str], Iterable[object]]) -> str:
    """The column with the images' encoded bytes.

    Args:
        label: of the table, for messages.
        schema: a `pyarrow.Schema`.
        cells: the cells of a column in order, as Python has them; read no further than the first that is not empty.

    Raises:
        DataError: there is none, or two could be it; names them.
    """
    if IMAGE in schema.names:
        return IMAGE
    found = [one.name for one in schema if _may_hold_bytes(one.type) and is_image(_first(cells(one.name)))]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{label} has no column 'image', and images are in {' and in '.join(map(repr, found))}",
            hint="rename the one to read to `image`",
        )
    hint = "name the column with the images' encoded bytes `image`"
    if pixels := next((one.name for one in schema if _is_of_numbers(one.type)), None):
        hint = f"{pixels!r} holds numbers: save the images themselves, encoded (PNG, JPEG), in a column `image`"
    raise DataError(f"{label} has no column 'image'; it has: {', '.join(schema.names)[:300]}", hint=hint)


def _first(cells: Iterable[object]) -> object:
    """The first cell that is not empty, nor a struct without bytes; None where there is none in LOOKED_AT rows."""
    looked_at = islice(cells, LOOKED_AT)
    return next(
        (cell for cell in looked_at if (cell.get("bytes") if isinstance(cell, dict) else cell) is not None), None
    )


def is_image(cell: object) -> bool:
    """Are these the bytes of an image file, alone or as `{"bytes": …}`?"""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        return False
    return content.startswith(_STARTS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _may_hold_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(n).name == "bytes" for n in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_of_numbers(kind: Any) -> bool:
    """A list, of lists or not, of numbers: pixels, as processors of models make them."""
    import pyarrow.types as types

    if not hasattr(kind, "value_type"):
        return False
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return types.is_integer(kind) or types.is_floating(kind)
