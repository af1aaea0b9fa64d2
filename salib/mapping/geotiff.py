"""Windows of a scene, joined to one GeoTIFF: a band per dimension, a pixel per patch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Float32, Float64
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from safetensors import SafetensorError, safe_open

from salib.files.checksum import append_checksum, check_checksum
from salib.mapping.raster import Raster
from salib.rasters.remote import CACHE_MB

NO_INT8, WIDEST_INT8 = -128, 127
DTYPES: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32", "nodata": np.nan, "predictor": 3},
    "float16": {"dtype": "float32", "nodata": np.nan, "nbits": 16},
    "int8": {"dtype": "int8", "nodata": NO_INT8},
}
BLOCK = 32
"""Side of a tile of the file, in patches: 3 MB of 768 float32 dimensions, side by side."""
LAYOUT: dict[str, Any] = {"driver": "GTiff", "tiled": True, "interleave": "pixel"}
LAYOUT |= {"photometric": "MINISBLACK", "compress": "DEFLATE", "zlevel": 1, "BIGTIFF": "IF_SAFER"}
VECTORS = "vectors"


def stretches(patches: int, window: int, overlap: int) -> list[range]:
    """Windows of one size along an axis, evenly spaced, that share at least `overlap` patches.

    Args:
        patches: along the axis.
        window: patches that the model sees at once; where there are fewer, it sees all of them.
        overlap: at least 1, less than `window`.
    """
    if patches <= window:
        return [range(patches)]
    steps = -(-(patches - window) // (window - overlap))
    starts = [number * (patches - window) // steps for number in range(steps + 1)]
    return [range(start, start + window) for start in starts]


def weights(window: int) -> Float64[np.ndarray, " window"]:
    """How much a window's vector of each patch counts along an axis: most in its middle.

    Windows that share a patch are averaged with the cube of its depth in each. Measured on a
    procedural scene (windows of 32 patches, 8 shared; difference to one window over the scene, in
    spreads of the vectors): cut in the middle of what is shared 0.283, and a step across the cut
    7 % larger than elsewhere; averaged by depth 0.263 and 1 %, by its cube 0.274 and 2 %. Where
    attention is local, only the cube keeps coming nearer as more is shared.
    """
    from_start = np.arange(window) + 0.5
    return np.minimum(from_start, window - from_start) ** 3


@dataclass(frozen=True, kw_only=True)
class WindowFiles:
    """Files that hold the vectors of each window's patches, and what computed them."""

    folder: Path
    rows: list[range]
    cols: list[range]
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.rows[-1].stop, self.cols[-1].stop

    def path(self, down: int, across: int) -> Path:
        """The file of one window; a folder a row, so that none grows without bound."""
        return self.folder / f"{down:05d}" / f"{across:05d}.safetensors"

    def __iter__(self) -> Iterator[tuple[Path, range, range]]:
        """File, rows and columns of every window."""
        for (down, rows), (across, cols) in product(enumerate(self.rows), enumerate(self.cols)):
            yield self.path(down, across), rows, cols

    def read(self, block: Window) -> Float32[np.ndarray, "rows cols dim"]:
        """A rectangle of patches: the weighted mean of the windows that hold each.

        Sums run in float64, so that a patch of a single window keeps its value to the last bit, and
        in the order of the windows, whichever was finished first.
        """
        (top, bottom), (left, right) = block.toranges()
        total = np.zeros((bottom - top, right - left, self.dim))
        weight = np.zeros((bottom - top, right - left, 1))
        down = [(n, r) for n, r in enumerate(self.rows) if r.start < bottom and r.stop > top]
        across = [(n, c) for n, c in enumerate(self.cols) if c.start < right and c.stop > left]
        for (row, r), (col, c) in product(down, across):
            low, high = max(r.start, top), min(r.stop, bottom)
            west, east = max(c.start, left), min(c.stop, right)
            here = np.s_[low - top : high - top, west - left : east - left]
            there = np.s_[low - r.start : high - r.start, west - c.start : east - c.start]
            count = np.outer(weights(len(r)), weights(len(c)))[there][..., None]
            with safe_open(self.path(row, col), "numpy") as file:
                total[here] += file.get_slice(VECTORS)[there] * count
            weight[here] += count
        return (total / weight).astype(np.float32)

    def what_ran(self) -> dict[str, str]:
        """Implementations of attention and instructions that computed the vectors.

        Raises:
            ValueError: if a window was damaged since it was finished.
        """
        said: dict[str, set[str]] = {"attention": set(), "instructions": set()}
        for path, _, _ in self:
            remedy = "delete it and run the same command again"
            check_checksum(path, remedy)
            try:
                with safe_open(path, "numpy") as file:
                    told = file.metadata()
            except SafetensorError as error:
                raise ValueError(f"Could not read {path} ({error}): {remedy}") from error
            for name, values in said.items():
                values |= {told[name]} - {""}
        return {name: "; ".join(sorted(values)) for name, values in said.items()}


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

    Raises:
        OSError: if the disk did not take all of it.
    """
    dtype, (rows, cols), scales, filled = tags["dtype"], parts.shape, np.ones(1), 0
    layout: dict[str, Any] = LAYOUT | DTYPES[dtype]
    layout |= {"blockxsize": BLOCK, "blockysize": BLOCK}
    layout |= {"count": parts.dim, "height": rows, "width": cols, "crs": CRS.from_wkt(scene.crs)}
    layout["transform"] = Affine(*scene.transform) * Affine.scale(tags["patch_px"])
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
    _check_written(path)
    append_checksum(path)
    return filled / (rows * cols)


def _check_written(path: Path) -> None:
    """GDAL writes its last blocks on closing, and tells nobody if the disk does not take them."""
    size = path.stat().st_size
    try:
        with rasterio.open(path) as file:
            for (down, across), _ in file.block_windows():
                at = (
                    file.get_tag_item(f"BLOCK_{what}_{across}_{down}", "TIFF", bidx=1)
                    for what in ("OFFSET", "SIZE")
                )
                if sum(int(number or size + 1) for number in at) > size:
                    raise RasterioIOError(f"a block ends after {size:,} bytes")
    except RasterioIOError as error:
        raise OSError(
            f"Could not write all of {path} ({error}). Is its disk full? Finished windows are "
            "kept: free space and run again"
        ) from error
