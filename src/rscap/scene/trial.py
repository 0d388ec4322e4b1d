"""`rscap scene --dry-run`: how many windows there are, how many would be skipped, and how long it would take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from os import PathLike

import numpy as np

from rscap.errors import SceneError
from rscap.progress import Say
from rscap.scene.aoi import Area
from rscap.scene.job import Asked
from rscap.scene.opening import opened
from rscap.scene.reading import Chip, Scene
from rscap.scene.request import SceneRequest
from rscap.scene.sources import scenes_of
from rscap.scene.values import read_values
from rscap.scene.work import asking

_MASK_PIXELS = 2**24
"""The mask of a scene is looked at in at most this many pixels; of a larger scene the skipped windows are estimated."""


def dry_run(
    scenes: str | PathLike[str] | Iterable[str | PathLike[str]], asked: Asked, request: SceneRequest, *, say: Say
) -> bool:
    """Say what a call would do, without writing anything; whether a scene cannot be captioned.

    The time is that of one batch of real windows, read and captioned, times the number of batches; loading the model
    comes on top.

    Raises:
        SceneError: no scene is named.
    """
    area = Area.of(request.aoi) if request.aoi else None
    total, skipped, broken, sample = 0, 0, False, list[Chip]()
    reading = 0.0
    names = scenes_of(scenes)
    for name in names:
        try:
            with opened(name, crs=request.crs, gsd=request.gsd) as raster:
                scene = Scene.of(name, raster, request)
                windows, left_out, exact = _counted(scene, request, area)
                say(f"{name}: {windows:,} windows, {'' if exact else 'about '}{left_out:,} skipped")
                total, skipped = total + windows, skipped + left_out
                started = time.perf_counter()
                wanted = asked.batch_size - len(sample)
                sample += _some(scene, request, area, wanted)
                reading += time.perf_counter() - started
        except SceneError as error:
            say(f"error: {error.in_one_line}")
            broken = True
    said = f"{len(names):,} scene{'s' if len(names) > 1 else ''}, {total:,} windows, {skipped:,} skipped"
    if sample:
        seconds = _seconds(asked, sample) + reading / len(sample)
        said += f", {max(1, round(seconds * (total - skipped))):,} seconds without loading the model"
    say(said)
    return broken


def _counted(scene: Scene, request: SceneRequest, area: Area | None) -> tuple[int, int, bool]:
    """Windows, those that would be skipped, and whether the latter is exact."""
    view = scene.raster.view
    shrink = max(1.0, (view.width * view.height / _MASK_PIXELS) ** 0.5)
    shape = (max(1, round(view.height / shrink)), max(1, round(view.width / shrink)))
    valid = read_values(scene.name, view, scene.bands, out_shape=shape).valid
    windows = skipped = 0
    for tile in scene.tiles(area):
        box = tile.window
        rows = slice(int(box.y / shrink), max(int(np.ceil(box.bottom / shrink)), 1))
        part = valid[rows, int(box.x / shrink) : max(int(np.ceil(box.right / shrink)), 1)]
        share = float(part.mean()) if part.size else 0.0
        windows += 1
        skipped += share == 0.0 or share < request.min_valid
    return windows, skipped, shrink == 1.0


def _some(scene: Scene, request: SceneRequest, area: Area | None, wanted: int) -> list[Chip]:
    chips: list[Chip] = []
    for tile in scene.tiles(area) if wanted > 0 else ():
        if isinstance(chip := scene.read(tile, request.min_valid), Chip):
            chips.append(chip)
        if len(chips) >= wanted:
            break
    return chips


def _seconds(asked: Asked, sample: list[Chip]) -> float:
    """Seconds that a window takes to caption, after a first batch that warms the model up."""
    ask = asking(asked.load())
    pictures = [chip.picture for chip in sample]
    list(ask(pictures[:1]))
    started = time.perf_counter()
    list(ask(pictures))
    return (time.perf_counter() - started) / len(pictures)
