"""The square block of map tiles that scenes must cover, in UTM."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from earth.landscape.fields import Grid

_FALSE_NORTH_M = 10_000_000.0
_EDGE_M = 300.0
LORES_M, SNAP_M = 10.0, 60.0


@dataclass(frozen=True, kw_only=True)
class UtmArea:
    """A rectangle in UTM; the world's plane has x = easting and y = 10,000 km - northing."""

    epsg: int
    west_m: float
    north_m: float
    width_m: float
    height_m: float

    def part(self, left_m: float, top_m: float, width_m: float, height_m: float) -> "UtmArea":
        """A rectangle given by its distance from the north-west corner."""
        west_m, north_m = self.west_m + left_m, self.north_m - top_m
        return replace(self, west_m=west_m, north_m=north_m, width_m=width_m, height_m=height_m)

    def grid(self, gsd_m: float) -> Grid:
        """Pixels of the area, in the world's plane."""
        rows, cols = round(self.height_m / gsd_m), round(self.width_m / gsd_m)
        y_m = _FALSE_NORTH_M - self.north_m
        return Grid(x_m=self.west_m, y_m=y_m, gsd_m=gsd_m, rows=rows, cols=cols)

    def georeference(self, gsd_m: float) -> dict[str, Any]:
        """Reference system and transform of an image of the area, as rasterio names them."""
        transform = from_origin(self.west_m, self.north_m, gsd_m, gsd_m)
        return {"crs": CRS.from_epsg(self.epsg), "transform": transform}

    @property
    def corners(self) -> Float[np.ndarray, "4 2"]:
        """Corners in UTM, from the south-west one on."""
        east_m, south_m = self.west_m + self.width_m, self.north_m - self.height_m
        lower = [[self.west_m, south_m], [east_m, south_m]]
        return np.array([*lower, [east_m, self.north_m], [self.west_m, self.north_m]])

    def lonlat(self, east_north: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Longitude and latitude of points in UTM."""
        back = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return np.stack(back.transform(*east_north.T), -1)

    def ring(self, corners: Float[np.ndarray, "n 2"]) -> list[list[float]]:
        """Closed ring in longitude and latitude, each side in four pieces."""
        quarters = np.arange(4)[:, None] / 4
        sides = corners[:, None] + (np.roll(corners, -1, 0) - corners)[:, None] * quarters
        ring = self.lonlat(np.concatenate([sides.reshape(-1, 2), corners[:1]]))
        return ring.round(7).tolist()


def area_of_tiles(lon: float, lat: float, zoom: int, tiles: int) -> UtmArea:
    """UtmArea that covers `tiles` x `tiles` map tiles around a point, with a margin of 300 m.

    Raises:
        ValueError: if the tiles leave the UTM zone of the point or the map.
    """
    if not -80 <= lat <= 84:
        raise ValueError(f"lat must lie in -80..84 (UTM), got {lat}")
    count = 2**zoom
    col = math.floor((lon + 180) / 360 * count) - tiles // 2
    row = math.floor((0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)) * count)
    row -= tiles // 2
    if min(col, row) < 0 or max(col, row) + tiles > count:
        raise ValueError(f"tiles must fit the map at zoom {zoom}, got {tiles} around {lon}, {lat}")
    west, east = (value / count * 360 - 180 for value in (col, col + tiles))
    turns = (math.pi * (1 - 2 * value / count) for value in (row, row + tiles))
    north, south = (math.degrees(math.atan(math.sinh(turn))) for turn in turns)
    zone = math.floor((lon + 180) / 6) + 1
    if not zone * 6 - 186 <= west < east <= zone * 6 - 180:
        raise ValueError(
            f"tiles must stay inside one UTM zone, got {west:.3f}..{east:.3f} degrees; move lon"
        )
    epsg = (32600 if lat >= 0 else 32700) + zone
    there = Transformer.from_crs(4326, epsg, always_xy=True)
    left, low, right, high = there.transform_bounds(west, south, east, north, densify_pts=41)
    left, low = (math.floor((value - _EDGE_M) / SNAP_M) * SNAP_M for value in (left, low))
    right, high = (math.ceil((value + _EDGE_M) / SNAP_M) * SNAP_M for value in (right, high))
    return UtmArea(epsg=epsg, west_m=left, north_m=high, width_m=right - left, height_m=high - low)
