"""The smallest set of scenes that covers the tiles."""

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from salib.curate.search.catalog import Scene
from salib.tiles.grid import TileId, tile_bounds

POINTS = 4
"""Points along a tile's side at which coverage is asked."""
TILES_AT_ONCE = 10_000
MOST_NODES = 10_000
"""Of the solver's search; a bound in seconds would make the choice depend on the machine."""


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Fewest scenes that cover every point of `tiles` that any scene covers, in their order.

    Args:
        scenes: best first: among sets of equal size the one with the smaller sum of ranks wins.
        tiles: places to cover.
    """
    chosen = np.zeros(len(scenes), dtype=bool)
    for rows, inside in _apart(scenes, tiles):
        chosen[rows] = smallest_cover(inside, rows)
    return tuple(scene for scene, take in zip(scenes, chosen, strict=True) if take)


def smallest_cover(
    inside: Bool[np.ndarray, "scenes places"], ranks: Int[np.ndarray, " scenes"] | None = None
) -> Bool[np.ndarray, " scenes"]:
    """Which rows to take so that every column that can be covered is, with the fewest rows.

    Ties go to the smallest sum of ranks, which ascend and are the row numbers by default. Solved
    exactly, as an integer programme; if the solver gives up, greedily (`greedy_cover`).
    """
    chosen = np.zeros(len(inside), dtype=bool)
    needed = np.unique(inside[:, inside.any(axis=0)], axis=1)
    if needed.size == 0:
        return chosen
    able = np.flatnonzero(~_replaceable(needed))
    ranks = np.arange(len(inside)) if ranks is None else ranks
    solution = milp(
        1 + ranks[able] / (1 + ranks[able].sum()),
        constraints=LinearConstraint(csr_array(needed[able].T.astype(float)), lb=1),
        integrality=np.ones(len(able)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "node_limit": MOST_NODES},
    )
    chosen[able] = solution.x > 0.5 if solution.success else greedy_cover(needed[able])
    return chosen


def _replaceable(inside: Bool[np.ndarray, "scenes places"]) -> Bool[np.ndarray, " scenes"]:
    """Rows all of whose columns an earlier row has: no best cover needs them."""
    shared = inside.astype(np.float32) @ inside.T.astype(np.float32)
    return np.tril(shared == shared.diagonal()[:, None], -1).any(axis=1)


def greedy_cover(inside: Bool[np.ndarray, "scenes places"]) -> Bool[np.ndarray, " scenes"]:
    """Rows taken one by one, each the first of those that add most columns."""
    chosen = np.zeros(len(inside), dtype=bool)
    missing = inside.any(axis=0)
    while missing.any():
        best = int(inside[:, missing].sum(axis=1).argmax())
        chosen[best] = True
        missing &= ~inside[best]
    return chosen


def _apart(
    scenes: Sequence[Scene], tiles: Sequence[TileId]
) -> Iterator[tuple[Int[np.ndarray, " rows"], Bool[np.ndarray, "rows places"]]]:
    """The problem in parts without a scene in common: numbers of scenes, and what they hold."""
    places = _places(scenes, tiles)
    if not places:
        return
    numbers = np.concatenate(places)
    columns = np.repeat(np.arange(len(places)), [len(place) for place in places])
    shape = len(scenes), len(places)
    inside = csr_array((np.ones(len(numbers), dtype=np.int32), (numbers, columns)), shape=shape)
    _, parts = connected_components(inside @ inside.T, directed=False)
    for part in np.unique(parts[numbers]):
        rows = np.flatnonzero(parts == part)
        dense = inside[rows].toarray() > 0
        yield rows, dense[:, dense.any(axis=0)]


def _places(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> list[Int[np.ndarray, " scenes"]]:
    """For each kind of point the numbers of the scenes that hold it."""
    tree = shapely.STRtree([scene.footprint for scene in scenes])
    kinds: dict[bytes, None] = {}
    for start in range(0, len(tiles), TILES_AT_ONCE):
        points = shapely.points(tile_points(tiles[start : start + TILES_AT_ONCE]))
        point, scene = tree.query(points, predicate="within")
        order = np.lexsort((scene, point))
        ends = np.flatnonzero(np.diff(point[order])) + 1
        kinds |= {kind.tobytes(): None for kind in np.split(scene[order], ends) if len(kind)}
    return [np.frombuffer(kind, dtype=np.intp) for kind in kinds]


def covered_fraction(area: BaseGeometry, tiles: Sequence[TileId]) -> Float[np.ndarray, " tiles"]:
    """Part of each tile that lies within `area` (degrees)."""
    west, south, east, north = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4).T
    boxes = shapely.box(west, south, east, north)
    shapely.prepare(area)
    return shapely.area(shapely.intersection(area, boxes)) / shapely.area(boxes)


def tile_points(tiles: Sequence[TileId]) -> Float[np.ndarray, "points lonlat=2"]:
    """Longitude and latitude of a regular lattice of points within each tile."""
    edges = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4)
    parts = (np.arange(POINTS) + 0.5) / POINTS
    lon = edges[:, None, :1] + parts[None, None, :] * (edges[:, 2:3] - edges[:, :1])[:, None]
    lat = edges[:, 1:2, None] + parts[None, :, None] * (edges[:, 3:4] - edges[:, 1:2])[:, None]
    shape = (len(edges), POINTS, POINTS)
    return np.stack([np.broadcast_to(lon, shape), np.broadcast_to(lat, shape)], -1).reshape(-1, 2)
