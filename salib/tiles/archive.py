"""PMTiles version 3, read: the index once, as arrays; bytes of a tile by `os.pread`."""

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int64, Shaped
from pmtiles.tile import Compression, Entry, deserialize_directory, deserialize_header

from salib.tiles.codec import decode
from salib.tiles.grid import TileId, tiles_of_ids
from salib.tiles.writer import write_archive

__all__ = ["Archive", "write_archive"]

Whole = int | np.integer
HEADER_BYTES = 127
MOST_TILES = 2**31
"""More than any archive holds, and more than memory can: bytes of something else."""


class Archive:
    """A PMTiles archive open for reading.

    Forked workers may share it; pickling carries the index and reopens the file.

    Attributes:
        ids: PMTiles ids of the tiles, ascending.

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
            self.close()
            raise ValueError(
                f"Could not read the index of {self.path} ({error}): write or fetch it again"
            ) from error
        columns = (
            [e.tile_id for e in entries],
            [e.offset for e in entries],
            [e.length for e in entries],
        )
        ids, offsets, lengths = (
            np.repeat(np.array(each, dtype=np.int64), runs) for each in columns
        )
        within = np.arange(len(ids)) - np.repeat(np.cumsum(runs) - runs, runs)
        self.ids = ids + within
        self._offsets, self._lengths = offsets + self.header["tile_data_offset"], lengths
        self._row = {tile_id: row for row, tile_id in enumerate(self.ids.tolist())}

    def _open(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"archive must exist, got {self.path}: curate or fetch it first")
        self._fd = os.open(self.path, os.O_RDONLY)
        head = os.pread(self._fd, HEADER_BYTES, 0)
        if len(head) < HEADER_BYTES or head[:8] != b"PMTiles\x03":
            self.close()
            raise ValueError(f"archive must be PMTiles version 3, got {self.path}: write it again")
        self.header = deserialize_header(head)
        sections = ("root", "metadata", "leaf_directory", "tile_data")
        header = cast("dict[str, int]", self.header)
        whole = max(header[f"{name}_offset"] + header[f"{name}_length"] for name in sections)
        size = os.fstat(self._fd).st_size
        if size < whole:
            self.close()
            raise ValueError(
                f"{self.path} ends after {size:,} of {whole:,} bytes: write or fetch it again"
            )

    def _directory(self, offset: int, length: int) -> list[Entry]:
        data = os.pread(self._fd, length, offset)
        if self.header["internal_compression"] == Compression.NONE:
            data = gzip.compress(data)
        entries = []
        for entry in deserialize_directory(data):
            if entry.run_length:
                entries.append(entry)
            else:
                start = self.header["leaf_directory_offset"] + entry.offset
                entries += self._directory(start, entry.length)
        return entries

    @property
    def metadata(self) -> dict[str, Any]:
        """The archive's JSON: attribution, name, whether the ground is procedural."""
        data = os.pread(self._fd, self.header["metadata_length"], self.header["metadata_offset"])
        zipped = self.header["internal_compression"] == Compression.GZIP
        return json.loads(gzip.decompress(data) if zipped else data)

    @property
    def zooms(self) -> tuple[int, ...]:
        """Zooms that hold at least one tile, ascending."""
        return tuple(np.unique(tiles_of_ids(self.ids)[:, 0]).tolist())

    def tiles(self, zoom: int | None = None) -> list[TileId]:
        """Tiles of the archive, or of one zoom of it, in Hilbert order."""
        rows = tiles_of_ids(self.ids)
        chosen = rows if zoom is None else rows[rows[:, 0] == zoom]
        return [TileId(*row) for row in chosen.tolist()]

    @property
    def contents(self) -> tuple[Int64[np.ndarray, " tiles"], Int64[np.ndarray, " tiles"]]:
        """Offset in the file and length of each tile, in the order of `ids`."""
        return self._offsets, self._lengths

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, tile: tuple[Whole, Whole, Whole]) -> bool:
        return TileId(*map(int, tile)).hilbert in self._row

    def read(self, z: Whole, x: Whole, y: Whole) -> bytes:
        """Encoded bytes of a tile.

        Raises:
            KeyError: if the archive has no such tile.
        """
        row = self._row.get(TileId(int(z), int(x), int(y)).hilbert)
        if row is None:
            raise KeyError(f"{self.path} has no tile {z}/{x}/{y}")
        return os.pread(self._fd, int(self._lengths[row]), int(self._offsets[row]))

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

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fd": -1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()
