"""A page with the captions of scenes on a map: one file that needs no network, with the windows' pictures beside it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from rscap.errors import DataError, StoreError
from rscap.progress import Progress, Say, no_messages, no_progress
from rscap.scene.opening import opened
from rscap.scene.reading import Scene
from rscap.scene.request import SceneRequest
from rscap.scene.search import captions_of
from rscap.scene.stretch import StretchRule
from rscap.scene.values import read_values
from rscap.store import atomic_path, read_json
from rscap.store.archive import CaptionPlace

MOST = 50_000
"""Windows of one page; a browser draws them all."""
_OVERVIEWS = 8
"""Scenes whose overview stands in the page."""
_OVERVIEW_SIDE = 1_024
_WEB = "EPSG:3857"
_KEPT = ("caption", "confidence", "flags", "scene", "row", "column")
_ASSETS = ("leaflet.css", "leaflet.js", "map.css", "map.js")


@dataclass(frozen=True, slots=True)
class MapPage:
    """What was written."""

    page: Path
    windows: int
    pictures: int
    """Windows with a picture beside the page."""


def write_map(
    out: Path,
    page: Path,
    *,
    pictures: bool = True,
    say: Say = no_messages,
    progress: Progress = no_progress,
) -> MapPage:
    """Write the map page of what `rscap scene` wrote.

    Args:
        out: the file or folder of captions.
        page: the page, `*.html`; an earlier one is replaced. Pictures go into `pictures/` beside it.
        pictures: also the windows as the model saw them, and overviews of the first scenes; the scenes must be there.
        say: receives what could not be shown.
        progress: receives how many scenes are done, and how many there are.

    Raises:
        StoreError: there are no captions, too many for a page, or `page` is not named like one.
    """
    if page.suffix != ".html":
        raise StoreError(f"{page} is not named like a page", hint="such as map.html")
    found = list(captions_of(out))
    if not found or len(found) > MOST:
        what = f"{len(found):,} captions" if found else "no captions"
        raise StoreError(f"{out} holds {what}; a page shows from 1 to {MOST:,}", hint="name the file of some scenes")
    earth = any(one["geometry"] for one in found)
    shown = [one for one in found if one["geometry"] or not earth]
    if len(shown) < len(found):
        say(f"{len(found) - len(shown):,} captions have no place on the Earth and are not on the map")
    features = [{"rings": _rings(one, earth), "properties": _properties(one)} for one in shown]
    overviews: list[dict[str, Any]] = []
    if pictures:
        request = _request(CaptionPlace(out))
        names = list(dict.fromkeys(str(one["properties"]["scene"]) for one in shown))
        for number, name in enumerate(names):
            own = [(source, drawn) for source, drawn in zip(shown, features, strict=True) if _of(source) == name]
            try:
                overviews += _pictured(name, request, own, page.parent, overview=earth and number < _OVERVIEWS)
            except (DataError, OSError) as error:
                say(f"no pictures of {name}: {error.in_one_line if isinstance(error, DataError) else error}")
            progress(number + 1, len(names))
    text = _assembled(out.name, {"earth": earth, "features": features, "overviews": overviews})
    page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return MapPage(page, len(shown), sum("picture" in one["properties"] for one in features))


def _of(feature: Mapping[str, Any]) -> str:
    return str(feature["properties"]["scene"])


def _properties(feature: Mapping[str, Any]) -> dict[str, Any]:
    found = feature["properties"]
    kept: dict[str, Any] = {name: found.get(name) for name in _KEPT}
    flags = kept["flags"] or []
    return {**kept, "flags": flags.split() if isinstance(flags, str) else list(flags)}


def _rings(feature: Mapping[str, Any], earth: bool) -> list[list[list[float]]]:
    """The outer rings as Leaflet takes them: latitude, longitude, not closed; off the Earth up, across."""
    place = feature["geometry"] if earth else feature["properties"].get("footprint_native")
    if not place:
        return []
    polygons = [place["coordinates"]] if place["type"] == "Polygon" else place["coordinates"]
    return [[[round(y, 9), round(x, 9)] for x, y, *_ in rings[0][:-1]] for rings in polygons]


def _request(place: CaptionPlace) -> SceneRequest:
    """How the scenes were read, as the provenance says; by default where there is none."""
    if not place.provenance.is_file():
        return SceneRequest()
    asked = read_json(place.provenance).get("asked", {})
    known = {name: asked[name] for name in ("window", "stride", "gsd", "min_valid", "crs") if name in asked}
    rule = StretchRule(**asked["stretch"]) if asked.get("stretch") else StretchRule()
    return SceneRequest(**known, bands=tuple(asked.get("bands", ())), stretch=rule)


def _pictured(
    name: str,
    request: SceneRequest,
    own: Iterable[tuple[Mapping[str, Any], dict[str, Any]]],
    folder: Path,
    *,
    overview: bool,
) -> list[dict[str, Any]]:
    """Write the pictures of a scene's windows, and give its overview."""
    with opened(name, crs=request.crs, gsd=request.gsd) as raster:
        scene = Scene.of(name, raster, request)
        if scene.stretch is None:
            return []
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for source, drawn in own:
            x, y, width, height = (int(value) for value in _numbers(source["properties"]["window"]))
            values = read_values(name, raster.view, scene.bands, Window(x, y, width, height))
            digest = str(source["properties"].get("digest", "")).rpartition(":")[2] or f"{abs(hash((name, x, y))):x}"
            file = f"pictures/{digest}.jpg"
            pixels = scene.stretch(values)
            upright = pixels[::-1] if raster.ground.mirrored else pixels  # as the model saw it
            with atomic_path(folder / file) as temporary, temporary.open("wb") as stream:
                Image.fromarray(np.ascontiguousarray(upright)).save(stream, "JPEG", quality=82)
            drawn["properties"]["picture"] = file
        return [_overview(name, scene, raster)] if overview else []


def _numbers(given: Any) -> list[float]:
    return [float(one) for one in (given.split() if isinstance(given, str) else given)]


def _overview(name: str, scene: Scene, raster: Any) -> dict[str, Any]:
    """A scene warped to the map's projection, small, in the page; where nothing is valid it is transparent."""
    assert scene.stretch is not None
    with WarpedVRT(raster.view, crs=_WEB, resampling=Resampling.average, add_alpha=True) as warped:
        scale = min(1.0, _OVERVIEW_SIDE / max(warped.width, warped.height))
        shape = max(1, round(warped.height * scale)), max(1, round(warped.width * scale))
        values = read_values(name, warped, scene.bands, None, shape)
        west, south, east, north = transform_bounds(_WEB, "EPSG:4326", *warped.bounds)
    pixels = np.dstack([scene.stretch(values), np.where(values.valid, 255, 0).astype(np.uint8)])
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=80)
    image = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"scene": name, "image": image, "bounds": [[south, west], [north, east]]}


def _assembled(title: str, data: Mapping[str, Any]) -> str:
    folder = files("rscap.scene") / "map"
    text = (folder / "map.html").read_text(encoding="utf-8")
    text = text.replace("@title@", escape(f"Captions of {title}"))
    for name in _ASSETS:
        text = text.replace(f"@{name}@", (folder / name).read_text(encoding="utf-8"))
    encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, safe in (("<", "\\u003c"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        encoded = encoded.replace(sign, safe)  # no caption ends the script that holds the data
    return text.replace("@data@", encoded)
