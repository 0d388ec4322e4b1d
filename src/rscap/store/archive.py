"""What `rscap scene` keeps: the ledger of every window, from which the final files are written, and where they lie.

<out>.geojson|geojsonl|parquet|csv   that file, and the folder <out>.<suffix>.rscap/ next to it; or a folder with
  captions.geojson  captions.geojsonl  captions.parquet  captions.csv  items/<scene>.json (STAC); and in either folder
  ledger.jsonl      a line for every scene and window as it was done, in any order
  skipped.jsonl     windows that were not captioned, with the reason
  provenance.json   what was asked, and of each scene what was found and used

The ledger is appended to, a batch of windows at a time. Whatever is killed, its last line may be cut off, and no other.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from rscap.errors import StoreError
from rscap.records import Stopped
from rscap.store.files import PROVENANCE
from rscap.store.record import Record
from rscap.store.refusals import no_room, way_out

LEDGER = "ledger.jsonl"
SKIPPED = "skipped.jsonl"
CAPTIONS = "captions"
ITEMS = "items"
STATE_SUFFIX = ".rscap"
CAPTION_SUFFIXES = (".geojson", ".geojsonl", ".parquet", ".csv")

_OTHER_FORMATS = (".json", ".jsonl", ".geojsons", ".geoparquet", ".gpkg", ".shp", ".kml", ".fgb", ".txt", ".tif")

SceneEnd = Literal["done", "empty", "damaged", "failed"]
"""`empty`: no valid pixel. `damaged`: some windows cannot be read. `failed`: nothing of the scene is used."""


@dataclass(frozen=True, slots=True)
class CaptionPlace:
    """Where captions of scenes go: one file, or a folder with all of them."""

    out: Path

    @property
    def single(self) -> bool:
        """Whether one file was asked for."""
        return self.out.suffix in CAPTION_SUFFIXES

    @property
    def state(self) -> Path:
        """The folder of the ledger."""
        return self.out.with_name(f"{self.out.name}{STATE_SUFFIX}") if self.single else self.out

    @property
    def ledger(self) -> Path:
        return self.state / LEDGER

    @property
    def skipped(self) -> Path:
        return self.state / SKIPPED

    @property
    def provenance(self) -> Path:
        return self.state / PROVENANCE

    @property
    def items(self) -> Path | None:
        """The folder of STAC Items; one file has none."""
        return None if self.single else self.out / ITEMS

    @property
    def files(self) -> tuple[Path, ...]:
        """The files with captions."""
        return (self.out,) if self.single else tuple(self.out / f"{CAPTIONS}{suffix}" for suffix in CAPTION_SUFFIXES)

    def check_free(self) -> None:
        """Refuse a place where something else lies than an earlier call's own files.

        Raises:
            StoreError: names it.
        """
        if self.ledger.is_file():
            return
        if self.out.suffix in _OTHER_FORMATS and not self.out.is_dir():
            known = ", ".join(CAPTION_SUFFIXES)
            raise StoreError(
                f"{self.out}: captions are not written as {self.out.suffix}",
                hint=f"a file named {known}, or a folder for all of them",
            )
        taken = self.out.exists() if self.single or not self.out.is_dir() else any(self.out.iterdir())
        if taken:
            raise StoreError(
                f"{self.out} exists, and no ledger of rscap belongs to it", hint="choose another --out, or move it away"
            )


class SceneRow(Record):
    """A scene as it was found when its first window was read."""

    kind: Literal["scene"] = "scene"
    scene: str
    digest: str
    """`file:…`, `etag:…` or `pixels:…`, by what it was computed from."""
    width: int
    height: int
    """Of what is windowed, in pixels: the scene as it is, or resampled."""
    crs: str | None
    earth: bool
    cache_bytes: int | None = None
    """GDAL's cache of decoded blocks while it was read; None where the environment set it."""
    transform: tuple[float, float, float, float, float, float]
    """x = a·column + b·row + c, y = d·column + e·row + f."""
    rows: int
    columns: int
    """Of the grid of windows."""
    bands: tuple[int, ...]
    bands_chosen_by: str
    stretch: dict[str, Any]
    """Empty where no pixel is valid."""
    nodata: str | None = None
    gsd: tuple[float, float] | None
    """Metres that a pixel covers in the middle of the scene, along a row and down a column."""
    time: str | None
    """RFC 3339, UTC."""
    time_from: str | None
    """`TIFFTAG_DATETIME`, `file` or `Last-Modified`."""
    notes: tuple[str, ...] = ()


