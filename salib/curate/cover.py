"""A small set of scenes that covers the tiles."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import shapely
from jaxtyping import Float

from salib.curate.search.catalog import Scene
from salib.tiles.grid import TileId, tile_bounds

POINTS = 4
"""Points along a tile's side at which coverage is asked."""
TILES_AT_ONCE = 10_000


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Scenes that cover every point of `tiles` that any scene covers, in their order.

    Taken one by one, each the first of those that add most points (greedy set cover); then those
    go that the others make superfluous.

    Args:
        scenes: best first.
        tiles: what to cover.
    """
    kinds = _points(scenes, tiles)
    scene = np.concatenate([np.frombuffer(kind, np.intp) for kind in kinds] or [np.zeros(0, int)])
    kind = np.repeat(np.arange(len(kinds)), [len(numbers) // 8 for numbers in kinds])
    points = np.array([*kinds.values()])[kind]
    chosen: list[int] = []
    missing = np.ones(len(kinds), dtype=bool)
    while missing.any():
        adds = np.bincount(scene, points * missing[kind], len(scenes))
        chosen.append(int(adds.argmax()))
        missing[kind[scene == chosen[-1]]] = False
    times = np.bincount(kind[np.isin(scene, chosen)], minlength=len(kinds))
    for number in sorted(chosen, reverse=True):
        held = kind[scene == number]
        if (times[held] > 1).all():
            times[held] -= 1
            chosen.remove(number)
    return tuple(scenes[number] for number in sorted(chosen))


def _points(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> Counter[bytes]:
    """How many points lie in the same scenes, by the numbers of these scenes."""
    tree = shapely.STRtree([scene.footprint for scene in scenes])
    kinds: Counter[bytes] = Counter()
    for start in range(0, len(tiles), TILES_AT_ONCE):
        points = shapely.points(tile_points(tiles[start : start + TILES_AT_ONCE]))
        point, scene = tree.query(points, predicate="within")
        order = np.lexsort((scene, point))
        ends = np.flatnonzero(np.diff(point[order])) + 1
        kinds.update(kind.tobytes() for kind in np.split(scene[order], ends) if len(kind))
    return kinds


def tile_points(tiles: Sequence[TileId]) -> Float[np.ndarray, "points lonlat=2"]:
    """Longitude and latitude of a regular lattice of points within each tile."""
    edges = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4)
    parts = (np.arange(POINTS) + 0.5) / POINTS
    lon = edges[:, None, :1] + parts[None, None, :] * (edges[:, 2:3] - edges[:, :1])[:, None]
    lat = edges[:, 1:2, None] + parts[None, :, None] * (edges[:, 3:4] - edges[:, 1:2])[:, None]
    shape = (len(edges), POINTS, POINTS)
    return np.stack([np.broadcast_to(lon, shape), np.broadcast_to(lat, shape)], -1).reshape(-1, 2)
