"""Vectors of windows to one GeoTIFF: a band a dimension, a pixel a patch."""

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

from salib.mapping.scene import CACHE_MB, Scene
from salib.mapping.windows import Stretch

DTYPES = ("float32", "float16", "int8")
BLOCK = 32
"""Side of a tile of the file, in patches: 3 MB of 768 float32 dimensions, side by side."""
NO_INT8 = -128
WIDEST_INT8 = 127


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Files that hold the vectors of each window's kept patches."""

    folder: Path
    rows: list[Stretch]
    cols: list[Stretch]
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.rows[-1].last, self.cols[-1].last

    def path(self, down: int, across: int) -> Path:
        """The file of one window; a folder a row, so that none grows without bound."""
        return self.folder / f"{down:05d}" / f"{across:05d}.npy"

    def read(
        self, top: int, left: int, rows: int, cols: int
    ) -> Float32[np.ndarray, "rows cols dim"]:
        """A rectangle of patches, from the windows that it meets."""
        block = np.empty((rows, cols, self.dim), np.float32)
        for (down, r), (across, c) in product(
            _met(self.rows, top, rows), _met(self.cols, left, cols)
        ):
            part = np.load(self.path(down, across), mmap_mode="r")
            low, high = max(r.first, top), min(r.last, top + rows)
            west, east = max(c.first, left), min(c.last, left + cols)
            block[low - top : high - top, west - left : east - left] = part[
                low - r.first : high - r.first, west - c.first : east - c.first
            ]
        return block

    def largest(self) -> Float32[np.ndarray, " dim"]:
        """Largest absolute value of each dimension, 0 where there is no data."""
        most = np.zeros(self.dim, np.float32)
        for down, across in product(range(len(self.rows)), range(len(self.cols))):
            part = np.abs(np.load(self.path(down, across))).reshape(-1, self.dim)
            most = np.fmax(most, np.fmax.reduce(part, axis=0, initial=0.0))
        return most


def write_geotiff(path: Path, parts: Parts, scene: Scene, tags: Mapping[str, Any]) -> None:
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


def _met(axis: list[Stretch], start: int, length: int) -> list[tuple[int, Stretch]]:
    """Windows that keep patches of a range, with their numbers."""
    end = start + length
    return [(n, s) for n, s in enumerate(axis) if s.first < end and s.last > start]
