"""What will be rendered: places, scenes, units of work, and what is said before it begins."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from salib.config import SENSORS
from salib.curate.area import covered_fraction, tiles_of_area, tiles_off
from salib.curate.cover import cover
from salib.curate.index import MIN_VALID
from salib.curate.rasters.remote import payers
from salib.curate.search.catalog import Rules, Scene, check_files, search
from salib.curate.shards import Block
from salib.tiles.grid import TILE_PX, TileId, blocks_of, tile_bounds, tile_gsd_m

BLOCK_LEVELS = 2
UNCOVERED = "uncovered.geojson"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be rendered: places, and for each sensor the fewest scenes that cover them.

    `uncovered` holds places that were asked for and the sensors that no scene shows them to.
    """

    zoom: int
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]
    uncovered: dict[TileId, list[str]]


def make_plan(
    items: Sequence[pystac.Item],
    *,
    zoom: int,
    area: BaseGeometry | None = None,
    rules: Rules | None = None,
    exclude: BaseGeometry | None = None,
    select: str = "intersects",
    min_valid: float | int = MIN_VALID,
) -> Plan:
    """Search, keep the tiles that all sensors cover, choose the fewest scenes for them.

    A sensor covers a tile if `min_valid` of it lies within the footprints of its scenes.
    """
    sensors = (rules or Rules()).sensors
    found = {name: search(items, name, rules, area) for name in sensors}
    seen = {n: shapely.union_all([scene.footprint for scene in found[n]]) for n in sensors}
    common = shapely.intersection_all([*seen.values()])
    if common.is_empty:
        listed = f"{', '.join(sensors[:-1])} and {sensors[-1]}"
        raise ValueError(f"{listed} scenes must overlap, got none in the area")
    asked = tiles_of_area(
        shapely.box(*common.bounds) if area is None else area, zoom, select=select
    )
    free = tiles_off(exclude, asked)
    if asked and not free:
        raise ValueError(f"exclude must leave a tile of the area, got none of {len(asked)}")
    asked = free
    lacks = {
        name: covered_fraction(ground, asked) < min_valid if asked else np.zeros(0, dtype=bool)
        for name, ground in seen.items()
    }
    bare = {
        tile: [name for name in sensors if lacks[name][number]] for number, tile in enumerate(asked)
    }
    tiles = [tile for tile, lacking in bare.items() if not lacking]
    if not tiles:
        edges = ", ".join(f"{edge:.4f}" for edge in common.bounds)
        raise ValueError(
            f"area must hold a tile of zoom {zoom} that all sensors cover, got none of {len(asked)}"
            f": they cover about ({edges}); move the area, or raise zoom"
        )
    scenes = {name: cover(found[name], tiles) for name in sensors}
    for name in sensors:
        check_files(scenes[name])
    uncovered = {} if area is None else {tile: who for tile, who in bare.items() if who}
    return Plan(zoom=zoom, tiles=tuple(tiles), scenes=scenes, uncovered=uncovered)


def make_blocks(
    plan: Plan,
    folder: Path,
    *,
    quant: str,
    encoding: str = "png",
    resampling: str = "smooth",
    requester_pays: bool = False,
) -> list[Block]:
    """The plan as units of work in Hilbert order, each with the scenes that meet it."""
    trees = {
        name: shapely.STRtree([scene.footprint for scene in plan.scenes[name]])
        for name in plan.scenes
    }
    blocks = []
    for parent, tiles in blocks_of(plan.tiles, BLOCK_LEVELS).items():
        ground = shapely.box(*tile_bounds(parent))
        scenes = {
            name: tuple(plan.scenes[name][n] for n in sorted(tree.query(ground, "intersects")))
            for name, tree in trees.items()
        }
        path = folder / f"{parent.z}-{parent.x}-{parent.y}.arrow"
        how = {"quant": quant, "encoding": encoding, "resampling": resampling}
        block = Block(
            path=path, tiles=tuple(tiles), scenes=scenes, requester_pays=requester_pays, **how
        )
        blocks.append(block)
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
    """Write the places that stay bare as GeoJSON, with the names of the sensors that lack there."""
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.box(*tile_bounds(tile))),
            "properties": {"tile": "/".join(map(str, tile)), "lacks": sensors},
        }
        for tile, sensors in plan.uncovered.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


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
    for name in plan.scenes:
        scenes = plan.scenes[name]
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
