"""Tables of text: RISC's captions.csv and its kin, one row an image or one row a caption.

    source,split,image,caption_1,caption_2        image,caption
    NWPU,test,resized/NWPU_12.jpg,A plane .,…      1.jpg,two planes

Columns: the image and its captions under any of the names of `rscap.annotations.fields`; `split`, `source` and
`scene_class` are optional. A row with fewer captions than columns leaves its last cells empty, and a note counts such
rows; an empty cell before a caption is a caption that was lost, and the row is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rscap.annotations.fields import Fields, rows_of
from rscap.annotations.files import check_header, read_table
from rscap.annotations.rows import Found, merged, split_in
from rscap.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt")


def read(path: Path, **told: Any) -> Iterator[Found]:
    """The rows of a table.

    Raises:
        DataError: see `rscap.annotations.files.read_table` and `Fields.of`.
    """
    table = read_table(path)
    check_header(path, table.columns)
    try:
        fields = Fields.of(table.columns)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint) from None
    split = split_in(path.stem)
    return merged(rows_of(path.name, table.records, fields=fields, **{"split": split, **told}))


def why_not(path: Path) -> str:
    """Why this file is not a table of captions; empty if it is one."""
    try:
        columns = read_table(path).columns
        check_header(path, columns)
        Fields.of(columns)
    except DataError as error:
        return error.in_one_line
    return ""
