"""A georeferenced raster as one sensor's 8-bit levels, read a window at a time."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Shaped, UInt8
from rasterio.enums import Resampling
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

from salib.curate.rasters.mosaic import sar_to_8bit
from salib.curate.rasters.remote import as_read_errors, location, reading
from salib.mapping.ground import ground_gsd_m, to_lonlat

Array = Shaped[np.ndarray, "bands height width"]
Pixels = tuple[UInt8[np.ndarray, "bands height width"], Bool[np.ndarray, "height width"]]
"""Levels, and where there is data."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A file and how it is read; made by `open_scene`, which checks it.

    Attributes:
        href: path or address of the file.
        bands: numbers of the sensor's bands in it, from 1.
        level_255: value that becomes level 255, None for levels as they are (radar: amplitudes).
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
        a, b, c, d, e, f = self.transform
        lon, lat = to_lonlat(self.crs, [a * col + b * row + c], [d * col + e * row + f])
        return float(lon[0]), float(lat[0])

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        """Levels of a window, and where the file has values.

        A pixel has values where any of an optical sensor's bands has, and where both of radar's.

        Raises:
            ReadError: if the file cannot be read.
        """
        window = ((top, top + height), (left, left + width))
        bands = list(self.bands)
        return self.levels_of(
            lambda file: (file.read(bands, window=window), file.read_masks(bands, window=window))
        )

    def levels_of(self, take: Callable[[rasterio.DatasetReader], tuple[Array, Array]]) -> Pixels:
        """Levels of what is taken of the file, and where it has values.

        Args:
            take: gives the bands and their masks, above 0 where there is data.

        Raises:
            ReadError: if the file cannot be read.
        """
        with opened(self.href) as file:
            pixels, masks = take(file)
        every = np.logical_and if self.sensor == "radar" else np.logical_or
        valid = every.reduce(masks > 0)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            valid &= finite.all(axis=0)
            pixels = np.where(finite, pixels, 0)
        return self._levels(pixels), valid

    def reduced(self, rows: int, cols: int) -> UInt8[np.ndarray, "bands height width"]:
        """Levels of the whole scene as a small picture, averaged.

        Raises:
            ReadError: if the file cannot be read.
        """
        how = {"out_shape": (len(self.bands), rows, cols), "resampling": Resampling.average}
        with opened(self.href) as file:
            pixels = file.read(list(self.bands), **how)
        return self._levels(np.nan_to_num(pixels))

    def _levels(self, pixels: Array) -> UInt8[np.ndarray, "bands height width"]:
        if self.level_255 is not None:
            scaled = pixels.astype(np.float32) * np.float32(255 / self.level_255)
            return np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return pixels if pixels.dtype == np.uint8 else sar_to_8bit(pixels)


@contextmanager
def opened(href: str) -> Iterator[rasterio.DatasetReader]:
    """The file; that it lies nowhere is an error of its reader, with what to do.

    Raises:
        ReadError: if it cannot be read, within the block too.
    """
    with warnings.catch_warnings(), reading([href], requester_pays=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)  # a nodata value is what counts
        with as_read_errors(href), rasterio.open(location(href)) as file:
            yield file
