"""A raster as rscap reads it: opened through GDAL, checked, and placed on the ground.

A scene is read as it is, or through a warped view: where its place is given by ground control points, or where `--gsd`
asks for another pixel size. Whatever the format, the result has pixels, a mask, and a transform into its CRS.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from rscap.errors import SceneError
from rscap.scene.ground import Ground, ground_size

CACHE_BYTES = 24 * 2**20
"""GDAL's cache of decoded blocks, whatever the size of the scene; `GDAL_CACHEMAX` in the environment replaces it."""
_MOST_CACHE_BYTES = 512 * 2**20
_REMOTE = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift", "/vsihdfs", "/vsiwebhdfs")
_BESIDE = (".xml", ".ovr", ".msk")
"""Files that lie beside a raster and are none."""
_ADDRESSES = ("http://", "https://", "ftp://", "s3://", "gs://", "az://", "oss://")


def is_remote(path: str) -> bool:
    """Whether a path names something that is not on this machine's disks."""
    return path.startswith(_ADDRESSES) or any(kind in path for kind in _REMOTE)


def gdal_options(path: str, cache_bytes: int = CACHE_BYTES) -> dict[str, Any]:
    """What GDAL is told while a scene is read; what the environment already sets is left as it is."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": cache_bytes, "GDAL_ERROR_ON_LIBJPEG_WARNING": True}
    if is_remote(path):
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
            "GDAL_HTTP_MAX_RETRY": 3,
            "GDAL_HTTP_RETRY_DELAY": 1,
            "GDAL_HTTP_TIMEOUT": 60,
        }
    return {name: value for name, value in options.items() if name not in os.environ}


@dataclass(frozen=True, slots=True)
class Raster:
    """An opened scene: the dataset that is read, the one it came from, and where it lies."""

    path: str
    view: Any
    """What windows are read from: a rasterio dataset, or a `WarpedVRT` over one."""
    source: Any
    """The dataset as the file holds it, at full size: statistics are taken from it."""
    ground: Ground
    blocks: Any
    """The dataset whose blocks are read, at full size or an overview; None where control points warp it."""
    cache_bytes: int | None = None
    """GDAL's cache of decoded blocks; None where the environment sets it."""
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(self.view.width)

    @property
    def height(self) -> int:
        return int(self.view.height)

    @property
    def warped(self) -> bool:
        return self.view is not self.source


@contextmanager
def opened(path: str, *, crs: str | None = None, gsd: float | None = None) -> Iterator[Raster]:
    """Open a scene for as long as the block lasts.

    Args:
        path: a file, `/vsi…`, `https://`, `s3://`, or the name of a sub-dataset such as `netcdf:file.nc:reflectance`.
        crs: the CRS of a scene that names none.
        gsd: metres on the ground that one pixel is to cover, at the middle of the scene.

    Raises:
        SceneError: not a raster, no bands, complex numbers, RPCs alone, or a place that is not on the Earth where `gsd`
            needs one; says what to do.
    """
    with ExitStack() as stack:
        # Of threads that read at once each has its own filter: what outlives its block does no harm.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        stack.enter_context(rasterio.Env(**gdal_options(path)))
        source = stack.enter_context(_open(path))
        _require_bands(path, source)
        options = _cache_for(path, source)
        stack.enter_context(rasterio.Env(**options))
        view, ground, notes = source, _placed(path, source, crs), list[str]()
        blocks: Any = source
        if source.gcps[0] and source.crs is None:
            gcp_crs = source.gcps[1] or crs
            if not gcp_crs:
                raise SceneError(f"{path}: its ground control points name no CRS", hint="name it with --crs")
            options = {"src_crs": gcp_crs, "crs": gcp_crs, **_alpha(source)}
            view = stack.enter_context(WarpedVRT(source, resampling=_resampling(source, 1.0), **options))
            ground = Ground.of(view.transform, CRS.from_user_input(view.crs.to_wkt()))
            blocks = None
            notes.append(f"placed by {len(source.gcps[0])} ground control points")
        if gsd is not None:
            view, fine = _resampled(path, source, view, ground, gsd, stack)
            blocks = None if blocks is None else fine
            ground = Ground.of(view.transform, ground.crs)
        if ground.crs is None and ground.placed:
            notes.append("its coordinates name no CRS, so no longitude or latitude is given: name it with --crs")
        yield Raster(path, view, source, ground, blocks, options.get("GDAL_CACHEMAX"), tuple(notes))


def _open(path: str, **options: Any) -> Any:
    try:
        return rasterio.open(path, **options)
    except (RasterioError, ValueError, TypeError) as error:
        raise SceneError(f"{path}: cannot be opened: {_first(error)}", hint=_way_in(path)) from None


