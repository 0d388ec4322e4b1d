"""The files that are made of features: GeoJSON, GeoJSON with one feature a line, CSV and GeoParquet.

Each is written feature by feature beside its place, and takes its name when all are complete.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from shapely import to_wkt

from rscap.scene.features import Feature
from rscap.scene.outline import DECIMALS
from rscap.scene.parquet import ParquetFile, ParquetParts, remove_parts
from rscap.store import atomic_path
from rscap.store.archive import CaptionPlace, SceneRow


class FeatureFile(Protocol):
    """A file that features are added to."""

    def add(self, feature: Feature) -> None:
        """One more."""

    def finish(self) -> None:
        """All are added."""


@contextmanager
def caption_files(
    place: CaptionPlace, scenes: Sequence[SceneRow], partition: int | None = None
) -> Iterator[list[FeatureFile]]:
    """The files of a place for the captions of some scenes; they take their names when the block ends well.

    Args:
        place: where they lie.
        scenes: whose captions come.
        partition: features in each file of GeoParquet, which is a folder then.
    """
    with ExitStack() as stack:
        files: list[FeatureFile] = []
        for path in place.files:
            if path.suffix == ".parquet" and partition is not None:
                files.append(stack.enter_context(ParquetParts(path, scenes, partition)))
                continue
            remove_parts(path)
            temporary = stack.enter_context(atomic_path(path))
            if path.suffix == ".parquet":
                files.append(stack.enter_context(ParquetFile(temporary, scenes)))
            else:
                newline = "" if path.suffix == ".csv" else "\n"
                stream = stack.enter_context(temporary.open("w", encoding="utf-8", newline=newline))
                files.append(_TEXTS[path.suffix](stream))
        yield files
        for file in files:
            file.finish()


class _Collection:
    """One FeatureCollection."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._first = stream, True
        stream.write('{"type": "FeatureCollection", "features": [')

    def add(self, feature: Feature) -> None:
        self._stream.write(("\n" if self._first else ",\n") + feature.geojson)
        self._first = False

    def finish(self) -> None:
        self._stream.write("\n]}\n")
        self._stream.flush()


class _Lines:
    """One feature a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def add(self, feature: Feature) -> None:
        self._stream.write(feature.geojson + "\n")

    def finish(self) -> None:
        self._stream.flush()


CSV_COLUMNS = (
    "scene",
    "row",
    "column",
    "caption",
    "confidence",
    "flags",
    "window",
    "cell",
    "merged",
    "valid_share",
    "gsd_x",
    "gsd_y",
    "longitude",
    "latitude",
    "footprint",
    "footprint_native",
    "crs",
    "run",
    "digest",
)


class _Table:
    """A table: lists are joined by spaces, outlines are WKT, and longitude and latitude are a point inside."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(CSV_COLUMNS)

    def add(self, feature: Feature) -> None:
        place = feature.outline.lonlat
        inside = None if place is None else place.representative_point()
        gsd = feature.gsd or (None, None)
        self._rows.writerow(
            (
                feature.scene,
                feature.row,
                feature.column,
                feature.caption,
                feature.confidence,
                " ".join(feature.flags),
                _joined(feature.window),
                _joined(feature.cell),
                "; ".join(map(_joined, feature.merged)),
                feature.valid_share,
                *gsd,
                None if inside is None else round(inside.x, DECIMALS),
                None if inside is None else round(inside.y, DECIMALS),
                None if place is None else to_wkt(place, rounding_precision=DECIMALS),
                to_wkt(feature.outline.native, rounding_precision=-1),
                feature.crs,
                feature.run,
                feature.digest,
            )
        )

    def finish(self) -> None:
        self._stream.flush()


def _joined(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))


_TEXTS: dict[str, type[_Collection] | type[_Lines] | type[_Table]] = {
    ".geojson": _Collection,
    ".geojsonl": _Lines,
    ".csv": _Table,
}


def write_skipped(path: Path, lines: Iterator[str]) -> None:
    """Write the list of windows that were not captioned."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
