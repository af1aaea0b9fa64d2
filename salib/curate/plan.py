"""What will be rendered: tiles, scenes, units of work, and what is said before it begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, compress
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from shapely.geometry.base import BaseGeometry

from salib.config import SENSORS
from salib.curate.area import covered_fraction, tiles_of_area, tiles_off
from salib.curate.index import MIN_VALID
from salib.curate.search.scenes import Scene, check_files
from salib.curate.shards import Block
from salib.rasters.remote import payers
from salib.tiles.grid import TILE_PX, TileId, blocks_of, tile_bounds, tile_gsd_m

POINTS = 4
"""Points along a tile's side at which coverage is asked."""
TILES_AT_ONCE = 10_000
MOST_NODES = 10_000
"""Of the solver's search; a bound in seconds would make the choice depend on the machine."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be rendered: tiles, and for each sensor the fewest scenes that cover them.

    `uncovered` counts the tiles that were asked for and no scene of a sensor shows.
    """

    zoom: int
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]
    uncovered: dict[str, int]


def make_plan(
    scenes: Mapping[str, Sequence[Scene]],
    *,
    zoom: int,
    area: BaseGeometry | None = None,
    exclude: BaseGeometry | None = None,
    min_valid: float | int = MIN_VALID,
    least_sensors: int | None = None,
) -> Plan:
    """Keep the tiles that `least_sensors` cover, by default all; choose the fewest scenes for them.

    A sensor covers a tile if `min_valid` of it lies within the footprints of its scenes.
    """
    seen = {n: shapely.union_all([one.footprint for one in scenes[n]]) for n in scenes}
    least = least_sensors or len(seen)
    several = map(shapely.intersection_all, combinations(seen.values(), least))
    common = shapely.union_all([*several])
    if common.is_empty:
        *names, last = scenes
        raise ValueError(f"{', '.join(names)} and {last} scenes must overlap, got none in the area")
    asked = tiles_of_area(common if area is None else area, zoom)
    tiles = asked if exclude is None else tiles_off(exclude, asked)
    if asked and not tiles:
        raise ValueError(f"exclude must leave a tile of the area, got none of {len(asked)}")
    lacks = np.array([covered_fraction(ground, tiles) < min_valid for ground in seen.values()])
    covered = tuple(compress(tiles, np.sum(~lacks, axis=0) >= least))
    if not covered:
        edges = ", ".join(f"{edge:.4f}" for edge in common.bounds)
        raise ValueError(
            f"area must hold a tile of zoom {zoom} that {least} sensors cover, got none of "
            f"{len(tiles)}: they cover about ({edges}); move the area, or raise zoom"
        )
    chosen = {name: cover(scenes[name], covered) for name in scenes}
    check_files(scene for name in chosen for scene in chosen[name])
    counts = dict(zip(scenes, lacks.sum(axis=1).tolist(), strict=True))
    uncovered = {name: count for name, count in counts.items() if count and area is not None}
    return Plan(zoom=zoom, tiles=covered, scenes=chosen, uncovered=uncovered)


def cover(scenes: Sequence[Scene], tiles: Sequence[TileId]) -> tuple[Scene, ...]:
    """Fewest scenes that cover every point of `tiles` that any scene covers, in their order.

    An integer programme; a greedy cover takes up to a third more.

    Args:
        scenes: best first: among sets of equal size the one with the smaller sum of ranks wins.
        tiles: what to cover.
    """
    tree = shapely.STRtree([scene.footprint for scene in scenes])
    sets: dict[bytes, None] = {}  # numbers of the scenes that hold a point, each set once
    for start in range(0, len(tiles), TILES_AT_ONCE):
        points = shapely.points(tile_points(tiles[start : start + TILES_AT_ONCE]))
        point, scene = tree.query(points, predicate="within")
        order = np.lexsort((scene, point))
        ends = np.flatnonzero(np.diff(point[order])) + 1
        sets |= {each.tobytes(): None for each in np.split(scene[order], ends) if len(each)}
    if not sets:
        return ()
    held = [np.frombuffer(each, dtype=np.intp) for each in sets]
    rows = np.repeat(np.arange(len(held)), [len(each) for each in held])
    inside = csr_array((np.ones(len(rows)), (rows, np.concatenate(held))), (len(held), len(scenes)))
    ranks = np.arange(len(scenes))
    solution = milp(
        1 + ranks / (1 + ranks.sum()),
        constraints=LinearConstraint(inside, lb=1),
        integrality=np.ones(len(ranks)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "node_limit": MOST_NODES},
    )
    assert solution.x is not None, solution.message
    return tuple(scenes[number] for number in np.flatnonzero(solution.x > 0.5).tolist())


