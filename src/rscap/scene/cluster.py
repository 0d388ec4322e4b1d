"""`--engine ray`: the windows of many scenes on the workers of a Ray cluster, with one ledger in this process.

A worker surveys a scene (bands, stretch, size), and captions batches of windows, which may come from several scenes.
Each worker has at most two batches at a time, so that it is never idle and nothing piles up. Only this process writes
the ledger: whatever is killed, the same command goes on, and the final files are those of a local run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rscap.errors import SceneError
from rscap.scene.aoi import Area
from rscap.scene.features import ground_of
from rscap.scene.opening import is_remote, opened
from rscap.scene.reading import Chip, Scene
from rscap.scene.request import SceneRequest
from rscap.scene.traffic import Downloads, Needed, counted
from rscap.scene.windows import Grid, Tile
from rscap.scene.work import Ask, asking, begin, ended, rows_of, with_bytes
from rscap.store.archive import EndRow, Ledger, SceneRow, SkippedRow, WindowRow

AHEAD = 2
"""Batches that each worker has at a time, and surveys that wait."""
MOST_DEATHS = 3
"""A batch whose worker dies this often is given up, and its scenes fail."""
_BLOCK_PIXELS = 1024

Place = tuple[int, int]
"""Row and column of a window."""


@dataclass(frozen=True, slots=True)
class Part:
    """Windows of one scene in a batch."""

    facts: SceneRow
    places: list[Place]


@dataclass(slots=True)
class Batch:
    """Windows that a worker captions together."""

    parts: list[Part]
    deaths: int = 0

    @property
    def scenes(self) -> list[str]:
        return [part.facts.scene for part in self.parts]


@dataclass(frozen=True, slots=True)
class Captioned:
    """What a worker made of a batch."""

    lines: list[WindowRow | SkippedRow]
    failed: dict[str, str]
    """Scenes of which nothing is used, with the reason."""
    downloads: dict[str, Downloads]
    """Of remote scenes."""


class Worker:
    """What runs on the cluster: one model, asked by one process."""

    def __init__(self, load: Callable[[], Any], request: SceneRequest, threads: int, folder: str) -> None:
        self._load, self._request, self._threads = load, request, threads
        if os.path.isdir(folder):
            os.chdir(folder)  # where the names of scenes are meant
        self._ask: Ask | None = None

    def survey(self, name: str) -> tuple[SceneRow | str, Downloads | None]:
        """What is found of a scene, or why it fails; and what was downloaded of a remote one."""
        try:
            with counted(name) as traffic, opened(name, crs=self._request.crs, gsd=self._request.gsd) as raster:
                found = Scene.of(name, raster, self._request).row
                return found, Downloads(traffic.read) if is_remote(name) else None
        except SceneError as error:
            return error.in_one_line, None

    def caption(self, parts: list[Part]) -> Captioned:
        """Caption the windows of a batch."""
        read: list[tuple[str, Chip]] = []
        lines: list[WindowRow | SkippedRow] = []
        failed: dict[str, str] = {}
        downloads: dict[str, Downloads] = {}
        for part in parts:
            try:
                for one in self._chips(part, downloads):
                    if isinstance(one, SkippedRow):
                        lines.append(one)
                    else:
                        read.append((part.facts.scene, one))
            except SceneError as error:
                failed[part.facts.scene] = error.in_one_line
        answers = list(self._asking()([chip.picture for _, chip in read])) if read else []
        for (scene, chip), answer in zip(read, answers, strict=True):
            lines += rows_of(scene, [chip], [answer])
        return Captioned([line for line in lines if line.scene not in failed], failed, downloads)

    def _chips(self, part: Part, downloads: dict[str, Downloads]) -> list[Chip | SkippedRow]:
        name = part.facts.scene
        with counted(name) as traffic, opened(name, crs=self._request.crs, gsd=self._request.gsd) as raster:
            scene = Scene.of(name, raster, self._request, part.facts)
            if scene.identity.digest != part.facts.digest:
                raise SceneError(
                    f"{scene.name}: the file was changed while it was read", hint="caption it again with --retry"
                )
            tiles = [scene.grid.tile(*place) for place in part.places]
            found = [scene.read(tile, self._request.min_valid) for tile in tiles]
            scene.identity.check_unchanged()
            if is_remote(name):
                needed = Needed(raster, scene.bands.indexes)
                for tile in tiles:
                    needed.add(tile.window)
                downloads[name] = Downloads(traffic.read, needed.blocks)
            return found

    def _asking(self) -> Ask:
        if self._ask is None:
            if self._threads:
                import torch

                torch.set_num_threads(self._threads)
            self._ask = asking(self._load())
        return self._ask


@dataclass(slots=True)
class _Open:
    """A scene whose windows are being captioned."""

    facts: SceneRow
    coming: Iterator[Tile]
    out: int = 0
    """Windows that are with workers."""
    handed: bool = False
    """Whether all of its windows were handed out."""
    downloads: Downloads | None = None
    """Of a remote scene."""


@dataclass(slots=True)
class Archive:
    """The scenes of a call: which windows come next, and when a scene has ended."""

    ledger: Ledger
    request: SceneRequest
    area: Area | None
    batch_size: int
    finished: Callable[[EndRow], None]
    _open: dict[str, _Open] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)
    _next: list[tuple[SceneRow, Place]] = field(default_factory=list)
    _again: deque[Batch] = field(default_factory=deque)

    def surveyed(self, name: str, found: SceneRow | str, downloads: Downloads | None) -> None:
        """Take in what a worker found of a scene."""
        if isinstance(found, str):
            self._end(EndRow(scene=name, state="failed", reason=found))
            return
        begin(self.ledger, found)
        self._open[name] = _Open(found, self._missing(found), downloads=downloads)
        self._waiting.append(name)

    def batch(self, *, whole: bool) -> Batch | None:
        """The next batch, of one scene or several; None where there is none.

        Args:
            whole: wait for more windows where there are too few: more scenes are about to come.
        """
        if self._again:
            return self._again.popleft()
        while self._waiting and len(self._next) < self.batch_size:
            one = self._open[self._waiting[0]]
            tile = next(one.coming, None)
            if tile is None:
                one.handed = True
                self._waiting.popleft()
                self._check(one)
            else:
                one.out += 1
                self._next.append((one.facts, (tile.row, tile.column)))
        if not self._next or (whole and len(self._next) < self.batch_size):
            return None
        taken, self._next = self._next, []
        places: dict[str, Part] = {}
        for facts, place in taken:
            places.setdefault(facts.scene, Part(facts, [])).places.append(place)
        return Batch(list(places.values()))

    def captioned(self, batch: Batch, made: Captioned) -> int:
        """Note what a worker made of a batch; how many windows that is."""
        alive = [line for line in made.lines if line.scene in self._open]
        if alive:
            self.ledger.add(alive)
        for scene, downloads in made.downloads.items():
            if (known := self._open.get(scene)) is not None and known.downloads is not None:
                known.downloads.add(downloads)
        for scene, reason in made.failed.items():
            self._fail(scene, reason)
        for part in batch.parts:
            if (one := self._open.get(part.facts.scene)) is not None:
                one.out -= len(part.places)
                self._check(one)
        return len(alive)

    def back(self, batch: Batch) -> None:
        """A batch that was lost with its worker, without having been begun."""
        self._again.append(batch)

    def died(self, batch: Batch, reason: str) -> None:
        """A worker died with a batch: another gets it, unless it has killed several."""
        batch.deaths += 1
        if batch.deaths < MOST_DEATHS:
            self._again.append(batch)
            return
        for scene in batch.scenes:
            self._fail(scene, f"{MOST_DEATHS} workers ended while they captioned a part of it: {reason[:200]}")

    @property
    def busy(self) -> bool:
        """Whether a scene was surveyed and has not ended."""
        return bool(self._open)

    def _missing(self, facts: SceneRow) -> Iterator[Tile]:
        """The windows of a scene that are not in the ledger yet."""
        grid = Grid.of(facts.width, facts.height, window=self.request.window, stride=self.request.step)
        ground = ground_of(facts)
        for tile in grid.tiles(max(1, _BLOCK_PIXELS // self.request.step)):
            if self.ledger.has(facts.scene, tile.row, tile.column):
                continue
            if self.area is None or self.area.touches(ground, tile.cell):
                yield tile

    def _check(self, one: _Open) -> None:
        if one.handed and not one.out and one.facts.scene in self._open:
            end = ended(self.ledger, one.facts.scene)
            self._end(end if one.downloads is None else with_bytes(end, one.downloads))

    def _fail(self, scene: str, reason: str) -> None:
        if scene in self._open:
            self._end(EndRow(scene=scene, state="failed", reason=reason))

    def _end(self, end: EndRow) -> None:
        self._open.pop(end.scene, None)
        if end.scene in self._waiting:
            self._waiting.remove(end.scene)
        self._next = [one for one in self._next if one[0].scene != end.scene]
        self.ledger.add([end])
        self.finished(end)
