"""A STAC Item (1.1.0, https://github.com/radiantearth/stac-spec) for each scene that was captioned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

from pyproj import CRS

from rscap.scene.features import ground_of
from rscap.scene.opening import is_remote
from rscap.scene.outline import coordinates, outline
from rscap.scene.windows import Box
from rscap.store import write_json
from rscap.store.archive import CaptionPlace, Ledger, SceneRow

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_TYPES = {
    ".geojson": "application/geo+json",
    ".geojsonl": "application/geo+json-seq",
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
}


def write_items(place: CaptionPlace, ledger: Ledger, scenes: Sequence[str], *, run: str) -> None:
    """Write an Item for each scene, named by the scene."""
    assert place.items is not None
    taken: set[str] = set()
    for scene in scenes:
        facts = ledger.scene(scene)
        assert facts is not None
        name = _free(scene, taken)
        write_json(place.items / f"{name}.json", item(facts, name, place, run=run, captions=ledger.captioned(scene)))


def item(facts: SceneRow, name: str, place: CaptionPlace, *, run: str, captions: int) -> dict[str, Any]:
    """The Item of one scene; off the Earth it has neither geometry nor bounds."""
    where = outline(ground_of(facts), Box(0, 0, facts.width, facts.height)).lonlat
    content: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [PROJECTION],
        "id": name,
        "geometry": None if where is None else coordinates(where),
        "properties": {**_time(facts), **_projection(facts), **_captioned(facts, run, captions)},
        "links": [],
        "assets": _assets(facts, place),
    }
    if where is not None:
        content["bbox"] = _bounds(content["geometry"])
    return content


def _time(facts: SceneRow) -> dict[str, Any]:
    """`datetime`, and where it is from; STAC asks for a range where nothing tells, and knows no other word for it."""
    if facts.time is None:
        return {
            "datetime": None,
            "start_datetime": "0001-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "rscap:datetime_from": None,
        }
    return {"datetime": facts.time, "rscap:datetime_from": facts.time_from}


def _projection(facts: SceneRow) -> dict[str, Any]:
    found: dict[str, Any] = {
        "proj:shape": [facts.height, facts.width],
        "proj:transform": list(facts.transform),
        "proj:code": None,
    }
    if facts.crs is not None and re.fullmatch(r"[A-Za-z]+:\w+", facts.crs):
        found["proj:code"] = facts.crs
    elif facts.crs is not None:
        found["proj:wkt2"] = facts.crs
        found["proj:projjson"] = CRS.from_user_input(facts.crs).to_json_dict()
    return found


def _captioned(facts: SceneRow, run: str, captions: int) -> dict[str, Any]:
    return {
        "rscap:run": run,
        "rscap:digest": facts.digest,
        "rscap:captions": captions,
        "rscap:bands": list(facts.bands),
        "rscap:stretch": facts.stretch,
        "rscap:gsd": None if facts.gsd is None else [round(value, 6) for value in facts.gsd],
    }


def _assets(facts: SceneRow, place: CaptionPlace) -> dict[str, Any]:
    assert place.items is not None
    href = facts.scene
    if not is_remote(href) and Path(href).is_file():
        href = Path(relpath(href, place.items)).as_posix()
    found: dict[str, Any] = {"scene": {"href": href, "roles": ["data"]}}
    for path in place.files:
        found[f"captions-{path.suffix[1:]}"] = {
            "href": f"../{path.name}",
            "type": _TYPES[path.suffix],
            "roles": ["metadata"],
            "title": "Captions of all scenes of this folder",
        }
    return found


def _bounds(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north as RFC 7946 writes them: west is above east where the antimeridian lies between."""
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    boxes = [_box([point for ring in part for point in ring]) for part in parts]
    south, north = min(one[1] for one in boxes), max(one[3] for one in boxes)
    touching_east = [one for one in boxes if one[2] == 180.0]
    touching_west = [one for one in boxes if one[0] == -180.0]
    if len(boxes) > 1 and touching_east and touching_west:
        return [min(one[0] for one in touching_east), south, max(one[2] for one in touching_west), north]
    return [min(one[0] for one in boxes), south, max(one[2] for one in boxes), north]


def _box(points: list[list[float]]) -> tuple[float, float, float, float]:
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def _free(scene: str, taken: set[str]) -> str:
    """A name for the Item of a scene: that of its file, with a number where two files share it."""
    base = re.sub(r"[^\w.-]+", "-", re.split(r"[/\\]", scene.rstrip("/"))[-1]).strip("-") or "scene"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name
