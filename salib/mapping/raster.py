"""A georeferenced raster as one sensor's pixel values, read a window at a time."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Shaped
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from salib.rasters.ground import Grid, ground_gsd_m, to_degrees
from salib.rasters.pixels import Rule
from salib.rasters.remote import as_read_errors, location, reading
from salib.rasters.validity import Validity

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
class Source:
    """One file of a raster.

    Attributes:
        href: path or address.
        numbers: of its bands that are read, from 1.
        places: where each lies among the sensor's bands.
        validity: where it has data.
    """

    href: str
    numbers: tuple[int, ...]
    places: tuple[int, ...]
    validity: Validity

    @property
    def nodata(self) -> list[tuple[float | int, ...]]:
        """Values that stand for no data in each band that is read."""
        return self.validity.values(self.numbers)


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Files of one grid and how they are read; made by `open_scene`, which checks them.

    Attributes:
        sources: one file, or one per band.
        rule: from stored values to the sensor's.
        stated: whether a file says where it has data.
        crs: of the grid that windows are of, as WKT; empty for an image that lies nowhere.
        transform: column and row to coordinates of `crs`, the first six numbers.
        warped: whether that is another grid than the files'.
        finer: pixels that are read along one of the grid.
        gsd_m: metres of ground per pixel where the caller states them; else measured by window.
        version: size and time of each file on disk, so that another file of the name is noticed.
        attribution: what must be said where the scene is shown.
        procedural: whether the ground is made up.
    """

    sources: tuple[Source, ...]
    rule: Rule
    stated: bool
    width: int
    height: int
    crs: str
    transform: tuple[float, ...]
    warped: bool = False
    finer: int = 1
    gsd_m: float | int | None
    version: tuple[int, ...]
    attribution: str = ""
    procedural: bool = False

    @property
    def sensor(self) -> str:
        """Name of the sensor."""
        return self.rule.sensor

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the sensor's bands, from 1, counted through all files."""
        return self.rule.bands

    @property
    def href(self) -> str:
        """Its files, for messages."""
        return ",".join(source.href for source in self.sources)

    @property
    def says(self) -> str:
        """How it is read, in a line."""
        listed = ",".join(map(str, self.bands))
        said = f"{self.sensor}: bands {listed} of {self.href}, {self.rule.says}"
        if not self.stated and self.rule.absent is None and self.rule.unit == "levels":
            said += "; it states no value for no data, so black counts as ground"
        if self.warped:
            name, side = CRS.from_wkt(self.crs).to_string(), self.transform[0]
            said += f"; resampled to {name}, {side:.4g} m, {self.width} x {self.height} px"
        return said

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

    def onto(self, grid: Grid, *, finer: int = 1) -> "Raster":
        """The same pixels resampled to a grid, or to one `finer` times as fine.

        They are averaged where that is much coarser than the files, else interpolated (cubic);
        whether there is data is that of the nearest pixel.

        Raises:
            ValueError: if the no-data values of the bands differ.
        """
        for source in self.sources:
            if len({value for values in source.nodata for value in values}) > 1:
                raise ValueError(
                    f"bands must share one no-data value to be resampled, got several in "
                    f"{source.href}: give them one (gdalwarp -dstnodata)"
                )
        place = {"crs": grid.crs, "transform": grid.transform}
        size = {"width": grid.width, "height": grid.height}
        return replace(self, **place, **size, warped=True, finer=finer)

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        """Values of a window as in a tile of the sensor, and where there is data (`Rule.valid`).

        Raises:
            ReadError: if a file cannot be read.
            ValueError: if its values contradict their unit.
        """
        window = ((top, top + height), (left, left + width))
        shape = (height * self.finer, width * self.finer)
        place = Affine(*self.transform) * Affine.translation(left, top)
        place *= Affine.scale(1 / self.finer)
        nodata = [values for source in self.sources for values in source.nodata]
        order = np.argsort([n for source in self.sources for n in source.places]).tolist()
        parts, nearest, valid = [], [], np.ones(shape, bool)
        for source in self.sources:
            with opened(source.href) as file:
                if self.warped:
                    smooth, sharp, hidden = self._warp(file, source, place, shape)
                else:
                    smooth = sharp = file.read(list(source.numbers), window=window)
                    hidden = source.validity.hidden(file, window=window)
            parts.append(smooth)
            nearest.append(sharp)
            if hidden is not None:
                valid &= ~hidden
        stored = _in_order(parts, order)
        sharp = _in_order(nearest, order) if self.warped else stored
        valid &= self.rule.valid(sharp, [nodata[n] for n in order], stated=self.stated)
        return self.rule.levels(self.rule.values(stored, valid, smooth=self.warped)), valid

    def reduced(self, rows: int, cols: int) -> Array:
        """Values of the whole scene as a small picture, see `onto`.

        Raises:
            ReadError: if a file cannot be read.
            ValueError: if the no-data values of the bands differ.
        """
        coarse = Affine(*self.transform) * Affine.scale(self.width / cols, self.height / rows)
        return self.onto(Grid(self.crs, tuple(coarse)[:6], cols, rows)).read(0, 0, cols, rows)[0]

    def _warp(
        self,
        file: rasterio.DatasetReader,
        source: Source,
        place: Affine,
        shape: tuple[int, int],
    ) -> tuple[Array, Array, Bool[np.ndarray, "height width"] | None]:
        """Bands on another grid, smoothly and from the nearest pixel, and what a mask hides."""
        bands, (rows, cols) = list(source.numbers), shape
        coarser = _pixels_per_pixel(file, self.crs, place, rows / 2, cols / 2)
        smooth = Resampling.average if coarser > COARSER else Resampling.cubic
        options: dict[str, Any] = {"crs": CRS.from_wkt(self.crs), "transform": place}
        options |= {"height": rows, "width": cols, "tolerance": TOLERANCE_PX}
        options |= dict.fromkeys(("XSCALE", "YSCALE"), min(1.0, 1 / coarser))
        opaque: dict[str, Any] = {"add_alpha": ColorInterp.alpha not in file.colorinterp}
        value = next((value for values in source.nodata for value in values), None)
        if value is None and np.dtype(file.dtypes[bands[0] - 1]).kind == "f":
            value = np.nan
        if value is None and not source.validity.hides:
            value = self.rule.absent
        filled: dict[str, Any] = opaque if value is None else {"src_nodata": value, "nodata": value}
        if value is not None and file.count > 1:
            filled["UNIFIED_SRC_NODATA"] = "YES"
        with WarpedVRT(file, resampling=smooth, **options, **filled) as vrt:
            pixels = vrt.read(bands)
        with WarpedVRT(file, resampling=Resampling.nearest, **options, **opaque) as vrt:
            return pixels, vrt.read(bands), vrt.dataset_mask() == 0


def _in_order(parts: Sequence[np.ndarray], order: Sequence[int]) -> np.ndarray:
    """Bands of several files in the sensor's order."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)[order]


def _pixels_per_pixel(
    file: rasterio.DatasetReader, crs: str, place: Affine, row: float, col: float
) -> float:
    """How many pixels of the file lie along one of a grid, by the root of the area."""
    x, y = np.transpose([place * at for at in ((col, row), (col + 1, row), (col, row + 1))])
    ends = np.array(transform(CRS.from_wkt(crs), file.crs, x, y))
    corners = np.array(~file.transform * ends)
    return abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) ** 0.5


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
