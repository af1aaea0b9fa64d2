"""Joint samples: places that all three sensors see whole, as a GeoParquet table."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import geopandas
import pandas as pd
import shapely

from salib.config import SENSOR_NAMES
from salib.curate.grid import TileId, tile_bounds, tile_gsd_m

MIN_VALID = 0.95
"""Part of a tile that a sensor must have seen for the place to be a joint sample."""
BLOCK_ZOOM = 10
VALID_SHARE = 0.2


def joint_samples(tiles: pd.DataFrame, zoom: int) -> geopandas.GeoDataFrame:
    """Places with radar, lores, hires and the four finer hires tiles, in Hilbert order.

    Args:
        tiles: one row a rendered tile: sensor, z, x, y, valid_frac, datetime, scene_ids.
        zoom: of radar, lores and the coarser hires.

    Returns:
        One row a place: tile_id z x y geometry gsd_m split, and for each sensor valid_frac,
        datetime, scene_ids. `gsd_m` is of a lores pixel, at the tile's centre.
    """
    seen: dict[str, dict[TileId, dict]] = {name: {} for name in SENSOR_NAMES}
    for row in tiles.query(f"valid_frac >= {MIN_VALID}").to_dict(orient="records"):
        seen[row["sensor"]][TileId(row["z"], row["x"], row["y"])] = row
    joint = [
        tile
        for tile in sorted(seen["radar"], key=lambda tile: tile.hilbert)
        if tile.z == zoom
        and tile in seen["lores"]
        and seen["hires"].keys() >= {tile, *tile.children()}
    ]
    splits = split_by_block(joint)
    rows: list[dict[str, Any]] = []
    for tile in joint:
        row = {"tile_id": tile.hilbert} | tile._asdict() | {"gsd_m": tile_gsd_m(tile)}
        for name in SENSOR_NAMES:
            for column in ("valid_frac", "datetime", "scene_ids"):
                row[f"{column}_{name}"] = seen[name][tile][column]
        rows.append(row | {"split": splits[tile], "geometry": shapely.box(*tile_bounds(tile))})
    if not rows:
        raise ValueError(
            "bbox must hold a place that all three sensors see whole, got none: widen bbox or dates"
        )
    return geopandas.GeoDataFrame(pd.DataFrame(rows), geometry="geometry", crs="EPSG:4326")


def split_by_block(tiles: Sequence[TileId]) -> dict[TileId, str]:
    """`train` or `valid` for each tile, alike within a parent of zoom 10.

    Parents enter `valid` in the order of a hash of their place while it stays within a fifth of
    the tiles; where none is small enough the smallest does. One parent alone is `train`.
    """
    blocks = {tile: tile.parent(max(0, tile.z - BLOCK_ZOOM)) for tile in tiles}
    sizes = Counter(blocks.values())
    order = sorted(sizes, key=lambda block: hashlib.sha256(repr(tuple(block)).encode()).digest())
    held: set[TileId] = set()
    room = VALID_SHARE * len(tiles)
    for block in order:
        if sizes[block] <= room:
            held.add(block)
            room -= sizes[block]
    if not held and len(order) > 1:
        held.add(min(order, key=lambda block: sizes[block]))
    return {tile: "valid" if block in held else "train" for tile, block in blocks.items()}
