"""Report pages and the tables beside them: made again from their folders, and compared word for word."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rscap import __version__
from rscap.errors import StoreError
from rscap.reports.formats import tables_csv, tables_json
from rscap.reports.load import load_runs
from rscap.reports.origin import PageOrigin, read_origin
from rscap.reports.page import page as page_of_runs
from rscap.reports.study.formats import study_csv, study_json, study_latex, study_markdown
from rscap.reports.study.load import load_study
from rscap.reports.study.page import study_page
from rscap.reports.study.summary import summarise
from rscap.reports.table import tables_of
from rscap.store import RunFolder, StudyFolder, read_json, text_of
from rscap.verifying.differences import Protocol, parted
from rscap.verifying.folders import check_run, check_study


@dataclass(frozen=True, slots=True)
class _Again:
    """What a page and its files should be."""

    page: str
    table: Any
    """Its JSON."""
    texts: dict[str, str]
    """Its other text files, by suffix."""


def check_page(page: Path, protocol: Protocol, *, files: Sequence[Path] = ()) -> None:
    """Recompute the sheets that a page shows, then the page and its tables.

    Args:
        files: the folders that it was made from, in its order, where they are not where the page says.

    Raises:
        StoreError: the page does not say what it was made from, or that is not there.
    """
    text = text_of(page)
    origin = read_origin(page, text)
    folders = _folders(page, origin, files)
    if origin.kind == "study":
        check_study(StudyFolder(folders[0]), protocol)
    else:
        for folder, label in zip(folders, origin.labels, strict=True):
            under = f"{label}/" if len(folders) > 1 else ""
            check_run(RunFolder.open(folder), protocol, split=origin.split, under=under)
    check_made_again(page, text, origin, folders, protocol)


def _folders(page: Path, origin: PageOrigin, files: Sequence[Path]) -> list[Path]:
    folders = list(files) or [page.parent / folder for folder in origin.folders]
    if len(folders) != len(origin.folders):
        raise StoreError(f"{page} was made from {len(origin.folders)} folders, and {len(folders)} are named")
    if gone := [folder for folder in folders if not folder.is_dir()]:
        raise StoreError(
            f"{page} cannot be verified: it was made from {gone[0]}, which is not there",
            hint="name what it was made from: --files FOLDER, once for each run in the order of the page",
        )
    return folders


def check_made_again(page: Path, text: str, origin: PageOrigin, folders: Sequence[Path], protocol: Protocol) -> None:
    """Compare a page and its tables with those that its folders give; their sheets are taken as they are."""
    again = _study(origin, folders[0]) if origin.kind == "study" else _runs(origin, folders)
    before = len(protocol.findings)
    if origin.rscap == __version__:
        for where, sentence in _pages_parted(text, again.page):
            protocol.differs(page.name, where, sentence)
    else:
        protocol.skip(
            f"{page.name} was written by rscap {origin.rscap}, and pages of {__version__} have other words: "
            "only its tables were compared"
        )
    beside = [page.with_suffix(suffix) for suffix in (".json", *again.texts) if page.with_suffix(suffix).is_file()]
    for path in beside:
        told = read_json(path) if path.suffix == ".json" else text_of(path)
        found = json.loads(json.dumps(again.table)) if path.suffix == ".json" else again.texts[path.suffix]
        for where, sentence in _PARTED.get(path.suffix, _lines_parted)(told, found):
            protocol.differs(path.name, where, sentence)
    if page.with_suffix(".pdf").is_file():
        protocol.skip(f"{page.with_suffix('.pdf').name}: a PDF is not read")
    if before == len(protocol.findings):
        protocol.checked.append(f"{', '.join(path.name for path in (page, *beside))}: as their folders give them")


def _runs(origin: PageOrigin, folders: Sequence[Path]) -> _Again:
    loaded = load_runs(folders, origin.split, origin.labels)
    tables = tables_of(loaded, origin.split)
    page = page_of_runs(loaded, tables, origin.split, origin)
    return _Again(page, tables_json(tables), {".csv": tables_csv(tables)})


def _study(origin: PageOrigin, folder: Path) -> _Again:
    summary = summarise(load_study(folder), metric=origin.metric)
    texts = {".csv": study_csv(summary), ".md": study_markdown(summary), ".tex": study_latex(summary)}
    return _Again(study_page(summary, origin), study_json(summary), texts)


def _cells_parted(told: str, found: str) -> Iterator[tuple[str, str]]:
    """Where two tables of CSV differ, by line and column; by line where they have other columns or lines."""
    ours, theirs = (list(csv.reader(text.splitlines())) for text in (told, found))
    if not ours or [len(row) for row in ours] != [len(row) for row in theirs] or ours[0] != theirs[0] or ours == theirs:
        yield from _lines_parted(told, found)
        return
    for number, (row, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        for column, one, two in zip(ours[0], row, other, strict=True):
            if one != two:
                yield f"line {number}, {column}", f"it says {_quoted(one)}, and its files give {_quoted(two)}"


def _lines_parted(told: str, found: str) -> Iterator[tuple[str, str]]:
    for number, (ours, theirs) in enumerate(zip_longest(told.split("\n"), found.split("\n")), start=1):
        if ours != theirs:
            yield f"line {number}", _told(ours, theirs)


_PARTED: dict[str, Callable[[Any, Any], Iterator[tuple[str, str]]]] = {".json": parted, ".csv": _cells_parted}


def _told(ours: str | None, theirs: str | None) -> str:
    """Both texts, from shortly before the place at which they part, so that the difference is seen."""
    pairs = zip_longest(ours or "", theirs or "")
    same = next((place for place, (one, other) in enumerate(pairs) if one != other), 0)
    start = max(0, same - 40) if same > 100 else 0
    return f"it says {_quoted(ours, start)}, and its files give {_quoted(theirs, start)}"


def _quoted(text: str | None, start: int = 0) -> str:
    if text is None:
        return "nothing"
    shown = text[start : start + 200]
    return f"“{'…' if start else ''}{shown}{'…' if len(text) > start + 200 else ''}”"


def _pages_parted(told: str, found: str) -> Iterator[tuple[str, str]]:
    """The first place at which two pages differ; what follows it is shifted as a rule, and says no more."""
    ours, theirs = _Reader.of(told), _Reader.of(found)
    nothing = _Mark("", None)
    for one, other in zip_longest(ours.marks, theirs.marks, fillvalue=nothing):
        if one != other:
            yield one.place or other.place, _told(one.text, other.text)
            return
    yield from parted(ours.data, theirs.data, "images")


@dataclass(frozen=True, slots=True)
class _Mark:
    """A text or a tag of a page."""

    place: str
    text: str | None


class _Reader(HTMLParser):
    """A page as a list of its texts and tags, each with the section and the row in which it stands.

    Style, programs and pictures are no figures and are left out; the data of the image browser are read as JSON.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[_Mark] = []
        self.data: Any = None
        self._section = self._row = self._column = ""
        self._within = ""
        self._is_data = False

    @classmethod
    def of(cls, text: str) -> _Reader:
        reader = cls()
        reader.feed(text)
        reader.close()
        return reader

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._within = tag
        self._is_data = tag == "script" and told.get("type") == "application/json"
        if tag == "section":
            self._section, self._row = told.get("id") or "", ""
        elif tag == "tr":
            self._row = ""
        self._column = told.get("data-name") or "" if tag in ("td", "th") else self._column
        shown = " ".join(f'{key}="{value}"' for key, value in attrs if key not in ("src", "style"))
        self.marks.append(_Mark(self._place(), f"<{tag} {shown}>"))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data = json.loads(data)
            self.data.pop("note", None)  # names the folder as it was given
        elif self._within not in ("style", "script"):
            if self._within == "th":
                self._row = data
            self.marks.append(_Mark(self._place(), data))

    def _place(self) -> str:
        return ", ".join(filter(None, [self._section or "head", self._row, self._column]))
