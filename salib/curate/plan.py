"""What will be rendered: tiles, scenes, units of work, and what is said before it begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from salib.config import SENSORS
from salib.curate.area import covered_fraction, tile_boxes, tiles_of_area, tiles_off
from salib.curate.cover import cover
from salib.curate.index import MIN_VALID
from salib.curate.rasters.remote import payers
from salib.curate.search.catalog import Scene, check_files
from salib.curate.shards import Block, Rendering
from salib.tiles.grid import TILE_PX, TileId, blocks_of, tile_bounds, tile_gsd_m

UNCOVERED = "uncovered.geojson"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be rendered: tiles, and for each sensor few scenes that cover them.

    `uncovered` holds tiles that were asked for and the sensors that no scene shows them to.
    """

    zoom: int
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]
    uncovered: dict[TileId, list[str]]


def make_plan(
    scenes: Mapping[str, Sequence[Scene]],
    *,
    zoom: int,
    area: BaseGeometry | None = None,
    exclude: BaseGeometry | None = None,
    min_valid: float | int = MIN_VALID,
) -> Plan:
    """Keep the tiles that all sensors cover, choose few scenes for them.

    A sensor covers a tile if `min_valid` of it lies within the footprints of its scenes.
    """
    seen = {n: shapely.union_all([one.footprint for one in scenes[n]]) for n in scenes}
    common = shapely.intersection_all([*seen.values()])
    if common.is_empty:
        *names, last = scenes
        raise ValueError(f"{', '.join(names)} and {last} scenes must overlap, got none in the area")
    asked = tiles_of_area(shapely.box(*common.bounds) if area is None else area, zoom)
    tiles = tiles_off(exclude, asked)
    if asked and not tiles:
        raise ValueError(f"exclude must leave a tile of the area, got none of {len(asked)}")
    lacks = np.array([covered_fraction(ground, tiles) < min_valid for ground in seen.values()])
    names = np.array([*scenes])
    uncovered = {
        tile: names[lacking].tolist()
        for tile, lacking in zip(tiles, lacks.T, strict=True)
        if lacking.any()
    }
    covered = tuple(tile for tile in tiles if tile not in uncovered)
    if not covered:
        edges = ", ".join(f"{edge:.4f}" for edge in common.bounds)
        raise ValueError(
            f"area must hold a tile of zoom {zoom} that all sensors cover, got none of {len(tiles)}"
            f": they cover about ({edges}); move the area, or raise zoom"
        )
    chosen = {name: cover(scenes[name], covered) for name in scenes}
    check_files(scene for name in chosen for scene in chosen[name])
    return Plan(
        zoom=zoom, tiles=covered, scenes=chosen, uncovered={} if area is None else uncovered
    )


def make_blocks(
    plan: Plan, folder: Path, rendering: Rendering, *, requester_pays: bool = False
) -> list[Block]:
    """The plan as units of work in Hilbert order, each with the scenes that meet it."""
    trees = {
        name: shapely.STRtree([scene.footprint for scene in plan.scenes[name]])
        for name in plan.scenes
    }
    blocks = []
    for parent, tiles in blocks_of(plan.tiles).items():
        ground = shapely.box(*tile_bounds(parent))
        scenes = {
            name: tuple(plan.scenes[name][n] for n in sorted(tree.query(ground, "intersects")))
            for name, tree in trees.items()
        }
        path = folder / f"{parent.z}-{parent.x}-{parent.y}.arrow"
        how = {"rendering": rendering, "requester_pays": requester_pays}
        blocks.append(Block(path=path, tiles=tuple(tiles), scenes=scenes, **how))
    return blocks


def estimate_bytes(plan: Plan, sensor: str) -> int:
    """Bytes of a sensor's pixels that will be read, before compression: a bound, not a forecast.

    The finest scene counts for all; where it is finer than a tile its overviews are read, which are
    less than twice as fine.
    """
    middle = plan.tiles[len(plan.tiles) // 2]
    finest = min((scene.native_gsd_m or 10.0) for scene in plan.scenes[sensor])
    side = min(TILE_PX * tile_gsd_m(middle) / finest, 2 * TILE_PX)
    row = SENSORS[sensor]
    value_bytes = 1 if row.dtype == "uint8" and not row.radar else 2
    tiles = sum(4**level for level in range(row.levels_down + 1))
    return int(len(plan.tiles) * side**2 * len(row.bands) * value_bytes * tiles)


def write_uncovered(path: Path, plan: Plan) -> None:
    """Write the tiles that stay bare as GeoJSON, with the names of the sensors that lack there."""
    names = ["/".join(map(str, tile)) for tile in plan.uncovered]
    about, boxes = {"tile": names, "lacks": plan.uncovered.values()}, tile_boxes([*plan.uncovered])
    path.write_text(geopandas.GeoDataFrame(about, geometry=boxes).to_json(drop_id=True))


def tell(plan: Plan, say: Callable[[str], object]) -> None:
    """Say what was chosen and what stays bare."""
    chosen = ", ".join(f"{len(plan.scenes[name])} {name}" for name in plan.scenes)
    say(f"{len(plan.tiles)} tiles of zoom {plan.zoom} from {chosen} scenes")
    if plan.uncovered:
        lacking = [name for sensors in plan.uncovered.values() for name in sensors]
        counts = ", ".join(f"{lacking.count(n)} of {n}" for n in plan.scenes if n in lacking)
        say(f"{len(plan.uncovered)} more are not covered ({counts}), see {UNCOVERED}")


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
