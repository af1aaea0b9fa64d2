"""How much ground a pixel of a raster covers, in whatever coordinates the raster lies."""

from functools import lru_cache

import numpy as np
from affine import Affine
from pyproj import Geod, Transformer

MOST_STRETCH = 1.05
"""Longest over shortest side of a pixel on the ground, up to which it counts as square."""
STEP_PX = 16
"""Over which the ground is measured."""
EARTH = Geod(ellps="WGS84")


def ground_gsd_m(crs: str, transform: Affine, *, col: float | int, row: float | int) -> float:
    """Metres of ground per pixel, measured along geodesics of the WGS 84 ellipsoid.

    One rule for every projection: a pixel of 10 m in UTM covers 9.99 to 10.004 m, one in Web
    Mercator shrinks with the cosine of the latitude, one in degrees is what its latitude makes it.

    Args:
        crs: coordinate reference system, as WKT or "EPSG:...".
        transform: column and row to coordinates of `crs`.
        col: position, from the outer corner of the first pixel.
        row: position.

    Raises:
        ValueError: if the coordinates tell no point on the Earth, or a pixel is not square on the
            ground (`MOST_STRETCH`).
    """
    half = STEP_PX / 2
    ends = [(col - half, row), (col + half, row), (col, row - half), (col, row + half)]
    x, y = np.transpose([transform * end for end in ends])
    lon, lat = to_degrees(crs).transform(x, y)
    azimuth, _, metres = EARTH.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    sides = metres * np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    if not np.isfinite(sides).all():
        raise ValueError(
            f"coordinates must be a point on the Earth, got {x[0]:g}, {y[0]:g} at column "
            f"{col:g}, row {row:g}: correct the scene's CRS or transform, or state --gsd-m"
        )
    longest, shortest = np.linalg.svd(sides / STEP_PX, compute_uv=False).tolist()
    if longest > MOST_STRETCH * shortest:
        raise ValueError(
            f"pixels must be square on the ground, got {longest:.4g} by {shortest:.4g} m at column "
            f"{col:g}, row {row:g}: resample the scene, to UTM for one, or state --gsd-m"
        )
    return (longest * shortest) ** 0.5


@lru_cache
def to_degrees(crs: str) -> Transformer:
    """From coordinates of `crs` to longitude and latitude; infinite where there are none."""
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
