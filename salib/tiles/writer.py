"""PMTiles version 3, written: clustered, each content once, whole or absent."""

import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from pmtiles.tile import Compression, Entry, HeaderDict, TileType, serialize_header
from pmtiles.writer import optimize_directories

from salib.files.artifact import atomic_file
from salib.tiles.codec import image_format
from salib.tiles.grid import TileId, tile_bounds, tiles_of_ids

HEADER_BYTES = 127
ROOT_BYTES = 16384 - HEADER_BYTES
_TYPES = {"png": TileType.PNG, "jpeg": TileType.JPEG, "webp": TileType.WEBP}


def write_archive(
    path: str | Path, tiles: Iterable[tuple[TileId, bytes]], *, metadata: dict[str, Any]
) -> Path:
    """Write encoded tiles as one clustered PMTiles archive.

    Equal contents are stored once. The bytes depend on tiles and metadata only, not on the order
    in which the tiles come.

    Args:
        tiles: places with PNG, JPEG or WebP bytes, each place once.
        metadata: shown by readers; holds `attribution`, and `procedural: true` for made-up ground.

    Raises:
        ValueError: for a place given twice, a tile that is no image, or no tile at all.
    """
    with (
        atomic_file(path) as part,
        tempfile.TemporaryFile(dir=Path(path).parent) as spool,
        part.open("wb") as file,
    ):
        placed, lengths = _spool(tiles, spool)
        entries, order = _entries(placed, lengths)
        spool.seek(0)
        kind = image_format(spool.read(16))
        file.write(_head(entries, placed, lengths, metadata, _TYPES[str(kind)]))
        _copy(spool, file, lengths, order)
    return Path(path)


def _copy(spool: IO[bytes], file: IO[bytes], lengths: list[int], order: list[int]) -> None:
    if order == list(range(len(order))):
        spool.seek(0)
        shutil.copyfileobj(spool, file, 1 << 18)
        return
    starts = np.cumsum(lengths) - lengths
    for content in order:
        spool.seek(int(starts[content]))
        file.write(spool.read(lengths[content]))


def _spool(
    tiles: Iterable[tuple[TileId, bytes]], spool: IO[bytes]
) -> tuple[dict[int, int], list[int]]:
    """Append distinct contents to `spool`: which content each id has, and their lengths."""
    placed: dict[int, int] = {}
    known: dict[bytes, int] = {}
    lengths: list[int] = []
    for tile, data in tiles:
        tile_id = tile.hilbert
        if tile_id in placed:
            raise ValueError(f"tiles must hold each place once, got {tuple(tile)} twice")
        if image_format(data) is None:
            raise ValueError(f"tile {tuple(tile)} must be PNG, JPEG or WebP, got {data[:16]!r}")
        digest = hashlib.sha256(data).digest()
        if digest not in known:
            known[digest] = len(lengths)
            lengths.append(len(data))
            spool.write(data)
        placed[tile_id] = known[digest]
    if not placed:
        raise ValueError("tiles must hold at least one tile, got none")
    spool.flush()
    return placed, lengths


def _entries(placed: dict[int, int], lengths: list[int]) -> tuple[list[Entry], list[int]]:
    """Directory in Hilbert order, and the contents in the order of their first place in it."""
    entries: list[Entry] = []
    order: list[int] = []
    offsets: dict[int, int] = {}
    end = 0
    for tile_id in sorted(placed):
        content = placed[tile_id]
        if content not in offsets:
            offsets[content] = end
            order.append(content)
            end += lengths[content]
        last = entries[-1] if entries else None
        if last and tile_id == last.tile_id + last.run_length and last.offset == offsets[content]:
            last.run_length += 1
        else:
            entries.append(Entry(tile_id, offsets[content], lengths[content], 1))
    return entries, order


def _head(
    entries: list[Entry],
    placed: dict[int, int],
    lengths: list[int],
    metadata: dict[str, Any],
    kind: TileType,
) -> bytes:
    """Everything before the tile data: header, root directory, metadata, leaf directories."""
    root, leaves, _ = optimize_directories(entries, ROOT_BYTES)
    text = gzip.compress(json.dumps(metadata, sort_keys=True).encode(), mtime=0)
    zooms, bounds = _extent(placed)
    degrees = [round(edge * 1e7) for edge in bounds]
    header = {
        "root_offset": HEADER_BYTES,
        "root_length": len(root),
        "metadata_offset": HEADER_BYTES + len(root),
        "metadata_length": len(text),
        "leaf_directory_offset": HEADER_BYTES + len(root) + len(text),
        "leaf_directory_length": len(leaves),
        "tile_data_offset": HEADER_BYTES + len(root) + len(text) + len(leaves),
        "tile_data_length": sum(lengths),
        "addressed_tiles_count": len(placed),
        "tile_entries_count": len(entries),
        "tile_contents_count": len(lengths),
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": Compression.NONE,
        "tile_type": kind,
        "min_zoom": zooms[0],
        "max_zoom": zooms[1],
    } | dict(zip(("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7"), degrees, strict=True))
    return serialize_header(cast("HeaderDict", header)) + root + text + leaves


def _extent(placed: dict[int, int]) -> tuple[tuple[int, int], list[float]]:
    places = tiles_of_ids(np.array(sorted(placed), dtype=np.int64))
    corners = []
    for zoom in np.unique(places[:, 0]):
        at_zoom = places[places[:, 0] == zoom, 1:]
        for x, y in (at_zoom.min(axis=0), at_zoom.max(axis=0)):
            corners.append(tile_bounds(TileId(int(zoom), int(x), int(y))))
    edges = np.array(corners)
    bounds = [*edges[:, :2].min(axis=0).tolist(), *edges[:, 2:].max(axis=0).tolist()]
    return (int(places[:, 0].min()), int(places[:, 0].max())), bounds
