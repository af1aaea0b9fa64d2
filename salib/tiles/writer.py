"""PMTiles version 3, written by the reference library: clustered, whole or absent."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pmtiles.tile import Compression, TileType
from pmtiles.writer import Writer

from salib.files.artifact import atomic_file
from salib.tiles.codec import image_format
from salib.tiles.grid import HALF_WORLD_M, Bounds, TileId, tiles_of_ids, to_lonlat

_TYPES = {"png": TileType.PNG, "jpeg": TileType.JPEG, "webp": TileType.WEBP}


def write_archive(
    path: str | Path, tiles: Iterable[tuple[TileId, bytes]], *, metadata: dict[str, Any]
) -> Path:
    """Write encoded tiles as one clustered PMTiles archive; equal contents are stored once.

    Args:
        path: the file.
        tiles: PNG, JPEG or WebP bytes in Hilbert order, each tile once.
        metadata: shown by readers; holds `attribution`, and `procedural: true` for made-up ground.

    Raises:
        ValueError: for tiles in another order, a tile that is no image, or no tile at all.
    """
    ids, kind = [], None
    with (
        atomic_file(path) as part,
        part.open("wb") as file,
        tempfile.TemporaryFile(dir=part.parent) as spool,
    ):
        writer = Writer(file)
        writer.tile_f.close()
        writer.tile_f = spool  # beside the archive, which /tmp may be too small for
        for tile, data in tiles:
            if ids and tile.hilbert <= ids[-1]:
                raise ValueError(f"tiles must come once and in Hilbert order, got {tuple(tile)}")
            if (found := image_format(data)) is None:
                raise ValueError(f"tile {tuple(tile)} must be PNG, JPEG or WebP, got {data[:16]!r}")
            kind = kind or found
            ids.append(tile.hilbert)
            writer.write_tile(ids[-1], data)
        if kind is None:
            raise ValueError("tiles must hold at least one tile, got none")
        degrees = [round(edge * 1e7) for edge in _bounds(ids)]
        edges = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
        header = {"tile_type": _TYPES[kind], "tile_compression": Compression.NONE}
        ordered = json.loads(json.dumps(metadata, sort_keys=True))
        writer.finalize(header | dict(zip(edges, degrees, strict=True)), ordered)
    return Path(path)


def _bounds(ids: list[int]) -> Bounds:
    zoom, x, y = tiles_of_ids(np.array(ids, dtype=np.int64)).T
    size = 2 * HALF_WORLD_M / 2.0**zoom
    west, south = (x * size).min() - HALF_WORLD_M, HALF_WORLD_M - ((y + 1) * size).max()
    east, north = ((x + 1) * size).max() - HALF_WORLD_M, HALF_WORLD_M - (y * size).min()
    return (*to_lonlat(west, south), *to_lonlat(east, north))
