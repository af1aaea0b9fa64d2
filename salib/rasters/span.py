"""The pixels of a span of tiles, and where they lie in a file: exactly at nodes, else between.

Points of a file are (column, row) in pixels of its full resolution, from the outer corner of the
first pixel. The mapping is evaluated exactly on every 16th pixel and interpolated between.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from salib.rasters.georeference import Points
from salib.tiles.grid import EARTH_RADIUS_M, HALF_WORLD_M, TILE_PX, TileId

NODE_PX = 16
MARGIN_PX = 4


class Span(NamedTuple):
    """A rectangle of tiles: zoom, north-west tile, columns and rows of tiles."""

    z: int
    x: int
    y: int
    cols: int
    rows: int

    @classmethod
    def around(cls, tiles: list[TileId]) -> "Span":
        """The smallest rectangle that holds tiles of one zoom."""
        x, y = [tile.x for tile in tiles], [tile.y for tile in tiles]
        return cls(tiles[0].z, min(x), min(y), max(x) - min(x) + 1, max(y) - min(y) + 1)


def node_lonlat(span: Span) -> tuple[Points, Points]:
    """Degrees of every 16th pixel of a span: centres of 16 px cells, and one ring outside."""
    pixel_m = 2 * HALF_WORLD_M / (TILE_PX << span.z)
    cols = (np.arange(-1, span.cols * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    rows = (np.arange(-1, span.rows * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    x_m = (span.x * TILE_PX + cols) * pixel_m - HALF_WORLD_M
    y_m = HALF_WORLD_M - (span.y * TILE_PX + rows) * pixel_m
    lon = np.degrees(x_m / EARTH_RADIUS_M)
    lat = np.degrees(np.arctan(np.sinh(y_m / EARTH_RADIUS_M)))
    lon, lat = np.meshgrid(lon, lat)
    return lon, lat


def pixels_per_step(col: np.ndarray, row: np.ndarray) -> float:
    """Pixels of the scene in a pixel of the span, by the root of the area."""
    (col_down, col_across), (row_down, row_across) = np.gradient(col), np.gradient(row)
    area = np.abs(col_across * row_down - col_down * row_across)
    return float(np.nanmedian(np.sqrt(area))) / NODE_PX


def clip(places: np.ndarray, size: int, times: int) -> tuple[int, int]:
    """Pixels of the file about the places: from and to multiples of `times`, or the file's end."""
    low, high = np.nanmin(places) / times, np.nanmax(places) / times
    low, high = np.floor(low) - MARGIN_PX, np.ceil(high) + MARGIN_PX
    return int(max(0, low * times)), int(min(size, high * times))


def strips(col: np.ndarray, row: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of a span, as many as a tile has, and where each of their pixels lies in the scene."""
    high = TILE_PX // NODE_PX
    for first in range(0, len(col) - 2, high):
        top, nodes = first * NODE_PX, slice(first, first + high + 2)
        yield slice(top, top + TILE_PX), _dense(col[nodes]), _dense(row[nodes])


def _dense(nodes: np.ndarray) -> Float32[np.ndarray, "height width"]:
    """Linear between nodes; the outer ring of nodes is cut away."""
    size = nodes.shape[1] * NODE_PX, nodes.shape[0] * NODE_PX
    full = cv2.resize(nodes.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return full[NODE_PX:-NODE_PX, NODE_PX:-NODE_PX]
