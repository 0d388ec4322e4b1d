"""Captions found by their words, in whatever `rscap scene` wrote."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from shapely import from_wkb, from_wkt

from rscap.errors import StoreError
from rscap.scene.outline import coordinates
from rscap.scoring.porter import stem
from rscap.store.archive import CAPTION_SUFFIXES

_WORD = re.compile(r"[^\W_]+")
_BEST_FIRST = (".geojsonl", ".parquet", ".geojson", ".csv")
"""Of several files with the same captions the first is read: the cheapest to read in parts."""


@dataclass(frozen=True, slots=True)
class Found:
    """A caption that has the words."""

    geojson: dict[str, Any]
    """A GeoJSON feature, as the file holds it; of a table, with the columns that it has."""

    @property
    def properties(self) -> dict[str, Any]:
        found: dict[str, Any] = self.geojson["properties"]
        return found

    @property
    def line(self) -> str:
        """One line for a terminal: where, how sure, what."""
        one = self.properties
        place = f"{one.get('scene')} {one.get('row')},{one.get('column')}"
        middle = _middle(self.geojson.get("geometry"))
        confidence = one.get("confidence")
        return "\t".join(
            (
                place,
                "" if middle is None else f"{middle[0]:.6f},{middle[1]:.6f}",
                "" if confidence is None else f"{confidence:.2f}",
                " ".join(str(one["caption"]).split()),
            )
        )


def caption_search(out: str | PathLike[str], words: str, *, min_confidence: float | None = None) -> Iterator[Found]:
    """The captions that contain all of some words, in any order; words count by their stem, so plurals are the same.

    Args:
        out: a file that `rscap scene` wrote, or a folder with such files in it.
        words: such as `solar panels`.
        min_confidence: captions with a lower mean log-probability per token, or with none, are left out.

    Raises:
        StoreError: there is nothing to search, or a file is damaged; names it.
    """
    wanted = _stems(words)
    if not wanted:
        raise StoreError(f"{words!r} has no words to look for", hint='such as "solar panels"')
    for path in _files(Path(out)):
        for feature in _features(path):
            one = feature["properties"]
            if min_confidence is not None and not (one.get("confidence") or float("-inf")) >= min_confidence:
                continue
            if wanted <= _stems(str(one["caption"])):
                yield Found(feature)


def captions_of(out: Path) -> Iterator[dict[str, Any]]:
    """Every feature of a file of captions, or of a folder with such files.

    Raises:
        StoreError: there are none, or a file is damaged; names it.
    """
    for path in _files(out):
        yield from _features(path)


def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()))


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return stem(word)


def _files(out: Path) -> list[Path]:
    """The files to read: of one folder and name the best alone."""
    if out.is_file():
        return [out]
    if not out.is_dir():
        raise StoreError(f"{out} does not exist", hint="name what `rscap scene --out` wrote")
    groups: dict[Path, set[str]] = {}
    for path in out.rglob("*"):
        if path.suffix in CAPTION_SUFFIXES and path.is_file():  # also the parts of a table in a folder
            groups.setdefault(path.with_suffix(""), set()).add(path.suffix)
    if not groups:
        raise StoreError(f"{out} holds no captions", hint=f"looked for {', '.join(CAPTION_SUFFIXES)}")
    chosen = {base: next(one for one in _BEST_FIRST if one in suffixes) for base, suffixes in groups.items()}
    return [base.parent / f"{base.name}{suffix}" for base, suffix in sorted(chosen.items())]


def _features(path: Path) -> Iterator[dict[str, Any]]:
    readers = {".geojsonl": _lines, ".geojson": _collection, ".parquet": _parquet, ".csv": _csv}
    if path.suffix not in readers:
        raise StoreError(f"{path} is not a file of captions", hint=f"one of {', '.join(CAPTION_SUFFIXES)}")
    try:
        for feature in readers[path.suffix](path):
            if "caption" not in feature["properties"]:
                raise KeyError("caption")
            yield feature
    except KeyError as error:
        raise StoreError(
            f"{path} holds no captions of a scene: {error} is missing", hint="name what `rscap scene --out` wrote"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} holds no captions that can be read: {error}") from None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def _collection(path: Path) -> Iterator[dict[str, Any]]:
    yield from json.loads(path.read_text(encoding="utf-8"))["features"]


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                place = row.pop("geometry", None)
                for name in ("footprint_native", "bbox", "bbox_native"):
                    row.pop(name, None)
                yield _feature(None if place is None else coordinates(from_wkb(place)), row)


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            place = row.pop("footprint")
            content: dict[str, Any] = dict(row)
            content["confidence"] = float(row["confidence"]) if row["confidence"] else None
            yield _feature(coordinates(from_wkt(place)) if place else None, content)


def _feature(geometry: dict[str, Any] | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _middle(geometry: dict[str, Any] | None) -> tuple[float, float] | None:
    """The middle of the first polygon of a geometry."""
    if geometry is None:
        return None
    ring = geometry["coordinates"][0] if geometry["type"] == "Polygon" else geometry["coordinates"][0][0]
    xs, ys = [point[0] for point in ring], [point[1] for point in ring]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
