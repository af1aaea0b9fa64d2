"""How much ground a pixel of a raster covers, in whatever coordinates the raster lies."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from affine import Affine
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError

MOST_STRETCH = 1.05
"""Longest over shortest side of a pixel on the ground, up to which it counts as square."""
Places = Sequence[float] | np.ndarray
EARTH = Geod(ellps="WGS84")


def ground_gsd_m(
    crs: str, transform: Affine, *, col: float | int, row: float | int, step_px: int = 16
) -> float:
    """Metres of ground a pixel, measured along geodesics of the WGS 84 ellipsoid.

    One rule for every projection: a pixel of 10 m in UTM covers 9.99 to 10.004 m, one in Web
    Mercator shrinks with the cosine of the latitude, one in degrees is what its latitude makes it.

    Args:
        crs: coordinate reference system, as WKT or "EPSG:...".
        transform: column and row to coordinates of `crs`.
        col: place, from the outer corner of the first pixel.
        row: place.
        step_px: pixels over which the ground is measured, around the place.

    Raises:
        ValueError: if the coordinates tell no place on the Earth, or a pixel is not square on the
            ground (`MOST_STRETCH`).
    """
    half = step_px / 2
    ends = [(col - half, row), (col + half, row), (col, row - half), (col, row + half)]
    x, y = zip(*(transform * end for end in ends), strict=True)
    lon, lat = (np.asarray(side) for side in to_lonlat(crs, x, y))
    azimuth, _, metres = EARTH.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    sides = metres * np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    if not np.isfinite(sides).all():
        raise ValueError(
            f"coordinates must be a point on the Earth, got {x[0]:g}, {y[0]:g} at column "
            f"{col:g}, row {row:g}: correct the scene's CRS or transform, or state --gsd-m"
        )
    longest, shortest = np.linalg.svd(sides / step_px, compute_uv=False).tolist()
    if longest > MOST_STRETCH * shortest:
        raise ValueError(
            f"pixels must be square on the ground, got {longest:.4g} by {shortest:.4g} m at column "
            f"{col:g}, row {row:g}: resample the scene, to UTM for one, or state --gsd-m"
        )
    return (longest * shortest) ** 0.5


def to_lonlat(crs: str, x: Places, y: Places) -> tuple[Places, Places]:
    """Degrees of longitude and latitude of places in coordinates of `crs`.

    Raises:
        ValueError: if a place is not on the Earth.
    """
    try:
        lon, lat = _degrees(crs).transform(x, y, errcheck=True)
    except ProjError as error:
        raise ValueError(
            f"points must lie within the range of the scene's CRS, got x {x[0]:g}, y "
            f"{y[0]:g} ({error}): correct its CRS, or state --gsd-m"
        ) from error
    return lon, lat


def from_lonlat(crs: str, lon: float | int, lat: float | int) -> tuple[float, float]:
    """Coordinates in `crs` of a place in degrees; infinite where `crs` does not reach it."""
    return _degrees(crs).transform(lon, lat, direction="INVERSE")


@lru_cache
def _degrees(crs: str) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
