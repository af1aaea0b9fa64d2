"""One file a block of tiles: what is rendered is kept, whatever happens to the run."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from salib.artifact import atomic_file
from salib.config import SENSOR_NAMES
from salib.curate.catalog import Scene
from salib.curate.codec import encode
from salib.curate.grid import TILE_PX, TileId
from salib.curate.raster import Span
from salib.curate.render import mosaic

ROW = ["sensor", "z", "x", "y", "valid_frac", "datetime", "scene_ids"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A unit of work: tiles within one parent, the scenes of each sensor that meet it."""

    path: Path
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]
    quant: str
    encoding: str


def commit(block: Block) -> Path:
    """Render a block's tiles of all sensors and write them as one file, whole or absent."""
    span = Span.around([*block.tiles])
    rows = []
    for sensor in SENSOR_NAMES:
        rows += _rendered(block, sensor, span, block.tiles)
    finer = [child for tile in block.tiles for child in tile.children()]
    rows += _rendered(block, "hires", span.finer(), finer)
    with atomic_file(block.path) as part:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), part, compression="none")
    return block.path


def read_tiles(paths: Sequence[Path], sensor: str, zoom: int) -> Iterator[tuple[TileId, bytes]]:
    """Tiles of one sensor and zoom, in Hilbert order if `paths` are in that of their blocks."""
    wanted = [("sensor", "=", sensor), ("z", "=", zoom)]
    for path in paths:
        table = pq.read_table(path, columns=["x", "y", "data"], filters=wanted)
        tiles = [(TileId(zoom, row["x"], row["y"]), row["data"]) for row in table.to_pylist()]
        yield from sorted(tiles, key=lambda pair: pair[0].hilbert)


def read_rows(paths: Sequence[Path]) -> pd.DataFrame:
    """What is known of each tile but its pixels."""
    return pa.concat_tables([pq.read_table(path, columns=ROW) for path in paths]).to_pandas()


def start_worker() -> None:
    """Prepare a worker process: one thread, and no life after the parent's."""
    cv2.setNumThreads(1)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _rendered(block: Block, sensor: str, span: Span, tiles: Sequence[TileId]) -> list[dict]:
    scenes = block.scenes[sensor]
    image = mosaic(scenes, span, quant=block.quant)
    rows = []
    for tile in tiles:
        top, left = (tile.y - span.y) * TILE_PX, (tile.x - span.x) * TILE_PX
        here = np.s_[top : top + TILE_PX, left : left + TILE_PX]
        shares = np.bincount(image.source[here].ravel() + 1, minlength=len(scenes) + 1)[1:]
        if not shares.any():
            continue
        row = {
            "sensor": sensor,
            "valid_frac": float(shares.sum()) / TILE_PX**2,
            "datetime": scenes[int(shares.argmax())].datetime,
            "scene_ids": [scenes[number].id for number in np.flatnonzero(shares)],
            "data": encode(np.ascontiguousarray(image.rgba[here]), block.encoding),
        }
        rows.append(tile._asdict() | row)
    return rows


_SCHEMA = pa.schema(
    {
        "sensor": pa.string(),
        "z": pa.int64(),
        "x": pa.int64(),
        "y": pa.int64(),
        "valid_frac": pa.float64(),
        "datetime": pa.timestamp("us", tz="UTC"),
        "scene_ids": pa.list_(pa.string()),
        "data": pa.binary(),
    }
)
