"""Cloud-optimised GeoTIFFs of arrays, on a map grid or on ground control points."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from jaxtyping import UInt
from numpy import ndarray
from rasterio.crs import CRS
from rasterio.io import DatasetWriter
from rasterio.transform import from_origin

BLOCK_PX = 512
LOSSLESS = {"compress": "DEFLATE", "level": 1, "predictor": "YES"}
JPEG = {"compress": "JPEG", "quality": 90}


@contextmanager
def cog(
    path: Path, *, overviews: str = "AVERAGE", options: dict = LOSSLESS, **profile: Any
) -> Iterator[DatasetWriter]:
    """Yield a file to write bands into, window by window; the COG is made when the block ends.

    Args:
        overviews: resampling of the overviews.
        options: creation options of the COG.
        profile: of the image, as rasterio names it: count, height, width, dtype, nodata, and from
            `on_map` or `on_points` where it lies.
    """
    tiling = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "interleave": "band"}
    plain = path.with_suffix(".plain.tif")
    try:
        with rasterio.Env(GDAL_CACHEMAX=64):
            with rasterio.open(plain, "w", driver="GTiff", **tiling, **profile) as file:
                yield file
            how = {"blocksize": BLOCK_PX, "overview_resampling": overviews, **options}
            rasterio.shutil.copy(str(plain), str(path), driver="COG", **how)
    finally:
        plain.unlink(missing_ok=True)


def write_cog(
    path: Path,
    image: UInt[ndarray, "bands rows cols"],
    georeference: dict,
    *,
    overviews: str = "AVERAGE",
) -> None:
    """Write a whole lossless image in which 0 is no data."""
    count, height, width = image.shape
    profile = {"count": count, "height": height, "width": width, "dtype": str(image.dtype)}
    with cog(path, overviews=overviews, nodata=0, **profile, **georeference) as file:
        file.write(image)


def on_map(epsg: int, west_m: float, north_m: float, gsd_m: float) -> dict:
    """Georeference by the north-west corner on a map grid."""
    return {"crs": CRS.from_epsg(epsg), "transform": from_origin(west_m, north_m, gsd_m, gsd_m)}
