"""Joint samples: ground that all sensors see whole, as a GeoParquet table."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import geopandas
import pandas as pd

from salib.config import SENSOR_NAMES, SENSORS
from salib.curate.area import tile_boxes
from salib.tiles.grid import TileId, tile_gsd_m

MIN_VALID = 0.95
"""Part of a tile that a sensor must have seen for the place to be a joint sample."""
VALID_SHARE = 0.1
"""Part of the samples at most that is kept for a validation loss, never trained on."""
BLOCK_ZOOM = 10


def joint_samples(
    tiles: pd.DataFrame,
    zoom: int,
    sensors: Sequence[str] = SENSOR_NAMES,
    *,
    min_valid: float | int = MIN_VALID,
    valid_share: float | int = VALID_SHARE,
    keep: str | None = None,
    least_sensors: int | None = None,
) -> geopandas.GeoDataFrame:
    """Tiles that the sensors have, with the finer tiles of those such as hires, in Hilbert order.

    Args:
        tiles: one row per rendered tile: sensor, z, x, y, valid_frac, cloud_frac, datetime,
            scene_ids, gsd_native_m.
        zoom: of radar and the other sensors on its grid, and of the coarser hires.
        sensors: radar first, then the one that the days of the others are counted from.
        min_valid: part of a tile that each sensor must have seen.
        valid_share: see `split_by_block`.
        keep: which samples stay, as `pandas.DataFrame.query` takes it, over the columns below: such
            as "cloud_frac_lores <= 0.05 and days_radar <= 10".
        least_sensors: how many of the sensors a sample must have; by default all. What belongs to
            one that it lacks is NaN.

    Returns:
        One row per sample: tile_id z x y geometry gsd_m split; for each sensor valid_frac,
        datetime, scene_ids, gsd_native_m, the days from the second sensor's image (but for its
        own), and cloud_frac where scenes are classified. `gsd_m` is of a lores pixel, at the tile's
        centre.

    Raises:
        ValueError: if no sample is left, or `keep` is no rule over the columns.
    """
    seen = tiles.loc[tiles.valid_frac >= min_valid]
    parts = {name: whole_tiles(seen.loc[seen.sensor == name], name, zoom) for name in sensors}
    rows = _samples(parts, zoom, sensors, least_sensors)
    if rows.empty:
        raise ValueError(
            f"area must hold a tile that {least_sensors or 'all'} of {', '.join(sensors)} see to "
            f"{min_valid:.0%}, got none: widen the area or the dates"
        )
    if keep is not None and (rows := _passing(every := rows, keep)).empty:
        raise ValueError(f"keep must leave a sample, got none of {len(every)} with {keep!r}")
    places = [TileId(*place) for place in zip(rows.z, rows.x, rows.y, strict=True)]
    splits = split_by_block(places, valid_share)
    rows["split"] = list(splits.values())
    return geopandas.GeoDataFrame(rows, geometry=tile_boxes([*splits]), crs="EPSG:4326")


def whole_tiles(seen: pd.DataFrame, sensor: str, zoom: int) -> pd.DataFrame:
    """Of the tiles that a sensor sees those of `zoom`, by x and y, with all finer ones within."""
    base = seen.query("z == @zoom").set_index(["x", "y"])
    for level in range(1, SENSORS[sensor].levels_down + 1):
        finer = seen.query("z == @zoom + @level")[["x", "y"]] // 2**level
        counts = finer.value_counts()
        base = base.loc[base.index.isin(counts.index[counts == 4**level])]
    return base


def check_keep(keep: str, none: pd.DataFrame, sensors: Sequence[str]) -> None:
    """Refuse a rule that is none over the index's columns, tried on a table of tiles without a row.

    Raises:
        ValueError: with the columns.
    """
    _passing(_samples(dict.fromkeys(sensors, none.set_index(["x", "y"])), 0, sensors), keep)


def _passing(rows: pd.DataFrame, keep: str) -> pd.DataFrame:
    try:
        return rows.loc[rows.eval(keep).astype(bool)].reset_index(drop=True)
    except Exception as error:  # whatever the rule's own terms raise
        columns = ", ".join(rows)
        raise ValueError(f"keep must be a rule over {columns}, got {keep!r} ({error})") from error


def _samples(
    parts: dict[str, pd.DataFrame], zoom: int, sensors: Sequence[str], least: int | None = None
) -> pd.DataFrame:
    """One row per sample from the tiles of each sensor by x and y, in Hilbert order."""
    joint = pd.concat(parts, axis=1, join="inner" if least is None else "outer")
    if least is not None:
        held = pd.concat([joint[name].valid_frac.notna() for name in sensors], axis=1)
        joint = joint.loc[held.sum(axis=1) >= least]
    x, y = (joint.index.get_level_values(name).to_numpy() for name in ("x", "y"))
    tiles = [TileId(zoom, *place) for place in zip(x.tolist(), y.tolist(), strict=True)]
    columns: dict[str, Any] = {"tile_id": [tile.hilbert for tile in tiles], "z": zoom, "x": x}
    columns |= {"y": y, "gsd_m": [tile_gsd_m(tile) for tile in tiles]}
    for name in sensors:
        for column in ("valid_frac", "datetime", "scene_ids", "gsd_native_m"):
            columns[f"{column}_{name}"] = joint[name][column]
    for name in (name for name in sensors if SENSORS[name].classified):
        columns[f"cloud_frac_{name}"] = joint[name].cloud_frac
    for name in (name for name in sensors if name != sensors[1]):
        apart = joint[name].datetime - joint[sensors[1]].datetime
        columns[f"days_{name}"] = apart.abs() / pd.Timedelta(days=1)
    return pd.DataFrame(columns).sort_values("tile_id", ignore_index=True)


def check_share(share: float | int) -> None:
    """Refuse a share for validation that leaves nothing to train on."""
    if not 0 <= share < 1:
        raise ValueError(f"valid_share must be at least 0 and less than 1, got {share}")


def split_by_block(tiles: Sequence[TileId], share: float | int) -> dict[TileId, str]:
    """`train` or `valid` for each tile, alike within a block: a parent of zoom 10.

    Blocks enter `valid` in the order of a hash of their place while it stays within `share` of the
    tiles. Where every block is larger than that, blocks of the next finer zoom are tried, down to
    the coarsest tile; so `valid` never exceeds the share, and none of its ground is in `train`.

    Args:
        share: part of the tiles that `valid` holds at most; 0 leaves all in `train`.
    """
    check_share(share)
    room, held = share * len(tiles), set[TileId]()
    finest = min((tile.z for tile in tiles), default=0)
    for zoom in range(min(BLOCK_ZOOM, finest), finest + 1):
        blocks = {tile: tile.parent(tile.z - zoom) for tile in tiles}
        sizes = Counter(blocks.values())
        for block in sorted(sizes, key=lambda block: sha256(repr(tuple(block)).encode()).digest()):
            if sizes[block] <= room:
                held.add(block)
                room -= sizes[block]
        if held:
            return {tile: "valid" if block in held else "train" for tile, block in blocks.items()}
    return dict.fromkeys(tiles, "train")
