"""How much ground a pixel of a raster covers, in whatever coordinates the raster lies."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from affine import Affine
from pyproj import CRS, Geod, Transformer

MOST_STRETCH = 1.05
"""Longest over shortest side of a pixel on the ground, up to which it counts as square."""
STEP_PX = 16
"""Over which the ground is measured."""
EARTH = Geod(ellps="WGS84")
WIDEST = 30
"""Degrees of longitude about a meridian that UTM shows without a fault."""


class Grid(NamedTuple):
    """Where pixels lie: WKT, column and row to its coordinates (six numbers), and how many."""

    crs: str
    transform: tuple[float, ...]
    width: int
    height: int


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
    shortest, longest = ground_sides_m(crs, transform, col=col, row=row)
    if longest > MOST_STRETCH * shortest:
        raise ValueError(
            f"pixels must be square on the ground, got {longest:.4g} by {shortest:.4g} m at column "
            f"{col:g}, row {row:g}: resample the scene, to UTM for one, or state --gsd-m"
        )
    return (longest * shortest) ** 0.5


def ground_sides_m(
    crs: str, transform: Affine, *, col: float | int, row: float | int
) -> tuple[float, float]:
    """Shortest and longest side of a pixel on the ground in metres, see `ground_gsd_m`.

    Raises:
        ValueError: if the coordinates tell no point on the Earth.
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
    return shortest, longest


def square_grid(crs: str, transform: Affine, width: int, height: int) -> Grid:
    """A grid of square pixels in UTM about the middle of a raster, as fine as its finer side.

    Raises:
        ValueError: if the raster is more than `WIDEST` degrees wide or lies nowhere on the Earth.
    """
    fine, _ = ground_sides_m(crs, transform, col=width / 2, row=height / 2)
    lon, lat = to_degrees(crs).transform(*(transform * (width / 2, height / 2)))
    number = 61 if abs(lat) > 84 else int((lon + 180) // 6) % 60 + 1  # 61 is polar stereographic
    code = 32600 + number + (100 if lat < 0 else 0)
    steps = np.linspace(0, 1, 21)
    edge = [(s, e) for s in steps for e in (0, 1)] + [(e, s) for s in steps for e in (0, 1)]
    col, row = np.transpose(edge) * [[width], [height]]
    lons, lats = to_degrees(crs).transform(*(transform * (col, row)))
    x, y = to_degrees(f"EPSG:{code}").transform(lons, lats, direction="INVERSE")
    span = np.ptp((lons - lon + 180) % 360)
    if not np.isfinite([*x, *y]).all() or (span > WIDEST and number < 61):
        raise ValueError(
            f"scene must be less than {WIDEST} degrees wide to be resampled to square pixels, got "
            f"{span:.4g}: cut it (gdal_translate -projwin), or state --gsd-m"
        )
    if abs(lons).max() > 180:
        raise ValueError(
            "scene must lie on one side of 180 degrees to be resampled to square pixels, got "
            f"{lons.min():.4g} to {lons.max():.4g}: cut it there (gdal_translate -projwin), or "
            "warp it to UTM (gdalwarp -t_srs EPSG:...)"
        )
    place = Affine(fine, 0, x.min(), 0, -fine, y.max())
    size = (max(1, round(np.ptp(each) / fine)) for each in (x, y))
    return Grid(CRS.from_epsg(code).to_wkt(), tuple(place)[:6], *size)


@lru_cache
def to_degrees(crs: str) -> Transformer:
    """From coordinates of `crs` to longitude and latitude; infinite where there are none."""
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
