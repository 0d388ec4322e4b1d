"""From lines of the ledger to features: a caption with its place and flags; repeats over the same ground are merged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from pyproj import CRS
from rasterio.transform import Affine
from shapely import unary_union

from rscap.scene.ground import Ground, ground_sizes
from rscap.scene.outline import Outline, coordinates, oriented, outlines
from rscap.scene.windows import Box
from rscap.scoring.diagnostics import degenerate
from rscap.store.archive import Ledger, SceneRow, WindowRow

MERGED_SHARE = 0.25
"""A caption is said twice of the same ground where windows share at least this part of a window."""


_TOGETHER = 256
"""Windows that are placed together."""


@dataclass(frozen=True)
class Feature:
    """One caption with its place."""

    scene: str
    row: int
    column: int
    caption: str
    confidence: float | None
    flags: tuple[str, ...]
    window: tuple[int, int, int, int]
    cell: tuple[int, int, int, int]
    valid_share: float
    gsd: tuple[float, float] | None
    run: str
    digest: str
    crs: str | None
    outline: Outline
    merged: tuple[tuple[int, int, int, int], ...] = ()
    """Windows that share ground with this one and got the same caption."""

    @cached_property
    def geojson(self) -> str:
        """A GeoJSON feature (RFC 7946), as text."""
        place = self.outline.lonlat
        content = {
            "type": "Feature",
            "id": f"{self.scene}#{self.row},{self.column}",
            "geometry": None if place is None else coordinates(place),
            "properties": self.properties,
        }
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    @cached_property
    def properties(self) -> dict[str, Any]:
        """As GeoJSON holds them."""
        return {
            "caption": self.caption,
            "confidence": self.confidence,
            "flags": list(self.flags),
            "scene": self.scene,
            "row": self.row,
            "column": self.column,
            "window": list(self.window),
            "cell": list(self.cell),
            "merged": [list(window) for window in self.merged],
            "valid_share": self.valid_share,
            "gsd": None if self.gsd is None else list(self.gsd),
            "run": self.run,
            "digest": self.digest,
            "crs": self.crs,
            "footprint_native": coordinates(self.outline.native, None),
        }


@dataclass(slots=True)
class _Kept:
    """A window that is kept, and those that repeat it."""

    line: WindowRow
    box: Box
    repeats: list[Box] = field(default_factory=list)


def ground_of(facts: SceneRow) -> Ground:
    """Where a scene of the ledger lies."""
    crs = None if facts.crs is None else CRS.from_user_input(facts.crs)
    return Ground(Affine(*facts.transform), crs, facts.earth)


def features(
    ledger: Ledger, scene: str, *, run: str, prefix: str | None, low_confidence: float, overlaps: bool
) -> Iterator[Feature]:
    """The captions of one scene, by row and column."""
    facts = ledger.scene(scene)
    assert facts is not None
    ground = ground_of(facts)
    lines = (line for line in ledger.windows(scene) if isinstance(line, WindowRow))
    coming = _merged(lines) if overlaps else (_Kept(line, Box(*line.window)) for line in lines)
    while kept := list(islice(coming, _TOGETHER)):
        sizes = ground_sizes(
            ground,
            np.array([one.box.x + one.box.width / 2 for one in kept]),
            np.array([one.box.y + one.box.height / 2 for one in kept]),
        )
        places = iter(outlines(ground, [box for one in kept for box in (one.box, *one.repeats)]))
        for one, size in zip(kept, sizes, strict=True):
            line = one.line
            yield Feature(
                scene=scene,
                row=line.row,
                column=line.column,
                caption=line.caption,
                confidence=line.confidence,
                flags=flags(line, prefix, low_confidence),
                window=line.window,
                cell=line.cell,
                valid_share=line.valid_share,
                gsd=_rounded(size),
                run=run,
                digest=line.digest,
                crs=facts.crs,
                outline=_union(list(islice(places, 1 + len(one.repeats)))),
                merged=tuple((box.x, box.y, box.width, box.height) for box in one.repeats),
            )


def flags(line: WindowRow, prefix: str | None, low_confidence: float) -> tuple[str, ...]:
    """What to know before a caption is believed; nothing is dropped for it.

    `low-confidence`; `near-tie`: rounding could turn a choice of tokens; `cut`: the length limit ended it; and the
    kinds of `rscap.scoring.diagnostics.degenerate`: `loop`, `empty`, `prompt-echo`, `non-language`.
    """
    found = {
        "low-confidence": line.confidence is not None and line.confidence < low_confidence,
        "near-tie": line.near_ties > 0,
        "cut": line.stopped == "length",
    }
    return (*(name for name, holds in found.items() if holds), *degenerate(line.caption, prefix))


def _merged(lines: Iterator[WindowRow]) -> Iterator[_Kept]:
    """Windows by row and column, without those that repeat the caption of one that was kept over the same ground."""
    waiting: list[_Kept] = []
    for line in lines:
        box = Box(*line.window)
        while waiting and waiting[0].box.bottom <= box.y:  # no later window reaches up to it
            yield waiting.pop(0)
        same = (one for one in waiting if one.line.caption == line.caption)
        shared = next((one for one in same if one.box.shared(box) >= MERGED_SHARE * box.area), None)
        if shared:
            shared.repeats.append(box)
        else:
            waiting.append(_Kept(line, box))
    yield from waiting


def _union(outlines: list[Outline]) -> Outline:
    if len(outlines) == 1:
        return outlines[0]
    places = [one.lonlat for one in outlines]
    native = oriented(unary_union([one.native for one in outlines]))
    lonlat = None if any(one is None for one in places) else oriented(unary_union(places))
    return Outline(native, lonlat)


def _rounded(size: tuple[float, float] | None) -> tuple[float, float] | None:
    """Metres to the micrometre: enough for any use, and free of rounding noise."""
    return None if size is None else (round(size[0], 6), round(size[1], 6))