def tile_points(tiles: Sequence[TileId]) -> Float[np.ndarray, "points lonlat=2"]:
    """Longitude and latitude of a regular lattice of points within each tile."""
    edges = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4)
    west, south, east, north = edges.T[..., None, None]
    parts = (np.arange(POINTS) + 0.5) / POINTS
    lon, lat = west + parts * (east - west), south + parts[:, None] * (north - south)
    return np.stack(np.broadcast_arrays(lon, lat), -1).reshape(-1, 2)


def make_blocks(plan: Plan, folder: Path, **how: Any) -> list[Block]:
    """The plan as units of work in Hilbert order, each with the scenes that meet it.

    Args:
        plan: what is to be rendered.
        folder: where the blocks' files go.
        how: further fields of each `Block`.
    """
    trees = {
        name: shapely.STRtree([scene.footprint for scene in chosen])
        for name, chosen in plan.scenes.items()
    }
    blocks = []
    for parent, tiles in blocks_of(plan.tiles).items():
        ground = shapely.box(*tile_bounds(parent))
        scenes = {
            name: tuple(plan.scenes[name][n] for n in sorted(tree.query(ground, "intersects")))
            for name, tree in trees.items()
        }
        path = folder / f"{parent.z}-{parent.x}-{parent.y}.arrow"
        blocks.append(Block(path=path, tiles=tuple(tiles), scenes=scenes, **how))
    return blocks


def estimate_bytes(plan: Plan, sensor: str) -> int:
    """Bytes of a sensor's pixels that will be read, before compression: a bound, not a forecast.

    Of files finer than a tile overviews are read, which are less than twice as fine.
    """
    row, middle = SENSORS[sensor], plan.tiles[len(plan.tiles) // 2]
    side = min(TILE_PX * tile_gsd_m(middle) / row.native_gsd_m, 2 * TILE_PX)
    value_bytes = 1 if row.dtype == "uint8" and not row.radar else 2
    tiles = sum(4**level for level in range(row.levels_down + 1))
    return int(len(plan.tiles) * side**2 * len(row.bands) * value_bytes * tiles)


def tell(plan: Plan, say: Callable[[str], object]) -> None:
    """Say what was chosen and what stays bare."""
    chosen = ", ".join(f"{len(plan.scenes[name])} {name}" for name in plan.scenes)
    say(f"{len(plan.tiles)} tiles of zoom {plan.zoom} from {chosen} scenes")
    if plan.uncovered:
        bare = ", ".join(f"{count} by {name}" for name, count in plan.uncovered.items())
        say(f"further tiles of the area are not covered: {bare}")


def check_bill(plan: Plan, requester_pays: bool, say: Callable[[str], object]) -> None:
    """Say what is billed to the caller, and refuse it unless it was asked for."""
    for name, scenes in plan.scenes.items():
        hrefs = payers([href for scene in scenes for href in scene.files])
        if not hrefs:
            continue
        bill = f"up to {estimate_bytes(plan, name) / 1e9:.2f} GB of {name} ({hrefs[0]}, ...)"
        if not requester_pays:
            raise ValueError(
                f"requester_pays must be set to read {bill} at the expense of your AWS account, "
                "got False: set it, or search a catalogue that is free to read"
            )
        say(f"{bill} will be billed to your AWS account")
