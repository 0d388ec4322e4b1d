"""What a page was made from, in the head of the page: with it `rscap verify` finds the folders and makes it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html.parser import HTMLParser
from json import dumps
from pathlib import Path
from typing import Literal

from rscap.errors import StoreError
from rscap.store import Record

NAME = "rscap:made-from"
"""The name of the `<meta>` element that holds a `PageOrigin` as JSON."""


class PageOrigin(Record):
    """The folders that a page shows, and what was asked for."""

    kind: Literal["runs", "study"]
    rscap: str
    """The version that wrote the page."""
    folders: tuple[str, ...]
    """Relative to the folder of the page."""
    labels: tuple[str, ...] = ()
    """What the page calls each run."""
    split: str = ""
    """Of a page of runs."""
    metric: str = ""
    """By which a study is judged."""

    def text(self) -> str:
        """As the page holds it."""
        return dumps(self.content(), ensure_ascii=False)


def folders_from(page: Path, folders: Sequence[Path]) -> tuple[str, ...]:
    """Folders as a page names them."""
    here = page.resolve().parent
    return tuple(Path(os.path.relpath(folder.resolve(), here)).as_posix() for folder in folders)


def read_origin(page: Path, text: str) -> PageOrigin:
    """What a page says that it was made from.

    Raises:
        StoreError: it does not say so: no page of rscap, or one of an earlier version.
    """
    reader = _Head()
    reader.feed(text)
    if reader.found is None:
        raise StoreError(
            f"{page} does not say what it was made from", hint="`rscap report` writes pages that do; write it again"
        )
    return PageOrigin.parse(reader.found, where=f"{page}, {NAME}")


class _Head(HTMLParser):
    """Finds the element."""

    found: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "meta" and told.get("name") == NAME:
            self.found = self.found or told.get("content")
