"""PMTiles version 3: written by the reference library; read with the whole index in memory."""

import json
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from gzip import decompress
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Shaped
from pmtiles.tile import (
    Compression,
    Entry,
    TileType,
    deserialize_directory,
    deserialize_header,
    tileid_to_zxy,
)
from pmtiles.writer import Writer

from salib.files.artifact import atomic_file
from salib.tiles.codec import decode, image_format
from salib.tiles.grid import TileId, tile_bounds

Whole = int | np.integer
HEADER_BYTES = 127
MOST_TILES = 2**31
"""More than any archive holds, and more than memory can: bytes of something else."""
_TYPES = {"png": TileType.PNG, "jpeg": TileType.JPEG, "webp": TileType.WEBP}


class Archive:
    """A PMTiles archive open for reading.

    Forked workers may share it; pickling carries the index and reopens the file.

    Attributes:
        ids: PMTiles ids of the tiles, ascending.
        offsets: in the file, of each tile's bytes; `lengths` likewise.

    Raises:
        ValueError: if the file is missing, of another format, shorter than its header says, or its
            index is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path` and read its directories."""
        self.path = Path(path)
        self._open()
        try:
            entries = self._directory(self.header["root_offset"], self.header["root_length"])
            runs = np.array([entry.run_length for entry in entries], dtype=np.int64)
            if runs.sum(dtype=np.float64) > MOST_TILES:
                raise EOFError(f"{runs.sum(dtype=float):.2g} tiles")
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"Could not read the index of {self.path} ({error}): write or fetch it again"
            ) from error
        table = np.array([(e.tile_id, e.offset, e.length) for e in entries], dtype=np.int64)
        ids, offsets, self.lengths = np.repeat(table.reshape(-1, 3), runs, axis=0).T
        within = np.arange(len(ids)) - np.repeat(np.cumsum(runs) - runs, runs)
        self.ids = ids + within
        self.offsets = offsets + self.header["tile_data_offset"]
        self._row = {tile_id: row for row, tile_id in enumerate(self.ids.tolist())}

    def _open(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"archive must exist, got {self.path}: curate or fetch it first")
        self._fd = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._fd)
        head = os.pread(self._fd, HEADER_BYTES, 0)
        if len(head) < HEADER_BYTES or head[:8] != b"PMTiles\x03":
            raise ValueError(f"archive must be PMTiles version 3, got {self.path}: write it again")
        self.header = deserialize_header(head)
        sections = ("root", "metadata", "leaf_directory", "tile_data")
        header = cast("dict[str, int]", self.header)
        whole = max(header[f"{name}_offset"] + header[f"{name}_length"] for name in sections)
        size = os.fstat(self._fd).st_size
        if size < whole:
            raise ValueError(
                f"{self.path} ends after {size:,} of {whole:,} bytes: write or fetch it again"
            )

    def _directory(self, offset: int, length: int) -> list[Entry]:
        entries = []
        for entry in deserialize_directory(os.pread(self._fd, length, offset)):
            if entry.run_length:
                entries.append(entry)
            else:
                start = self.header["leaf_directory_offset"] + entry.offset
                entries += self._directory(start, entry.length)
        return entries

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def metadata(self) -> dict[str, Any]:
        """The archive's JSON: attribution, name, whether the ground is procedural."""
        data = os.pread(self._fd, self.header["metadata_length"], self.header["metadata_offset"])
        return json.loads(decompress(data))

    def tiles(self) -> list[TileId]:
        """Tiles of the archive in the order of `ids`: by zoom, then along the Hilbert curve."""
        return [TileId(*tileid_to_zxy(tile_id)) for tile_id in self.ids.tolist()]

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, tile: TileId) -> bool:
        return tile.hilbert in self._row

    def read(self, z: Whole, x: Whole, y: Whole) -> bytes:
        """Encoded bytes of a tile.

        Raises:
            KeyError: if the archive has no such tile.
        """
        row = self._row.get(TileId(int(z), int(x), int(y)).hilbert)
        if row is None:
            raise KeyError(f"{self.path} has no tile {z}/{x}/{y}")
        return os.pread(self._fd, int(self.lengths[row]), int(self.offsets[row]))

    def get(self, z: Whole, x: Whole, y: Whole) -> Shaped[np.ndarray, "height width bands"]:
        """Pixel values of a tile, see `codec.decode`.

        Raises:
            KeyError: if the archive has no such tile.
            ValueError: if the tile is no whole image.
        """
        try:
            return decode(self.read(z, x, y))
        except ValueError as error:
            raise ValueError(f"{self.path}, tile {z}/{x}/{y}: {error}") from error


def write_archive(
    path: str | Path, tiles: Iterable[tuple[TileId, bytes]], *, metadata: dict[str, Any]
) -> Path:
    """Write encoded tiles as one clustered PMTiles archive; equal contents are stored once.

    Args:
        path: the file, whole or absent.
        tiles: PNG, JPEG or WebP bytes in Hilbert order, each tile once.
        metadata: shown by readers; holds `attribution`, and `procedural: true` for made-up ground.

    Raises:
        ValueError: for tiles in another order, a tile that is no image, or no tile at all.
    """
    bounds, last, kind = [], -1, None
    with (
        atomic_file(path) as part,
        part.open("wb") as file,
        tempfile.TemporaryFile(dir=part.parent) as spool,
    ):
        writer = Writer(file)
        writer.tile_f.close()
        writer.tile_f = spool  # beside the archive, which /tmp may be too small for
        for tile, data in tiles:
            number = tile.hilbert
            if number <= last:
                raise ValueError(f"tiles must come once and in Hilbert order, got {tuple(tile)}")
            if (found := image_format(data)) is None:
                raise ValueError(f"tile {tuple(tile)} must be PNG, JPEG or WebP, got {data[:16]!r}")
            last, kind = number, kind or found
            bounds.append(tile_bounds(tile))
            writer.write_tile(number, data)
        if kind is None:
            raise ValueError("tiles must hold at least one tile, got none")
        low, high = np.min(bounds, axis=0), np.max(bounds, axis=0)
        edges = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
        degrees = [round(edge * 1e7) for edge in (*low[:2].tolist(), *high[2:].tolist())]
        header = {"tile_type": _TYPES[kind], "tile_compression": Compression.NONE}
        ordered = json.loads(json.dumps(metadata, sort_keys=True))
        writer.finalize(header | dict(zip(edges, degrees, strict=True)), ordered)
    return Path(path)
