"""What an earlier call of `curate` left in its folder: whole, unfinished, or of other inputs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from salib.config import SENSOR_NAMES
from salib.curate.plan import UNCOVERED
from salib.files.artifact import MADE_FROM, check_replaceable, differences, made_from
from salib.tiles.archive import Archive
from salib.tiles.checks import TILES
from salib.tiles.grid import tiles_of_ids

INDEX = "index.parquet"
SNAPSHOT = "scenes.parquet"
QUARANTINE = "quarantine.csv"
SHARDS = ".shards"


def outputs() -> list[str]:
    """Names of the files that `curate` leaves."""
    return [*(f"{sensor}.pmtiles" for sensor in SENSOR_NAMES), INDEX, TILES, SNAPSHOT]


def is_whole(out: Path) -> bool:
    """Whether the tables can be read, and each archive, which holds the tiles that they name."""
    places = ["z", "x", "y"]
    try:
        rows = pd.read_parquet(out / TILES, columns=["sensor", *places])
        samples = pd.read_parquet(out / INDEX, columns=["gsd_m", "split", *places])
        pq.read_schema(out / SNAPSHOT)
        for sensor in SENSOR_NAMES:
            archive = Archive(out / f"{sensor}.pmtiles")
            archive.close()
            held = pd.DataFrame(tiles_of_ids(archive.ids), columns=places).sort_values(places)
            listed = rows.loc[rows.sensor == sensor, places].sort_values(places)
            if not np.array_equal(held, listed) or samples.empty:
                return False
            if len(samples.merge(listed)) < len(samples):
                return False
    except (ValueError, OSError, KeyError):
        return False
    return True


def check_out(out: Path, key: dict, *, overwrite: bool) -> None:
    """Refuse to replace what was made from other inputs, unless asked, and what others made.

    Args:
        key: what is known of the call so far; entries of the stamp that it lacks are not compared.

    Raises:
        ValueError: naming what differs, or a file that `curate` has not written.
    """
    shards = out / SHARDS
    finished = _differing(out, key)
    unfinished = _differing(shards, key) if any(shards.glob("*.arrow")) else []
    if (finished or unfinished) and not overwrite:
        state = "tiles" if finished else "unfinished tiles"
        raise ValueError(
            f"out must be new or made from the same inputs, got {out} with {state} that differ in "
            f"{', '.join(finished or unfinished)}: choose another folder, or replace them with "
            "--overwrite"
        )
    ours = shards.is_dir() or (out / MADE_FROM).is_file()
    if finished or (any(out.glob("*.pmtiles")) and not ours):
        written = (*outputs(), UNCOVERED, QUARANTINE, MADE_FROM, SHARDS)
        parts = (f".{name}.*.part" for name in written)
        check_replaceable(out, *written, *parts, stamped=True)


def _differing(folder: Path, key: dict) -> list[str]:
    """Entries of `key` that `folder` was made from otherwise; none if it was not completed."""
    made = made_from(folder)
    return [name for name in differences(made, key) if made and name in key]
