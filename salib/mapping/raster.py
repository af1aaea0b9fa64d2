"""A georeferenced raster as one sensor's pixel values, read a window at a time."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Shaped
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from salib.config import SENSORS, Sensor
from salib.mapping.ground import ground_gsd_m, to_degrees
from salib.rasters.radar import sar_to_8bit
from salib.rasters.remote import as_read_errors, location, reading

Array = Shaped[np.ndarray, "bands height width"]
Pixels = tuple[Array, Bool[np.ndarray, "height width"]]
"""Values as in a tile of the sensor, and where there is data."""
COARSER = 2.0
"""How many times coarser than the raster a grid is from which on pixels are averaged. Below, GDAL
widens its cubic kernel as needed; an average of few whole pixels is off by a fifth of one where
grids are turned."""
TOLERANCE_PX = 0.01
"""Of the raster: how far off GDAL may put a pixel to save time."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A file and how it is read; made by `open_scene`, which checks it.

    Attributes:
        href: path or address of the file.
        bands: numbers of the sensor's bands in it, from 1.
        level_255: value that becomes 255, None for values as they are (radar: amplitudes).
        crs: coordinate reference system as WKT.
        transform: column and row to coordinates of `crs`, the first six numbers.
        gsd_m: metres of ground per pixel where the caller states them; else measured by window.
        version: size and time of a file on disk, so that another file of the name is noticed.
        attribution: what must be said where the scene is shown.
        procedural: whether the ground is made up.
    """

    href: str
    sensor: str
    bands: tuple[int, ...]
    level_255: float | int | None
    width: int
    height: int
    crs: str
    transform: tuple[float, ...]
    gsd_m: float | int | None
    version: tuple[int, ...]
    attribution: str
    procedural: bool

    def gsd_at(self, col: float | int, row: float | int) -> float:
        """Metres of ground per pixel at a position.

        Raises:
            ValueError: if they are not stated and pixels there are not square on the ground.
        """
        if self.gsd_m is not None:
            return float(self.gsd_m)
        return ground_gsd_m(self.crs, Affine(*self.transform), col=col, row=row)

    def lonlat_at(self, col: float | int, row: float | int) -> tuple[float, float]:
        """Longitude and latitude of a position in degrees."""
        return to_degrees(self.crs).transform(*(Affine(*self.transform) * (col, row)))

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        """Values of a window, and where the file has some.

        A pixel has data where any of an 8-bit optical sensor's bands has, and where all bands of
        another sensor have; 0 in a 16-bit image is no data.

        Raises:
            ReadError: if the file cannot be read.
        """
        with opened(self.href) as file:
            pixels, masks = self._cut(file, left, top, width, height)
        sensor = SENSORS[self.sensor]
        every = np.logical_and if sensor.radar or sensor.dtype != "uint8" else np.logical_or
        valid = every.reduce(masks > 0)
        if sensor.dtype != "uint8":
            valid &= pixels.all(axis=0)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            valid &= finite.all(axis=0)
            pixels = np.where(finite, pixels, 0)
        return self._values(pixels), valid

    def reduced(self, rows: int, cols: int) -> Array:
        """Values of the whole scene as a small picture, averaged.

        Raises:
            ReadError: if the file cannot be read.
        """
        how = {"out_shape": (len(self.bands), rows, cols), "resampling": Resampling.average}
        with opened(self.href) as file:
            pixels = file.read(list(self.bands), **how)
        return self._values(np.nan_to_num(pixels))

    def _cut(
        self, file: rasterio.DatasetReader, left: int, top: int, width: int, height: int
    ) -> tuple[Array, Array]:
        """The bands and their masks, above 0 where there is data."""
        bands, window = list(self.bands), ((top, top + height), (left, left + width))
        return file.read(bands, window=window), file.read_masks(bands, window=window)

    def _values(self, pixels: Array) -> Array:
        if self.level_255 is not None:
            scaled = pixels.astype(np.float32) * np.float32(255 / self.level_255)
            return np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return pixels if pixels.dtype == SENSORS[self.sensor].dtype else sar_to_8bit(pixels)


@dataclass(frozen=True, kw_only=True)
class AlignedRaster(Raster):
    """A raster whose windows are those of another's grid, or of one its sensor's factor as fine.

    Pixels are averaged where that grid is much coarser than the file, else interpolated (cubic);
    whether there is data is that of the nearest pixel.
    """

    grid: Raster

    def _cut(
        self, file: rasterio.DatasetReader, left: int, top: int, width: int, height: int
    ) -> tuple[Array, Array]:
        factor, bands = SENSORS[self.sensor].factor, list(self.bands)
        rows, cols = height * factor, width * factor
        corner = Affine(*self.grid.transform) * Affine.translation(left, top)
        place = corner * Affine.scale(1 / factor)
        coarser = self._pixels_per_pixel(place, rows / 2, cols / 2)
        smooth = Resampling.average if coarser > COARSER else Resampling.cubic
        options: dict[str, Any] = {"crs": CRS.from_wkt(self.grid.crs), "transform": place}
        options |= {"height": rows, "width": cols, "tolerance": TOLERANCE_PX}
        options |= dict.fromkeys(("XSCALE", "YSCALE"), min(1.0, 1 / coarser))
        options |= _no_data(file, bands, SENSORS[self.sensor])
        with (
            WarpedVRT(file, resampling=smooth, **options) as pixels,
            WarpedVRT(file, resampling=Resampling.nearest, **options) as nearest,
        ):
            return pixels.read(bands), nearest.read_masks(bands)

    def _pixels_per_pixel(self, place: Affine, row: float, col: float) -> float:
        """How many pixels of the file lie along one of a grid, by the root of the area."""
        x, y = np.transpose([place * at for at in ((col, row), (col + 1, row), (col, row + 1))])
        crs = CRS.from_wkt(self.grid.crs), CRS.from_wkt(self.crs)
        corners = np.array(~Affine(*self.transform) * np.array(transform(*crs, x, y)))
        return abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) ** 0.5


def _no_data(file: rasterio.DatasetReader, bands: Sequence[int], sensor: Sensor) -> dict[str, Any]:
    """How a warped file tells where it has no data, which then stays out of its neighbours."""
    nodata = file.nodata
    if nodata is None and np.dtype(file.dtypes[bands[0] - 1]).kind == "f":
        nodata = np.nan
    if nodata is None and sensor.dtype != "uint8":
        nodata = sensor.nodata
    if nodata is None:
        return {"add_alpha": ColorInterp.alpha not in file.colorinterp}
    return {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "YES"}


@contextmanager
def opened(href: str) -> Iterator[rasterio.DatasetReader]:
    """The file; that it lies nowhere is an error of its reader, with what to do.

    Raises:
        ReadError: if it cannot be read, within the block too.
    """
    with warnings.catch_warnings(), reading([href], requester_pays=False), as_read_errors(href):
        warnings.simplefilter("ignore", UserWarning)  # nodata counts; no place is told by its user
        with rasterio.open(location(href)) as file:
            yield file
