"""The smallest set of scenes that covers the tiles."""

from collections.abc import Sequence

import numpy as np
import shapely
from jaxtyping import Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, tril

from salib.curate.search.catalog import Scene
from salib.tiles.grid import TileId, tile_bounds

POINTS = 4
"""Points along a tile's side at which coverage is asked."""
TILES_AT_ONCE = 10_000
MOST_NODES = 10_000
"""Of the solver's search; a bound in seconds would make the choice depend on the machine."""


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Fewest scenes that cover every point of `tiles` that any scene covers, in their order.

    An integer programme. A greedy cover would be shorter and takes up to twice the scenes where
    footprints are irregular.

    Args:
        scenes: best first: among sets of equal size the one with the smaller sum of ranks wins.
        tiles: what to cover.
    """
    points = _distinct_points(scenes, tiles)
    if not points:
        return ()
    numbers = np.concatenate(points)
    columns = np.repeat(np.arange(len(points)), [len(each) for each in points])
    shape = len(scenes), len(points)
    inside = csr_array((np.ones(len(numbers)), (numbers, columns)), shape=shape)
    held = inside.sum(axis=1)
    # A scene all of whose points an earlier one holds is in no best cover.
    shared = tril(inside @ inside.T, -1).tocoo()
    needed = held > 0
    needed[shared.row[shared.data == held[shared.row]]] = False
    ranks = np.flatnonzero(needed)
    solution = milp(
        1 + ranks / (1 + ranks.sum()),
        constraints=LinearConstraint(inside[ranks].T, lb=1),
        integrality=np.ones(len(ranks)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "node_limit": MOST_NODES},
    )
    assert solution.x is not None, solution.message
    return tuple(scenes[number] for number in ranks[solution.x > 0.5])


def _distinct_points(
    scenes: Sequence[Scene], tiles: Sequence[TileId]
) -> list[Int[np.ndarray, " scenes"]]:
    """For points of the tiles the numbers of the scenes that hold them, each set once."""
    tree = shapely.STRtree([scene.footprint for scene in scenes])
    sets: dict[bytes, None] = {}
    for start in range(0, len(tiles), TILES_AT_ONCE):
        points = shapely.points(tile_points(tiles[start : start + TILES_AT_ONCE]))
        point, scene = tree.query(points, predicate="within")
        order = np.lexsort((scene, point))
        ends = np.flatnonzero(np.diff(point[order])) + 1
        sets |= {each.tobytes(): None for each in np.split(scene[order], ends) if len(each)}
    return [np.frombuffer(each, dtype=np.intp) for each in sets]


def tile_points(tiles: Sequence[TileId]) -> Float[np.ndarray, "points lonlat=2"]:
    """Longitude and latitude of a regular lattice of points within each tile."""
    edges = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4)
    west, south, east, north = edges.T[..., None, None]
    parts = (np.arange(POINTS) + 0.5) / POINTS
    lon, lat = west + parts * (east - west), south + parts[:, None] * (north - south)
    return np.stack(np.broadcast_arrays(lon, lat), -1).reshape(-1, 2)
