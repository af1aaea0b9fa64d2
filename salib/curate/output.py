"""The folder that `curate` writes: its files, what may be replaced, archives and tables."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from salib.config import SENSORS
from salib.curate.plan import Plan
from salib.curate.shards import read_tiles
from salib.files.artifact import MADE_FROM, check_replaceable, differences, made_from
from salib.files.disk import not_a_link
from salib.files.tables import write_table
from salib.tiles.archive import TILES, write_archive

INDEX = "index.parquet"
SNAPSHOT = "scenes.json"
QUARANTINE = "quarantine.csv"
SHARDS, NEXT = ".shards", ".next"
"""Folders of rendered blocks, and of what is to replace a finished folder's files."""
TABLES = (INDEX, TILES, SNAPSHOT)
WRITTEN = (SNAPSHOT, *(f"{name}.pmtiles" for name in SENSORS), TILES, INDEX, QUARANTINE, MADE_FROM)
"""Every file that `curate` may leave."""


def outputs(sensors: Sequence[str]) -> list[str]:
    """Files of a finished folder."""
    return [*(f"{name}.pmtiles" for name in sensors), *TABLES]


def check_out(out: Path, key: dict, *, overwrite: bool) -> None:
    """Refuse to replace what was made from other inputs, unless asked, and files of others.

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
    curated = shards.is_dir() or (out / MADE_FROM).is_file()
    if finished or (any(out.glob("*.pmtiles")) and not curated):
        check_replaceable(out, *WRITTEN, SHARDS, NEXT, stamped=True)


def _differing(folder: Path, key: dict) -> list[str]:
    made = made_from(folder)
    return [name for name in differences(made, key) if made and name in key]


def place_of(out: Path) -> Path:
    """Where new files go: beside those of a finished folder, until they are whole."""
    return not_a_link(out / NEXT) if made_from(out) else out


def move_output(place: Path, out: Path, names: Sequence[str]) -> None:
    """Replace the files of a finished folder; while it holds some of each, it has no index."""
    if place != out:
        for name in (MADE_FROM, INDEX):
            (out / name).unlink(missing_ok=True)
        for name in sorted(WRITTEN, key=INDEX.__eq__):
            if (place / name).is_file():
                (place / name).replace(out / name)
            elif name not in (*names, QUARANTINE):
                (out / name).unlink(missing_ok=True)
    if (out / NEXT).exists():
        shutil.rmtree(out / NEXT, ignore_errors=True)


def write_output(
    out: Path,
    plan: Plan,
    shards: Sequence[Path],
    rows: pd.DataFrame,
    index: pd.DataFrame,
    workers: int,
) -> None:
    """Shards to archives and, last, the index; then they replace those of an earlier call.

    Args:
        out: the folder, new files for which are in `place_of` until they are whole.
        plan: what was rendered.
        shards: files of the blocks.
        rows: what is known of each tile.
        index: the joint samples.
        workers: archives written at a time.
    """
    place = place_of(out)
    for name in WRITTEN:
        if name not in (SNAPSHOT, QUARANTINE):
            (place / name).unlink(missing_ok=True)

    def archive(sensor: str) -> Path:
        zooms = range(plan.zoom, plan.zoom + SENSORS[sensor].levels_down + 1)
        tiles = (pair for zoom in zooms for pair in read_tiles(shards, sensor, zoom))
        scenes = plan.scenes[sensor]
        told = {
            "name": sensor,
            "attribution": "; ".join(dict.fromkeys(scene.attribution for scene in scenes)),
            "procedural": any(scene.procedural for scene in scenes),
            "scenes": [scene.id for scene in scenes],
        }
        return write_archive(place / f"{sensor}.pmtiles", tiles, metadata=told)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(archive, plan.scenes))
    rows = rows.sort_values(["sensor", "z", "x", "y"], kind="stable").reset_index(drop=True)
    write_table(place / TILES, rows)
    write_table(place / INDEX, index)
    move_output(place, out, outputs([*plan.scenes]))