class WindowRow(Record):
    """A window with its caption."""

    kind: Literal["window"] = "window"
    scene: str
    row: int
    column: int
    window: tuple[int, int, int, int]
    cell: tuple[int, int, int, int]
    valid_share: float
    caption: str
    confidence: float | None
    tokens: int
    stopped: Stopped
    near_ties: int
    digest: str


class SkippedRow(Record):
    """A window without a caption."""

    kind: Literal["skipped"] = "skipped"
    scene: str
    row: int
    column: int
    window: tuple[int, int, int, int]
    cell: tuple[int, int, int, int]
    valid_share: float | None
    reason: str


class EndRow(Record):
    """A scene that needs no more work, or that failed."""

    kind: Literal["end"] = "end"
    scene: str
    state: SceneEnd
    reason: str = ""
    bytes_read: int | None = None
    """Of a remote scene: what was downloaded in this call."""
    bytes_needed: int | None = None
    """Of a remote TIFF: the blocks under its windows."""


LedgerRow = SceneRow | WindowRow | SkippedRow | EndRow
_KINDS: Mapping[str, type[LedgerRow]] = {"scene": SceneRow, "window": WindowRow, "skipped": SkippedRow, "end": EndRow}


@dataclass(slots=True)
class _SceneIndex:
    """Where the ledger has the lines of a scene: 8 bytes a window."""

    facts: SceneRow | None = None
    places: array[int] = field(default_factory=lambda: array("q"))
    """Byte of the line of each window of the grid, plus 1; 0 where there is none."""
    done: int = 0
    captioned: int = 0
    unreadable: int = 0
    first_unreadable: str = ""
    end: EndRow | None = None

    def begin(self, facts: SceneRow) -> None:
        self.facts, self.end = facts, None
        self.done = self.captioned = self.unreadable = 0
        self.first_unreadable = ""
        self.places = array("q", bytes(8 * facts.rows * facts.columns))

    def put(self, line: WindowRow | SkippedRow, offset: int) -> None:
        """Note a window, unless there is no such place or it is there already."""
        place = line.row * self.facts.columns + line.column if self.facts else -1
        if not 0 <= place < len(self.places) or self.places[place]:
            return
        self.places[place] = offset + 1
        self.done += 1
        if isinstance(line, WindowRow):
            self.captioned += 1
        elif line.valid_share is None:
            self.unreadable += 1
            self.first_unreadable = self.first_unreadable or line.reason