def check_sources(path: str, source: Any) -> None:
    """Refuse a VRT whose files are not all there: GDAL says so once, and then reads black in their place.

    Raises:
        SceneError: names the first that cannot be opened.
    """
    if source.driver != "VRT":
        return
    for file in source.files[1:]:
        if is_remote(file) or file.endswith(_BESIDE):
            continue
        try:
            rasterio.open(file).close()
        except RasterioError as error:
            raise SceneError(
                f"{path}: its source {file} cannot be opened: {_first(error)}",
                hint="put that file in its place, or build the VRT again without it",
            ) from None


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _way_in(path: str) -> str:
    if is_remote(path):
        return "is the address right, and may this machine read it?"
    if not Path(path).exists() and ":" not in path and not path.startswith("/vsi"):
        return "there is no such file"
    return "is this a raster that GDAL reads? `gdalinfo` tells what it is"


def _require_bands(path: str, source: Any) -> None:
    if not source.count or (source.subdatasets and source.count == 0):
        names = list(source.subdatasets)
        if names:
            listed = "\n    ".join(names)
            raise SceneError(f"{path}: holds several rasters", hint=f"name one of them:\n    {listed}")
        raise SceneError(f"{path}: has no bands", hint="is this a raster?")
    if any(kind.startswith(("complex", "cint")) for kind in source.dtypes):
        raise SceneError(
            f"{path}: holds complex numbers ({source.dtypes[0]}), which have no brightness",
            hint="convert it to an intensity first, e.g. with gdal_calc.py --calc 'abs(A)'",
        )


def _cache_for(path: str, source: Any) -> dict[str, Any]:
    """A larger cache for a file in strips: each strip is as wide as the scene, and is read by every window of a row."""
    tall, wide = source.block_shapes[0]
    if wide < source.width or wide <= 4096:
        return gdal_options(path)
    size = sum(rasterio.dtypes.dtype(kind).itemsize for kind in source.dtypes) * wide * (tall + 512)
    return gdal_options(path, min(max(CACHE_BYTES, size), _MOST_CACHE_BYTES))


def _placed(path: str, source: Any, crs: str | None) -> Ground:
    """Where the dataset as it is lies; its own CRS comes before one that the caller names."""
    own = source.crs
    if own is None and source.transform.is_identity and not source.gcps[0] and source.rpcs:
        raise SceneError(
            f"{path}: its place is given by RPCs alone, which need a terrain model",
            hint="orthorectify it first: gdalwarp -rpc -to RPC_DEM=dem.tif IN.tif OUT.tif",
        )
    if own is not None and source.transform.is_identity:
        own = None  # a CRS without a transform places nothing
    try:
        found = CRS.from_user_input(own.to_wkt()) if own else CRS.from_user_input(crs) if crs else None
    except CRSError as error:
        raise SceneError(f"{path}: unknown CRS: {_first(error)}", hint="name one such as --crs EPSG:32633") from None
    return Ground.of(source.transform, found)


def _alpha(source: Any) -> dict[str, Any]:
    """A warped view gets an alpha band for what lies outside, unless the scene has one."""
    has_alpha = any(one.name == "alpha" for one in source.colorinterp)
    return {} if has_alpha else {"add_alpha": True}


def _resampling(source: Any, scale: float) -> Resampling:
    if any(one.name == "palette" for one in source.colorinterp):
        return Resampling.nearest  # the mean of two palette entries is a third
    return Resampling.average if scale > 1 else Resampling.bilinear


def _resampled(
    path: str, source: Any, view: Any, ground: Ground, gsd: float, stack: ExitStack
) -> tuple[WarpedVRT, Any]:
    """A view whose pixels cover `gsd` metres at the middle of the scene, and the overview that it is read from."""
    if not 0 < gsd < float("inf"):
        raise SceneError(f"--gsd {gsd:g}: a pixel covers more than 0 metres", hint="such as --gsd 0.5")
    own = ground_size(ground, view.width / 2, view.height / 2)
    if own is None:
        raise SceneError(
            f"{path}: --gsd needs a scene whose pixels have a size in metres, and this one names none",
            hint="name its CRS with --crs, or leave --gsd out",
        )
    scale_x, scale_y = gsd / own[0], gsd / own[1]
    width, height = max(round(view.width / scale_x), 1), max(round(view.height / scale_y), 1)
    a, b, c, d, e, f = ground.transform[:6]
    across, down = view.width / width, view.height / height
    transform = Affine(a * across, b * down, c, d * across, e * down, f)
    fine = [number for number, factor in enumerate(source.overviews(1)) if factor <= min(scale_x, scale_y) * 1.0001]
    read_from = stack.enter_context(_open(path, overview_level=fine[-1])) if fine else source
    options: dict[str, Any] = {"transform": transform, "width": width, "height": height, **_alpha(source)}
    if view is not source:
        options |= {"src_crs": source.gcps[1] or view.crs, "crs": view.crs}
    elif ground.crs is not None:
        wkt = source.crs or ground.crs.to_wkt()
        options |= {"crs": wkt, "src_crs": wkt}
    resampling = _resampling(source, max(scale_x, scale_y))
    return stack.enter_context(WarpedVRT(read_from, resampling=resampling, **options)), read_from
