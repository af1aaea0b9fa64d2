"""The Web Mercator tile pyramid: bounds, ground sample distance and Hilbert order."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Integer
from pmtiles.tile import zxy_to_tileid

TILE_PX = 256
MAX_ZOOM = 24
MAX_LAT = 85.051128779806
EARTH_RADIUS_M = 6378137.0
HALF_WORLD_M = math.pi * EARTH_RADIUS_M

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""


class TileId(NamedTuple):
    """A square of the XYZ pyramid: x grows east, y grows south from the north-west corner."""

    z: int
    x: int
    y: int

    @property
    def hilbert(self) -> int:
        """Number of the tile in a PMTiles archive."""
        return zxy_to_tileid(self.z, self.x, self.y)

    def parent(self, levels: int = 1) -> "TileId":
        """The tile `levels` zooms up that holds this one."""
        return TileId(self.z - levels, self.x >> levels, self.y >> levels)

    def children(self, levels: int = 1) -> list["TileId"]:
        """The tiles `levels` zooms down, row by row; one contiguous Hilbert range."""
        cols, rows = (range(at << levels, (at + 1) << levels) for at in (self.x, self.y))
        return [TileId(self.z + levels, x, y) for y in rows for x in cols]


def hilbert_numbers(
    zxy: Integer[np.ndarray, "tiles 3"],
) -> Int64[np.ndarray, " tiles"]:
    """`TileId.hilbert` of many tiles; -1 of what is no tile."""
    z, x, y = np.array(zxy, np.int64).T
    tile = (z >= 0) & (z <= MAX_ZOOM) & (np.minimum(x, y) >= 0)
    tile &= np.maximum(x, y) < 1 << np.where(tile, z, 0)
    z, x, y = (np.where(tile, each, 0) for each in (z, x, y))
    numbers = ((1 << 2 * z) - 1) // 3
    for level in range(int(z.max(initial=0)) - 1, -1, -1):
        side, here = 1 << level, level < z
        east, south = (x & side) > 0, (y & side) > 0
        numbers += np.where(here, ((3 * east) ^ south) << 2 * level, 0)
        turned = here & ~south
        x, y = (np.where(turned & east, side - 1 - each, each) & (side - 1) for each in (x, y))
        x, y = np.where(turned, y, x), np.where(turned, x, y)
    return np.where(tile, numbers, -1)


def tile_bounds(tile: TileId) -> Bounds:
    """Longitude and latitude of a tile's edges: west, south, east, north in degrees."""
    west, south, east, north = tile_bounds_m(tile)
    return (*to_lonlat(west, south), *to_lonlat(east, north))


def tile_bounds_m(tile: TileId) -> Bounds:
    """Web Mercator metres of a tile's edges: west, south, east, north."""
    size = 2 * HALF_WORLD_M / (1 << tile.z)
    west, north = tile.x * size - HALF_WORLD_M, HALF_WORLD_M - tile.y * size
    return west, north - size, west + size, north


def to_lonlat(x_m: float, y_m: float) -> tuple[float, float]:
    """Longitude and latitude in degrees of a point in Web Mercator metres."""
    lat = math.degrees(math.atan(math.sinh(y_m / EARTH_RADIUS_M)))
    return max(-180.0, min(180.0, math.degrees(x_m / EARTH_RADIUS_M))), lat


def to_mercator(lon: float, lat: float) -> tuple[float, float]:
    """Web Mercator metres of a point in degrees."""
    y_m = EARTH_RADIUS_M * math.asinh(math.tan(math.radians(lat)))
    return math.radians(lon) * EARTH_RADIUS_M, y_m


def gsd_m(lat: float | int, zoom: int) -> float:
    """Metres of ground per pixel of a tile at latitude `lat` (degrees), on the sphere."""
    if not 0 <= zoom <= MAX_ZOOM:
        raise ValueError(f"zoom must be between 0 and {MAX_ZOOM}, got {zoom}")
    return math.cos(math.radians(lat)) * 2 * HALF_WORLD_M / (TILE_PX << zoom)


def tile_gsd_m(tile: TileId) -> float:
    """Metres of ground per pixel, at the tile's centre."""
    _, south, _, north = tile_bounds_m(tile)
    return gsd_m(to_lonlat(0.0, (south + north) / 2)[1], tile.z)


def split_bbox(bbox: Sequence[float | int]) -> list[Bounds]:
    """The bbox, in two where it crosses the antimeridian (west greater than east).

    Raises:
        ValueError: unless it is west, south, east, north in degrees.
    """
    rule = "bbox must be (west, south, east, north) in degrees"
    if len(bbox) != 4:
        raise ValueError(f"{rule}, got {len(bbox)} values")
    west, south, east, north = (float(edge) for edge in bbox)
    if not all(-180 <= lon <= 180 for lon in (west, east)):
        raise ValueError(f"{rule} with longitudes in -180..180, got {tuple(bbox)}")
    if not -90 <= south < north <= 90:
        raise ValueError(f"{rule} with -90 <= south < north <= 90, got {tuple(bbox)}")
    if west == east:
        raise ValueError(f"{rule} with west different from east, got {tuple(bbox)}")
    if west < east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def tiles_of_bbox(bbox: Sequence[float | int], zoom: int) -> list[TileId]:
    """Tiles whose inside meets the inside of the bbox, in Hilbert order."""
    tiles = set()
    for west, south, east, north in split_bbox(bbox):
        left, top = to_mercator(west, min(north, MAX_LAT))
        right, bottom = to_mercator(east, max(south, -MAX_LAT))
        cols = _between(left + HALF_WORLD_M, right + HALF_WORLD_M, zoom)
        rows = _between(HALF_WORLD_M - top, HALF_WORLD_M - bottom, zoom)
        tiles |= {TileId(zoom, x, y) for x in cols for y in rows}
    return sorted(tiles, key=lambda tile: tile.hilbert)


def _between(first_m: float, last_m: float, zoom: int) -> range:
    """Columns or rows; an edge that is a tile's own up to rounding counts as that edge."""
    side, tile_m = 1 << zoom, 2 * HALF_WORLD_M / (1 << zoom)
    low, high = math.floor(first_m / tile_m + 1e-7), math.ceil(last_m / tile_m - 1e-7)
    return range(min(side - 1, max(0, low)), min(side, max(1, high)))


def blocks_of(tiles: Sequence[TileId], levels: int = 2) -> dict[TileId, list[TileId]]:
    """Tiles grouped by the parent `levels` up, parents and tiles in Hilbert order."""
    blocks: dict[TileId, list[TileId]] = {}
    for tile in sorted(tiles, key=lambda tile: tile.hilbert):
        blocks.setdefault(tile.parent(levels), []).append(tile)
    return blocks
