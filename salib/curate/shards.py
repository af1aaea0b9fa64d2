"""Blocks of tiles, rendered to one file each, which an interrupted run keeps."""

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from salib.config import SENSORS
from salib.curate.mosaic import mosaic
from salib.curate.search.scenes import Scene
from salib.files.artifact import atomic_file
from salib.files.checksum import CHECKSUM, check_checksum, write_checksum
from salib.rasters.reader import Span
from salib.rasters.remote import reading
from salib.tiles.codec import encode
from salib.tiles.grid import TILE_PX, TileId, blocks_of, tile_gsd_m

_SCHEMA = pa.schema(
    {
        "sensor": pa.string(),
        "z": pa.int64(),
        "x": pa.int64(),
        "y": pa.int64(),
        "valid_frac": pa.float64(),
        "cloud_frac": pa.float64(),
        "datetime": pa.timestamp("us", tz="UTC"),
        "scene_ids": pa.list_(pa.string()),
        "gsd_pixel_m": pa.float64(),
        "gsd_native_m": pa.float64(),
        "gcp_residual_px": pa.float64(),
        "sha256": pa.string(),
        "crc32": pa.int64(),
        "attribution": pa.string(),
        "data": pa.binary(),
    },
    CHECKSUM,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A job: tiles within one parent, and the scenes of each sensor that meet it.

    `quant` is that of `sar_to_8bit`, `encoding` that of `encode`.
    """

    path: Path
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]
    quant: str = "paper"
    encoding: str = "png"
    requester_pays: bool = False


def commit(block: Block) -> Path:
    """Render a block's tiles of all sensors and write them as one file, whole or absent."""
    hrefs = [href for scenes in block.scenes.values() for scene in scenes for href in scene.files]
    rows = []
    with reading(hrefs, requester_pays=block.requester_pays):
        for sensor in block.scenes:
            rows += _rendered(block, sensor, block.tiles)
        for sensor in block.scenes:
            for levels in range(1, SENSORS[sensor].levels_down + 1):
                finer = [child for tile in block.tiles for child in tile.children(levels)]
                for tiles in blocks_of(finer).values():
                    rows += _rendered(block, sensor, tiles)
    with atomic_file(block.path) as part:
        table = pa.Table.from_pylist(rows, _SCHEMA)
        feather.write_feather(table, str(part), compression="uncompressed")
        write_checksum(part)
    return block.path


def read_tiles(paths: Sequence[Path], sensor: str, zoom: int) -> Iterator[tuple[TileId, bytes]]:
    """Tiles of one sensor and zoom, in Hilbert order if `paths` are in that of their blocks."""
    for path in paths:
        table = feather.read_table(path, ["sensor", "z", "x", "y", "data"], memory_map=True)
        rows = table.filter((pc.field("sensor") == sensor) & (pc.field("z") == zoom)).to_pylist()
        tiles = {TileId(zoom, row["x"], row["y"]): row["data"] for row in rows}
        yield from sorted(tiles.items(), key=lambda pair: pair[0].hilbert)


def read_rows(paths: Sequence[Path]) -> pa.Table:
    """What is known of each tile but its pixels.

    Raises:
        ValueError: if a block was damaged since it was rendered.
    """
    for path in paths:
        check_checksum(path, "delete it and run the same command again")
    known = [name for name in _SCHEMA.names if name != "data"]
    tables = [feather.read_table(path, known, memory_map=False) for path in paths]
    tables.append(_SCHEMA.empty_table().select(known))
    return pa.concat_tables(tables).replace_schema_metadata(None)


def _rendered(block: Block, sensor: str, tiles: Sequence[TileId]) -> list[dict]:
    scenes, span = block.scenes[sensor], Span.around([*tiles])
    image = mosaic(scenes, span, quant=block.quant)
    gsd_m = {number: reader.native_gsd_m(span) for number, reader in image.readers.items()}
    rows = []
    for tile in tiles:
        top, left = (tile.y - span.y) * TILE_PX, (tile.x - span.x) * TILE_PX
        here = np.s_[top : top + TILE_PX, left : left + TILE_PX]
        # pixels of each scene; 0 counts those of none
        shares = np.bincount(image.source[here].ravel() + 1, minlength=len(scenes) + 1)[1:]
        if not shares.any():
            continue
        most, used = int(shares.argmax()), np.flatnonzero(shares).tolist()
        classified = all(scenes[number].scl for number in used)
        cloud = float(image.cloud[here].sum() / shares.sum()) if classified else math.nan
        data = encode(image.image[here], block.encoding)
        row = {
            "sensor": sensor,
            "valid_frac": float(shares.sum()) / TILE_PX**2,
            "cloud_frac": cloud,
            "datetime": scenes[most].datetime,
            "scene_ids": [scenes[number].id for number in used],
            "gsd_pixel_m": tile_gsd_m(tile),
            "gsd_native_m": gsd_m[most],
            "gcp_residual_px": image.readers[most].gcp_residual_px,
            "sha256": hashlib.sha256(data).hexdigest(),
            "crc32": zlib.crc32(data),
            "attribution": "; ".join(dict.fromkeys(scenes[n].attribution for n in used)),
            "data": data,
        }
        rows.append(tile._asdict() | row)
    return rows
