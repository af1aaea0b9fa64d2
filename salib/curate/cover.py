"""The smallest set of scenes that covers the tiles."""

from collections.abc import Sequence

import numpy as np
import shapely
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, milp
from shapely.geometry.base import BaseGeometry

from salib.curate.catalog import Scene
from salib.curate.grid import TileId, tile_bounds

POINTS = 4
"""Points along a tile's side at which coverage is asked."""


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Fewest scenes that cover every point of `tiles` that any scene covers, in their order.

    Args:
        scenes: best first: among sets of equal size the one with the smaller sum of ranks wins.
        tiles: places to cover.
    """
    points = tile_points(tiles)
    inside = np.array(
        [shapely.contains_xy(scene.footprint, points[:, 0], points[:, 1]) for scene in scenes],
        dtype=bool,
    ).reshape(len(scenes), len(points))
    chosen = smallest_cover(inside)
    return tuple(scene for scene, take in zip(scenes, chosen, strict=True) if take)


def smallest_cover(inside: Bool[np.ndarray, "scenes places"]) -> Bool[np.ndarray, " scenes"]:
    """Which rows to take so that every column that can be covered is, with the fewest rows.

    Ties go to the smallest sum of row numbers. Solved exactly, as an integer programme; if the
    solver gives up, greedily (`greedy_cover`).
    """
    scenes = len(inside)
    needed = np.unique(inside[:, inside.any(axis=0)], axis=1)
    if needed.size == 0:
        return np.zeros(scenes, dtype=bool)
    cost = 1 + np.arange(scenes) / scenes**2
    solution = milp(
        cost,
        constraints=LinearConstraint(needed.T.astype(float), lb=1),
        integrality=np.ones(scenes),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    return solution.x > 0.5 if solution.success else greedy_cover(needed)


def greedy_cover(inside: Bool[np.ndarray, "scenes places"]) -> Bool[np.ndarray, " scenes"]:
    """Rows taken one by one, each the first of those that add most columns."""
    chosen = np.zeros(len(inside), dtype=bool)
    missing = inside.any(axis=0)
    while missing.any():
        best = int(inside[:, missing].sum(axis=1).argmax())
        chosen[best] = True
        missing &= ~inside[best]
    return chosen


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
