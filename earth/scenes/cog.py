"""Cloud-optimised GeoTIFFs of arrays, on a map grid or on ground control points."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from jaxtyping import UInt
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.io import DatasetWriter
from rasterio.transform import from_origin

BLOCK_PX = 512
LOSSLESS = {"compress": "DEFLATE", "level": 1, "predictor": "YES"}
JPEG = {"compress": "JPEG", "quality": 90}


@contextmanager
def cog(
    path: str | Path,
    *,
    bands: int,
    rows: int,
    cols: int,
    dtype: str,
    georeference: dict,
    nodata: int | None = None,
    overviews: str = "AVERAGE",
    options: dict | None = None,
) -> Iterator[Callable[[np.ndarray, int, int], None]]:
    """Yield `put(bands_rows_cols, top, left)`; the COG is written when the block ends.

    Args:
        georeference: from `on_map` or `on_points`.
        overviews: resampling of the overviews.
        options: creation options, `LOSSLESS` by default.
    """
    shape = {"count": bands, "height": rows, "width": cols, "dtype": dtype, "nodata": nodata}
    tiling = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "interleave": "band"}
    plain = Path(path).with_suffix(".plain.tif")
    try:
        with rasterio.Env(GDAL_CACHEMAX=64):
            with rasterio.open(plain, "w", driver="GTiff", **shape, **tiling, **georeference) as to:
                yield _putter(to)
            rasterio.shutil.copy(
                str(plain),
                str(path),
                driver="COG",
                blocksize=BLOCK_PX,
                overview_resampling=overviews,
                **(options or LOSSLESS),
            )
    finally:
        plain.unlink(missing_ok=True)


def _putter(file: DatasetWriter) -> Callable[[np.ndarray, int, int], None]:
    def put(block: np.ndarray, top: int, left: int) -> None:
        file.write(block, window=((top, top + block.shape[1]), (left, left + block.shape[2])))

    return put


def write_cog(
    path: str | Path,
    image: UInt[np.ndarray, "bands rows cols"],
    georeference: dict,
    *,
    nodata: int | None = None,
    overviews: str = "AVERAGE",
) -> None:
    """Write a whole lossless image."""
    bands, rows, cols = image.shape
    with cog(
        path,
        bands=bands,
        rows=rows,
        cols=cols,
        dtype=str(image.dtype),
        georeference=georeference,
        nodata=nodata,
        overviews=overviews,
    ) as put:
        put(image, 0, 0)


def on_map(epsg: int, west_m: float, north_m: float, gsd_m: float) -> dict:
    """Georeference by the north-west corner on a map grid."""
    return {"crs": CRS.from_epsg(epsg), "transform": from_origin(west_m, north_m, gsd_m, gsd_m)}


def on_points(points: list[GroundControlPoint]) -> dict:
    """Georeference by control points in longitude and latitude."""
    return {"crs": CRS.from_epsg(4326), "gcps": points}
