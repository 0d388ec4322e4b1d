"""Captions of rasters: windows of a scene, asked of a model, as features on the map (extra `geo`).

opening    a raster through GDAL, its place, views          ground   CRS, longitude and latitude, metres
bands      which bands are shown     values  what is valid   stretch  deep values to 8 bits, once per scene
windows    the grid: windows and cells                       outline  footprints, the antimeridian, the poles
identity   digests and times         sources which scenes    aoi      an area of interest
reading    chips of a scene          work    one scene into the ledger of `rscap.store.archive`
features   captions with flags, repeats merged               writing, parquet, stac   the final files
job        the whole of `rscap scene`
"""

from rscap.scene.job import Asked, SceneResult, caption_scenes
from rscap.scene.request import SceneRequest
from rscap.scene.stretch import StretchRule

__all__ = ["Asked", "SceneRequest", "SceneResult", "StretchRule", "caption_scenes"]
