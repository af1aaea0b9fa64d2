"""Few scenes that cover the tiles."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import shapely
from jaxtyping import Float
from scipy.sparse import csr_array

from salib.curate.search.catalog import Scene
from salib.tiles.grid import TileId, tile_bounds

POINTS = 4
"""Points along a tile's side at which coverage is asked."""
TILES_AT_ONCE = 10_000


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Few scenes that cover every point of `tiles` that any scene covers, in their order.

    Greedy: next comes the scene that adds most, of several the first.

    Args:
        scenes: best first.
        tiles: what to cover.
    """
    tree = shapely.STRtree([scene.footprint for scene in scenes])
    held = Counter[bytes]()  # points by the numbers of the scenes that hold them
    for start in range(0, len(tiles), TILES_AT_ONCE):
        points = shapely.points(tile_points(tiles[start : start + TILES_AT_ONCE]))
        point, scene = tree.query(points, predicate="within")
        order = np.lexsort((scene, point))
        ends = np.flatnonzero(np.diff(point[order])) + 1
        held.update(each.tobytes() for each in np.split(scene[order], ends))
    rows = [np.frombuffer(each, dtype=np.intp) for each in held]
    columns = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    inside = csr_array(
        (np.ones(len(columns)), (np.concatenate(rows), columns)), (len(scenes), len(rows))
    )
    bare, chosen = np.array([*held.values()], float), []
    while (gains := inside @ bare).any():
        chosen.append(int(gains.argmax()))
        bare[inside[[chosen[-1]]].indices] = 0
    return tuple(scenes[number] for number in sorted(chosen))


def tile_points(tiles: Sequence[TileId]) -> Float[np.ndarray, "points lonlat=2"]:
    """Longitude and latitude of a regular lattice of points within each tile."""
    edges = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4)
    west, south, east, north = edges.T[..., None, None]
    parts = (np.arange(POINTS) + 0.5) / POINTS
    lon, lat = west + parts * (east - west), south + parts[:, None] * (north - south)
    return np.stack(np.broadcast_arrays(lon, lat), -1).reshape(-1, 2)
