"""Which bands of a scene are its picture: chosen by the caller, or by what the file says of them; never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rscap.errors import SceneError
from rscap.scene.opening import is_remote

COLOURS = ("red", "green", "blue")
Kind = Literal["rgb", "grey", "palette"]


@dataclass(frozen=True, slots=True)
class Bands:
    """The bands that are shown: three for a colour picture, one for grey or a palette."""

    indexes: tuple[int, ...]
    """Counted from 1, in the order red, green, blue."""
    kind: Kind
    chosen_by: str
    """What chose them: `--bands`, `colour interpretation`, `band descriptions`, `STAC common_name`, `only band`."""
    alpha: int | None = None


def choose(path: str, source: Any, wanted: Sequence[str] = ()) -> Bands:
    """The bands of a dataset that make a picture.

    Args:
        path: names the scene; a STAC Item `<path>.json` or `<stem>.json` beside a local file is read.
        source: an opened rasterio dataset.
        wanted: one or three numbers, counted from 1, or names as in the descriptions, in the order red, green, blue.

    Raises:
        SceneError: a band that is not there, or nothing says which bands are red, green and blue; lists all bands.
    """
    interpreted = [one.name for one in source.colorinterp]
    alpha = interpreted.index("alpha") + 1 if "alpha" in interpreted else None
    if wanted:
        return Bands(_wanted(path, source, wanted), "rgb" if len(wanted) == 3 else "grey", "--bands", alpha)
    colour = [place for place in range(1, source.count + 1) if place != alpha]
    if len(colour) == 1:
        kind: Kind = "palette" if interpreted[colour[0] - 1] == "palette" else "grey"
        return Bands((colour[0],), kind, "only band", alpha)
    ways: tuple[tuple[str, list[str]], ...] = (
        ("colour interpretation", interpreted),
        ("band descriptions", [_common(text or "") for text in source.descriptions]),
        ("STAC common_name", _common_names(path, source)),
    )
    for way, names in ways:
        if all(names.count(name) == 1 for name in COLOURS):
            return Bands(tuple(names.index(name) + 1 for name in COLOURS), "rgb", way, alpha)
    raise SceneError(
        f"{path}: nothing says which of its {source.count} bands are red, green and blue",
        hint=f"choose {_example(source.count)}:\n    {listed(source)}",
    )


def _example(count: int) -> str:
    return "three, or one for grey, e.g. --bands 3,2,1" if count >= 3 else "one, which is shown as grey, e.g. --bands 1"


def listed(source: Any) -> str:
    """A line for each band: number, type, colour interpretation, description."""
    rows = zip(source.dtypes, source.colorinterp, source.descriptions, strict=True)
    return "\n    ".join(
        f"{number}  {kind}  {colour.name}" + (f"  {text!r}" if text else "")
        for number, (kind, colour, text) in enumerate(rows, start=1)
    )


def _wanted(path: str, source: Any, wanted: Sequence[str]) -> tuple[int, ...]:
    if len(wanted) not in (1, 3):
        raise SceneError(f"--bands names {len(wanted)} bands", hint="three (red, green, blue), or one for grey")
    names = [(text or "").casefold() for text in source.descriptions]
    found = []
    for name in wanted:
        place = int(name) if re.fullmatch(r"\d+", name.strip()) else 0
        if not place and name.strip().casefold() in names:
            place = names.index(name.strip().casefold()) + 1
        if not 1 <= place <= source.count:
            raise SceneError(f"{path}: has no band {name!r}", hint=f"it has:\n    {listed(source)}")
        found.append(place)
    return tuple(found)


_SENTINEL_2 = {"b02": "blue", "b2": "blue", "b03": "green", "b3": "green", "b04": "red", "b4": "red"}


def _common(description: str) -> str:
    """`red`, `green` or `blue` of descriptions such as `Red`, `red band`, or Sentinel-2's `B04`."""
    words = re.findall(r"[a-z0-9]+", description.lower())
    named = [word for word in words if word in COLOURS]
    if len(named) == 1 and not {"edge", "rededge"} & set(words):
        return named[0]
    return _SENTINEL_2.get(words[0], "") if len(words) == 1 else ""


def _common_names(path: str, source: Any) -> list[str]:
    """`common_name` of each band: from the bands' own tags, else from a STAC Item beside the file."""
    tags = [source.tags(number) for number in range(1, source.count + 1)]
    own = [next((row[key] for key in ("common_name", "eo:common_name") if key in row), "") for row in tags]
    if any(own) or is_remote(path):
        return own
    file = Path(path)
    for beside in (file.with_name(f"{file.name}.json"), file.with_suffix(".json")):
        if beside.is_file():
            names = _of_item(beside, file.name, source.count)
            if names:
                return names
    return own


def _of_item(item: Path, name: str, count: int) -> list[str]:
    """The common names of the asset of a STAC Item that is this file; [] where it does not say."""
    try:
        assets = json.loads(item.read_text(encoding="utf-8"))["assets"].values()
        own = [asset for asset in assets if Path(str(asset.get("href", ""))).name == name]
        for asset in own:
            bands = asset.get("bands") or asset.get("eo:bands") or []
            names = [str(band.get("eo:common_name") or band.get("common_name") or "") for band in bands]
            if len(names) == count:
                return names
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []  # some other JSON file
    return []