class Ledger:
    """The ledger of one place, opened to be continued.

    Args:
        path: the file; it is made where there is none.
        asked: whatever decides what a caption is: model, words, decoding, windows, stretch.

    Raises:
        StoreError: it holds what was asked otherwise, or a line of it is damaged.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path = path
        self._scenes: dict[str, _SceneIndex] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        heading = _line({"kind": "asked", "version": 1, "asked": json.loads(json.dumps(asked))})
        self._size = 0
        if path.is_file() and path.stat().st_size:
            self._read(heading)
        self._stream: BinaryIO = path.open("r+b" if path.is_file() else "w+b")
        try:
            self._stream.truncate(self._size)
            self._stream.seek(self._size)
            if not self._size:
                self._write(heading)
        except BaseException:
            self._stream.close()
            raise

    def scene(self, name: str) -> SceneRow | None:
        """What was found of a scene, where it was begun."""
        known = self._scenes.get(name)
        return known.facts if known else None

    def end(self, name: str) -> EndRow | None:
        """How a scene ended, where it did."""
        known = self._scenes.get(name)
        return known.end if known else None

    def has(self, scene: str, row: int, column: int) -> bool:
        """Whether a window is done."""
        known = self._scenes[scene]
        assert known.facts is not None
        return bool(known.places[row * known.facts.columns + column])

    def done(self, scene: str) -> int:
        """How many windows of a scene are done, skipped ones included."""
        return self._scenes[scene].done if scene in self._scenes else 0

    def captioned(self, scene: str) -> int:
        """How many windows of a scene have a caption."""
        return self._scenes[scene].captioned if scene in self._scenes else 0

    def unreadable(self, scene: str) -> tuple[int, str]:
        """How many windows of a scene cannot be read, and the reason of the first."""
        known = self._scenes.get(scene)
        return (known.unreadable, known.first_unreadable) if known else (0, "")

    def forget(self, name: str) -> None:
        """Let a scene be begun again; its new lines count, and the old ones do not."""
        self._scenes.pop(name, None)

    def add(self, rows: Sequence[LedgerRow]) -> None:
        """Append lines in one write, and remember where they lie.

        Raises:
            StoreError: no room is left; what was written before stands.
        """
        lines = [_line(row.model_dump()) for row in rows]
        offset = self._size
        try:
            self._write(b"".join(lines))
        except OSError as error:
            if not (reason := no_room(error)):
                raise
            scenes = ", ".join(dict.fromkeys(row.scene for row in rows))
            raise StoreError(
                f"{scenes}: nothing more can be written to {self.path}: {reason}",
                hint=f"{way_out(reason)}; the same command then goes on where it was",
            ) from error
        for row, line in zip(rows, lines, strict=True):
            self._note(row, offset)
            offset += len(line)

    def windows(self, scene: str) -> Iterator[WindowRow | SkippedRow]:
        """The lines of a scene's windows, by row and column; one at a time in memory."""
        known = self._scenes[scene]
        with self.path.open("rb") as stream:
            for place in known.places:
                if place:
                    stream.seek(place - 1)
                    row = _parse(stream.readline(), str(self.path))
                    assert isinstance(row, WindowRow | SkippedRow)
                    yield row

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()
        self._size += len(content)

    def _read(self, heading: bytes) -> None:
        with self.path.open("rb") as stream:
            first = stream.readline()
            if first != heading and first.endswith(b"\n"):
                if _nothing_done(first, stream):
                    return
                raise StoreError(
                    f"{self.path} holds captions that were asked for otherwise: {_difference(first, heading)}",
                    hint="choose another --out, or remove the old results",
                )
            if first != heading:  # cut off before anything was done
                return
            offset = len(first)
            for number, line in enumerate(stream, start=2):
                if not line.endswith(b"\n"):
                    break  # the last line, cut off
                self._note(_parse(line, f"{self.path}, line {number}"), offset)
                offset += len(line)
        self._size = offset

    def _note(self, row: LedgerRow, offset: int) -> None:
        known = self._scenes.setdefault(row.scene, _SceneIndex())
        if isinstance(row, SceneRow):
            known.begin(row)
        elif isinstance(row, EndRow):
            known.end = row
        else:
            known.put(row, offset)


def read_asked(path: Path) -> dict[str, Any]:
    """What a ledger says was asked.

    Raises:
        StoreError: the file is missing, or its first line is damaged.
    """
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.readline())["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a ledger of `rscap scene`: {error}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{path} is not a ledger of `rscap scene`")
    return found


def _parse(line: bytes, where: str) -> LedgerRow:
    text = line.decode("utf-8", errors="replace")
    try:
        kind = _KINDS[json.loads(text)["kind"]]
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{where}: not a line of a ledger", hint="remove the results and their ledger, and caption again"
        ) from None
    return kind.parse(text, where=where)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _nothing_done(heading: bytes, lines: Iterable[bytes]) -> bool:
    """Whether a ledger holds no caption and no end of a scene.

    A call leaves such a ledger when its model cannot be loaded: the heading is on disk before the first window, and a
    model is loaded only once a window needs it.
    """
    try:
        return json.loads(heading)["kind"] == "asked" and all(
            json.loads(line)["kind"] in ("scene", "skipped") for line in lines
        )
    except (ValueError, KeyError, TypeError):
        return False


def _difference(found: bytes, wanted: bytes) -> str:
    """The keys in which two headings differ."""
    try:
        old, new = (_flat(json.loads(line)["asked"]) for line in (found, wanted))
    except (ValueError, KeyError, TypeError):
        return "its first line is damaged"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} was {old.get(key)!r:.60}, now {new.get(key)!r:.60}" for key in keys[:3])


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def skipped_lines(rows: Iterable[SkippedRow]) -> Iterator[str]:
    """The lines of skipped.jsonl."""
    for row in rows:
        yield _line({key: value for key, value in row.model_dump().items() if key != "kind"}).decode()
