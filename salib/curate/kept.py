"""What an earlier call of `curate` left in its folder: kept if whole, cleared away if half made."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from salib.artifact import MADE_FROM
from salib.config import SENSOR_NAMES
from salib.curate.archive import Archive
from salib.curate.grid import tiles_of_ids
from salib.curate.plan import UNCOVERED
from salib.curate.verify import TILES

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


def clear_parts(out: Path) -> None:
    """Remove files that a killed run left half written."""
    for name in (*outputs(), UNCOVERED, QUARANTINE, MADE_FROM):
        for part in out.glob(f".{name}.*.part"):
            part.unlink()


def clear_shards(shards: Path) -> None:
    """Remove shards that a run, killed at its very end, left; those of another run stay."""
    shutil.rmtree(shards, ignore_errors=True)
    if shards.parent.is_dir() and not any(shards.parent.iterdir()):
        shards.parent.rmdir()
