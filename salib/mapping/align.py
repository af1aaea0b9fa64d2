"""A raster on the grid of another: what embedding several sensors of one ground together needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.coords import disjoint_bounds
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform, transform_bounds

from salib.config import SENSORS
from salib.mapping.raster import Pixels, Raster
from salib.model.views import check_fusible

COARSER = 2.0
"""How many times coarser than the raster a grid is from which on pixels are averaged. Below, GDAL
widens its cubic kernel as needed; an average of few whole pixels is off by a fifth of one where
grids are turned."""
TOLERANCE_PX = 0.01
"""Of the raster: how far off GDAL may put a pixel to save time."""


@dataclass(frozen=True, kw_only=True)
class AlignedRaster:
    """A raster resampled to the grid of another, or to one a whole number of times as fine.

    Pixels are averaged where the grid is much coarser than the raster, else interpolated (cubic);
    whether there is data is that of the nearest pixel.

    Attributes:
        raster: what is read.
        grid: the raster whose grid it is.
        factor: pixels along one pixel of `grid`.
    """

    raster: Raster
    grid: Raster
    factor: int

    @property
    def sensor(self) -> str:
        """The sensor whose levels are read."""
        return self.raster.sensor

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        """Levels of a window given in pixels of `grid`, and where there is data.

        Raises:
            ReadError: if the file cannot be read.
        """
        rows, cols = height * self.factor, width * self.factor
        corner = Affine(*self.grid.transform) * Affine.translation(left, top)
        place = corner * Affine.scale(1 / self.factor)
        coarser = self._pixels_per_pixel(place, rows / 2, cols / 2)
        smooth = Resampling.average if coarser > COARSER else Resampling.cubic
        options: dict[str, Any] = {"crs": CRS.from_wkt(self.grid.crs), "transform": place}
        options |= {"height": rows, "width": cols, "tolerance": TOLERANCE_PX}
        options |= dict.fromkeys(("XSCALE", "YSCALE"), min(1.0, 1 / coarser))
        bands = list(self.raster.bands)

        def take(file: rasterio.DatasetReader) -> tuple[np.ndarray, np.ndarray]:
            given = options | _no_data(file, bands)
            with (
                WarpedVRT(file, resampling=smooth, **given) as pixels,
                WarpedVRT(file, resampling=Resampling.nearest, **given) as nearest,
            ):
                return pixels.read(bands), nearest.read_masks(bands)

        return self.raster.levels_of(take)

    def _pixels_per_pixel(self, place: Affine, row: float, col: float) -> float:
        """How many pixels of the raster lie along one of a grid, by the root of the area."""
        x, y = zip(
            *(place * at for at in ((col, row), (col + 1, row), (col, row + 1))), strict=True
        )
        crs = CRS.from_wkt(self.grid.crs), CRS.from_wkt(self.raster.crs)
        corners = np.array(~Affine(*self.raster.transform) * np.array(transform(*crs, x, y)))
        (across, down) = (corners[:, 1:] - corners[:, :1]).T
        return abs(across[0] * down[1] - across[1] * down[0]) ** 0.5


def on_one_grid(
    scenes: Mapping[str, Raster], order: Sequence[str]
) -> tuple[Raster, tuple[Raster | AlignedRaster, ...]]:
    """The scene whose grid counts, and all of them on it, in the order in which they are fused.

    Args:
        scenes: by sensor.
        order: the model's sensors.

    Raises:
        ValueError: if a scene is of another sensor than stated or of none of the model's, they
            cannot be fused, a pixel size is stated that the grid contradicts, or they do not
            overlap.
    """
    for name, scene in scenes.items():
        if scene.sensor != name:
            raise ValueError(f"scenes must be by their own sensor, got {scene.sensor!r} as {name}")
        if name not in order:
            raise ValueError(
                f"sensor must be one of the model's, {', '.join(order)}, got {name!r}: choose one, "
                "or another model"
            )
    if not scenes:
        raise ValueError("scenes must be of one sensor or more, got an empty mapping")
    check_fusible(tuple(scenes), tuple(order))
    first, *others = (scenes[name] for name in order if name in scenes)
    for scene in others:
        if scene.gsd_m is not None:
            raise ValueError(
                f"gsd_m must be stated for {first.sensor} alone, got {scene.gsd_m:g} for "
                f"{scene.sensor}, which is resampled to the grid of {first.sensor}"
            )
        _check_overlap(scene, first)
    fine = [AlignedRaster(raster=s, grid=first, factor=SENSORS[s.sensor].factor) for s in others]
    return first, (first, *fine)


def _no_data(file: rasterio.DatasetReader, bands: Sequence[int]) -> dict[str, Any]:
    """How a warped file tells where it has no data, which then stays out of its neighbours."""
    nodata = file.nodata
    if nodata is None and np.dtype(file.dtypes[bands[0] - 1]).kind == "f":
        nodata = np.nan
    if nodata is None:
        return {"add_alpha": ColorInterp.alpha not in file.colorinterp}
    return {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "YES"}


def _check_overlap(scene: Raster, grid: Raster) -> None:
    bounds, other = (array_bounds(r.height, r.width, Affine(*r.transform)) for r in (scene, grid))
    try:
        inside = transform_bounds(CRS.from_wkt(scene.crs), CRS.from_wkt(grid.crs), *bounds)
        apart = not np.isfinite(inside).all() or disjoint_bounds(inside, other)
    except CRSError:  # the one's coordinates do not reach the other
        apart = True
    if apart:
        raise ValueError(
            f"scenes must overlap, got {scene.sensor} {scene.href} on other ground than "
            f"{grid.sensor} {grid.href}: choose scenes of one area"
        )
