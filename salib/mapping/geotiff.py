"""Write vectors of windows to one GeoTIFF: a band per dimension, a pixel per patch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Float32, Shaped
from rasterio.crs import CRS

from salib.curate.rasters.remote import CACHE_MB
from salib.mapping.raster import Raster
from salib.mapping.windows import Stretch, weights

DTYPES = ("float32", "float16", "int8")
BLOCK = 32
"""Side of a tile of the file, in patches: 3 MB of 768 float32 dimensions, side by side."""
NO_INT8 = -128
WIDEST_INT8 = 127


@dataclass(frozen=True, kw_only=True)
class WindowFiles:
    """Files that hold the vectors of each window's patches."""

    folder: Path
    rows: list[Stretch]
    cols: list[Stretch]
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.rows[-1].stop, self.cols[-1].stop

    def path(self, down: int, across: int) -> Path:
        """The file of one window; a folder a row, so that none grows without bound."""
        return self.folder / f"{down:05d}" / f"{across:05d}.npy"

    def read(
        self, top: int, left: int, rows: int, cols: int
    ) -> Float32[np.ndarray, "rows cols dim"]:
        """A rectangle of patches: the weighted mean of the windows that hold each.

        Sums run in float64, so that a patch of a single window keeps its value to the last bit, and
        in the order of the windows, whichever was finished first.
        """
        total = np.zeros((rows, cols, self.dim))
        weight = np.zeros((rows, cols, 1))
        down = [(n, r) for n, r in enumerate(self.rows) if r.meets(top, top + rows)]
        across = [(n, c) for n, c in enumerate(self.cols) if c.meets(left, left + cols)]
        for (row, r), (col, c) in product(down, across):
            low, high = max(r.start, top), min(r.stop, top + rows)
            west, east = max(c.start, left), min(c.stop, left + cols)
            here = np.s_[low - top : high - top, west - left : east - left]
            there = np.s_[low - r.start : high - r.start, west - c.start : east - c.start]
            count = np.outer(weights(r.length), weights(c.length))[there][..., None]
            total[here] += np.load(self.path(row, col), mmap_mode="r")[there] * count
            weight[here] += count
        return (total / weight).astype(np.float32)

    def largest(self) -> Float32[np.ndarray, " dim"]:
        """Largest absolute value of each dimension, 0 where there is no data."""
        most = np.zeros(self.dim, np.float32)
        for block in blocks(*self.shape):
            values = np.abs(self.read(*block)).reshape(-1, self.dim)
            most = np.fmax(most, np.fmax.reduce(values, axis=0, initial=0.0))
        return most


def write_geotiff(path: Path, parts: WindowFiles, scene: Raster, tags: Mapping[str, Any]) -> None:
    """Write the map tile by tile: compressed, and as BigTIFF where it may exceed 4 GB.

    "float32" and "float16" mark patches without data by NaN; both read as float32. "int8" marks
    them by -128 and states the scale of each band in the file: value = scale x stored, where the
    band's largest absolute value is stored as 127.

    Args:
        path: file to write.
        parts: vectors of every window.
        scene: whose coordinates the map has.
        tags: written into the file; `dtype` and `patch_px` among them are followed.
    """
    rows, cols = parts.shape
    dtype = tags["dtype"]
    whole = dtype == "int8"
    largest = parts.largest() if whole else np.zeros(parts.dim, np.float32)
    scales = np.where(largest > 0, largest, WIDEST_INT8) / WIDEST_INT8
    options: dict[str, Any] = {"float32": {"predictor": 3}, "float16": {"nbits": 16}}.get(dtype, {})
    layout = {
        "driver": "GTiff",
        "count": parts.dim,
        "height": rows,
        "width": cols,
        "dtype": "int8" if whole else "float32",
        "nodata": NO_INT8 if whole else np.nan,
        "crs": CRS.from_wkt(scene.crs),
        "transform": Affine(*scene.transform) * Affine.scale(tags["patch_px"]),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "pixel",
        "photometric": "MINISBLACK",
        "compress": "DEFLATE",
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
    }
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
        rasterio.open(path, "w", **(layout | options)) as file,
    ):
        file.update_tags(**{name: str(value) for name, value in tags.items()})
        if whole:
            file.scales = scales.tolist()
        for top, left, height, width in blocks(rows, cols):
            block = parts.read(top, left, height, width).transpose(2, 0, 1)
            if whole:
                block = _to_int8(block, scales)
            elif dtype == "float16":
                block = block.astype(np.float16).astype(np.float32)  # GDAL would cut, not round
            file.write(block, window=((top, top + height), (left, left + width)))


def blocks(rows: int, cols: int) -> Iterator[tuple[int, int, int, int]]:
    """Top, left, height and width of the tiles of a map, row by row."""
    for top, left in product(range(0, rows, BLOCK), range(0, cols, BLOCK)):
        yield top, left, min(BLOCK, rows - top), min(BLOCK, cols - left)


def _to_int8(
    block: Float32[np.ndarray, "dim rows cols"], scales: Shaped[np.ndarray, " dim"]
) -> Shaped[np.ndarray, "dim rows cols"]:
    steps = np.rint(block / scales[:, None, None]).clip(-WIDEST_INT8, WIDEST_INT8)
    return np.where(np.isnan(steps), NO_INT8, steps).astype(np.int8)
