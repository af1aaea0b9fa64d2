"""Write vectors of windows to one GeoTIFF: a band per dimension, a pixel per patch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

from salib.curate.rasters.remote import CACHE_MB
from salib.mapping.raster import Raster
from salib.mapping.windows import WindowFiles

NO_INT8, WIDEST_INT8 = -128, 127
DTYPES: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32", "nodata": np.nan, "predictor": 3},
    "float16": {"dtype": "float32", "nodata": np.nan, "nbits": 16},
    "int8": {"dtype": "int8", "nodata": NO_INT8},
}
BLOCK = 32
"""Side of a tile of the file, in patches: 3 MB of 768 float32 dimensions, side by side."""
LAYOUT = {"driver": "GTiff", "tiled": True, "interleave": "pixel", "photometric": "MINISBLACK"}
LAYOUT |= {"compress": "DEFLATE", "zlevel": 1, "BIGTIFF": "IF_SAFER"}


def write_geotiff(path: Path, parts: WindowFiles, scene: Raster, tags: Mapping[str, Any]) -> float:
    """Write the map tile by tile: compressed, and as BigTIFF where it may exceed 4 GB.

    "float32" and "float16" mark patches without data by NaN; both read as float32. "int8" marks
    them by -128 and states the scale of each band in the file: value = scale x stored, where the
    band's largest absolute value is stored as 127.

    Args:
        path: file to write.
        parts: vectors of every window.
        scene: whose coordinates the map has.
        tags: written into the file; `dtype` and `patch_px` among them are followed.

    Returns:
        The share of the map's patches that have data.
    """
    dtype, (rows, cols), scales, filled = tags["dtype"], parts.shape, np.ones(1), 0
    layout = LAYOUT | DTYPES[dtype] | {"count": parts.dim, "height": rows, "width": cols}
    layout |= {"blockxsize": BLOCK, "blockysize": BLOCK, "crs": CRS.from_wkt(scene.crs)}
    layout |= {"transform": Affine(*scene.transform) * Affine.scale(tags["patch_px"])}
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(path, "w", **layout) as file:
        file.update_tags(**{name: str(value) for name, value in tags.items()})
        blocks = [window for _, window in file.block_windows()]
        if dtype == "int8":
            largest = np.zeros(parts.dim, np.float32)
            for block in blocks:
                values = np.abs(parts.read(block))
                largest = np.fmax(largest, np.fmax.reduce(values, axis=(0, 1)))
            scales = np.where(largest > 0, largest, WIDEST_INT8) / WIDEST_INT8
            file.scales = scales.tolist()
        for block in blocks:
            values = parts.read(block)
            filled += int(np.isfinite(values[..., 0]).sum())
            if dtype == "int8":
                steps = np.rint(values / scales).clip(-WIDEST_INT8, WIDEST_INT8)
                values = np.where(np.isnan(steps), NO_INT8, steps).astype(np.int8)
            elif dtype == "float16":
                values = values.astype(np.float16).astype(np.float32)  # GDAL would cut, not round
            file.write(values.transpose(2, 0, 1), window=block)
    return filled / (rows * cols)
