"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): WKB, a covering box of every row, CRSs as PROJJSON.

`geometry` is the footprint in longitude and latitude, `footprint_native` the same in the scene's CRS. Where no scene
lies on the Earth, `footprint_native` is the primary column and `geometry` is no geometry at all.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyproj import CRS
from shapely import bounds, to_wkb

from rscap.scene.features import Feature
from rscap.store.archive import SceneRow

ROWS_A_GROUP = 2_000
"""Features that are held at a time, and that a reader skips together by their covering boxes."""

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(name, pa.float64()) for name in _SIDES])
_PLACE = pa.list_(pa.int32(), 4)
SCHEMA = pa.schema(
    [
        ("scene", pa.string()),
        ("row", pa.int32()),
        ("column", pa.int32()),
        ("caption", pa.string()),
        ("confidence", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("window", _PLACE),
        ("cell", _PLACE),
        ("merged", pa.list_(_PLACE)),
        ("valid_share", pa.float64()),
        ("gsd", pa.list_(pa.float64())),
        ("run", pa.string()),
        ("digest", pa.string()),
        ("crs", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", _BOX),
        ("footprint_native", pa.binary()),
        ("bbox_native", _BOX),
    ]
)


class ParquetFile:
    """A GeoParquet file that features are added to.

    Args:
        path: where it is written.
        scenes: those whose features come; they decide over the CRSs and the primary column.
    """

    def __init__(self, path: Path, scenes: Sequence[SceneRow]) -> None:
        schema = SCHEMA.with_metadata({"geo": json.dumps(geo_metadata(scenes))})
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[Feature] = []

    def add(self, feature: Feature) -> None:
        self._waiting.append(feature)
        if len(self._waiting) >= ROWS_A_GROUP:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer.is_open:
            self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = [dict(one.properties) for one in self._waiting]
        for name, covering, places in (
            ("geometry", "bbox", [one.outline.lonlat for one in self._waiting]),
            ("footprint_native", "bbox_native", [one.outline.native for one in self._waiting]),
        ):
            for row, place, content, box in zip(rows, places, to_wkb(places), bounds(places), strict=True):
                row[name] = content
                row[covering] = None if place is None else dict(zip(_SIDES, box.tolist(), strict=True))
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._writer.schema))
        self._waiting = []


class ParquetParts:
    """The same features in several files of at most `rows` each, in a folder: readers open it as one table.

    It is written beside its place, and takes its name when it is complete.
    """

    def __init__(self, path: Path, scenes: Sequence[SceneRow], rows: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._scenes, self._rows = path, scenes, rows
        self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        self._count, self._part = 0, self._next(0)

    def add(self, feature: Feature) -> None:
        if self._count and self._count % self._rows == 0:
            self._part.finish()
            self._part = self._next(self._count // self._rows)
        self._part.add(feature)
        self._count += 1

    def finish(self) -> None:
        self._part.finish()
        self._folder.chmod(0o755)
        if self._path.is_file():
            self._path.unlink()
        remove_parts(self._path)
        self._folder.rename(self._path)

    def __enter__(self) -> ParquetParts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _next(self, number: int) -> ParquetFile:
        return ParquetFile(self._folder / f"part-{number:05}.parquet", self._scenes)


def remove_parts(path: Path) -> None:
    """Remove a folder that holds parts of a table and nothing else; its captions are still in the ledger."""
    if path.is_dir() and all(re.fullmatch(r"part-\d+\.parquet", one.name) for one in path.iterdir()):
        shutil.rmtree(path)


def geo_metadata(scenes: Sequence[SceneRow]) -> dict[str, Any]:
    """The metadata of the two columns; known before any row, so that files of one table have the same."""
    names = {facts.crs for facts in scenes}
    native = _column("bbox_native", names.pop() if len(names) == 1 else None)
    columns = {"footprint_native": native}
    if not scenes or any(facts.earth for facts in scenes):
        columns = {"geometry": _column("bbox", "OGC:CRS84"), **columns}
    return {"version": "1.1.0", "primary_column": next(iter(columns)), "columns": columns}


def _column(covering: str, crs: str | None) -> dict[str, Any]:
    """Of one column; CRS null where scenes have several, or none."""
    return {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon", "Polygon"],
        "crs": None if crs is None else CRS.from_user_input(crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: [covering, side] for side in _SIDES}},
    }
