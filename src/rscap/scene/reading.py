"""The windows of one scene as pictures, read one by one; those that are not to be captioned, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from rscap.data.images import PixelImage
from rscap.records import Picture
from rscap.scene.aoi import Area
from rscap.scene.bands import Bands, choose
from rscap.scene.ground import ground_size
from rscap.scene.identity import Identity, identify, scene_time
from rscap.scene.opening import Raster, check_sources
from rscap.scene.request import SceneRequest
from rscap.scene.stretch import Stretch, find_stretch
from rscap.scene.values import Unreadable, read_values
from rscap.scene.windows import Grid, Tile
from rscap.store.archive import SceneRow, SkippedRow

_BLOCK_PIXELS = 1024
"""Windows are read in squares of about this size, so that a block of a tiled file is decoded once."""

NO_PIXEL = "no valid pixel"


@dataclass(frozen=True, slots=True)
class Chip:
    """A window as the model sees it."""

    tile: Tile
    valid_share: float
    digest: str
    picture: Picture


@dataclass(frozen=True)
class Scene:
    """An opened scene, ready to be cut into chips."""

    name: str
    raster: Raster
    grid: Grid
    bands: Bands
    stretch: Stretch | None
    """None where the scene has no valid pixel."""
    identity: Identity
    time: tuple[str | None, str | None]

    @classmethod
    def of(cls, name: str, raster: Raster, request: SceneRequest, known: SceneRow | None = None) -> Scene:
        """What decides over the pixels of a scene, found once; its stretch is as `known`, where it was found before.

        Raises:
            SceneError: its bands cannot be chosen, or it cannot be read.
        """
        identity = identify(name, raster.source)
        bands = choose(name, raster.source, request.bands)
        if known is None:
            check_sources(name, raster.source)
            stretch = find_stretch(name, raster.source, bands, request.stretch)
        else:
            stretch = Stretch.known(known.stretch) if known.stretch else None
        return cls(
            name=name,
            raster=raster,
            grid=Grid.of(raster.width, raster.height, window=request.window, stride=request.step),
            bands=bands,
            stretch=stretch,
            identity=identity,
            time=scene_time(raster.source, identity),
        )

    @property
    def gsd(self) -> tuple[float, float] | None:
        """Metres that a pixel covers in the middle of the scene."""
        return ground_size(self.raster.ground, self.raster.width / 2, self.raster.height / 2)

    @property
    def row(self) -> SceneRow:
        """What the ledger holds of the scene."""
        ground = self.raster.ground
        a, b, c, d, e, f = (float(value) for value in ground.transform[:6])
        return SceneRow(
            scene=self.name,
            digest=self.identity.digest,
            width=self.raster.width,
            height=self.raster.height,
            crs=ground.name,
            earth=ground.earth,
            cache_bytes=self.raster.cache_bytes,
            transform=(a, b, c, d, e, f),
            rows=len(self.grid.down.windows),
            columns=len(self.grid.across.windows),
            bands=self.bands.indexes,
            bands_chosen_by=self.bands.chosen_by,
            stretch=self.stretch.numbers if self.stretch else {},
            nodata=None if self.raster.source.nodata is None else f"{self.raster.source.nodata:g}",
            gsd=self.gsd,
            time=self.time[0],
            time_from=self.time[1],
            notes=(*self.raster.notes, *(self.stretch.notes if self.stretch else ())),
        )

    def tiles(self, area: Area | None = None) -> Iterator[Tile]:
        """The tiles of an area, or all of them, in the order in which they are read."""
        tall, wide = self.raster.view.block_shapes[0]
        in_strips = wide >= self.raster.width and tall < self.grid.window
        for tile in self.grid.tiles(None if in_strips else max(1, _BLOCK_PIXELS // self.grid.stride)):
            if area is None or area.touches(self.raster.ground, tile.cell):
                yield tile

    def read(self, tile: Tile, min_valid: float) -> Chip | SkippedRow:
        """One window: its picture, or why it is skipped."""
        window = tile.window
        if self.stretch is None:
            return self._skipped(tile, 0.0, NO_PIXEL)
        place = Window(window.x, window.y, window.width, window.height)
        try:
            values = read_values(self.name, self.raster.view, self.bands, place)
        except Unreadable as error:
            self.identity.check_unchanged()
            return self._skipped(tile, None, error.message.removeprefix(f"{self.name}: "))
        share = float(values.valid.mean())
        if share == 0.0 or share < min_valid:
            what = NO_PIXEL if share == 0.0 else f"{share:.1%} of its pixels are valid, less than {min_valid:.1%}"
            return self._skipped(tile, share, what)
        name = f"{self.name}#{tile.row},{tile.column}"
        picture = Picture(id=name, image=PixelImage(self._image(self.stretch(values)), name))
        return Chip(tile, share, self.identity.of_window(values), picture)

    def _image(self, pixels: NDArray[np.uint8]) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(pixels[::-1]) if self.raster.ground.mirrored else pixels)

    def _skipped(self, tile: Tile, share: float | None, reason: str) -> SkippedRow:
        return SkippedRow(
            scene=self.name,
            row=tile.row,
            column=tile.column,
            window=numbers(tile.window),
            cell=numbers(tile.cell),
            valid_share=share,
            reason=reason,
        )


def numbers(box: Any) -> tuple[int, int, int, int]:
    """(x, y, width, height)."""
    return (box.x, box.y, box.width, box.height)
