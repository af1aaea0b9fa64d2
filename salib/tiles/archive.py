"""PMTiles version 3: written by the reference library; read with the whole index in memory."""

import json
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped
from pmtiles.tile import Compression, TileType, deserialize_header, tileid_to_zxy
from pmtiles.writer import Writer

from salib.files.artifact import atomic_file
from salib.files.tables import read_table
from salib.tiles.codec import decode, image_format
from salib.tiles.directory import read_entries, unpacked
from salib.tiles.grid import TileId, hilbert_numbers, tile_bounds

Whole = int | np.integer
HEADER_BYTES = 127
TILES = "tiles.parquet"
"""Beside archives that `curate` wrote: every tile, with the checksum of its bytes."""
_TYPES = {"png": TileType.PNG, "jpeg": TileType.JPEG, "webp": TileType.WEBP}


class Archive:
    """A PMTiles archive open for reading.

    Forked workers may share it; pickling carries the index and reopens the file. No number in it is
    trusted: what it claims is held against the file's size. Where TILES beside it lists the tiles
    of an archive of this name, the archive must hold these, and bytes read are compared with it.

    Attributes:
        ids: PMTiles ids of the tiles, ascending.
        offsets: in the file, of each tile's bytes; `lengths` likewise.

    Raises:
        ValueError: if the file is missing, of another format, shorter than its header says, or
            holds no tile, its index is damaged or packed in another way than by gzip, or TILES
            lists others.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path` and read its directories."""
        self.path = Path(path)
        self._open()
        try:
            entries = read_entries(self._section, self.header)
        except (ValueError, zlib.error) as error:
            raise ValueError(
                f"Could not read the index of {self.path} ({error}): write or fetch it again"
            ) from error
        runs = entries[:, 1]
        ids, offsets, self.lengths = np.repeat(entries[:, [0, 3, 2]], runs, axis=0).T
        within = np.arange(len(ids)) - np.repeat(np.cumsum(runs) - runs, runs)
        self.ids = ids + within
        self.offsets = offsets + self.header["tile_data_offset"]
        self._checksums = self._told()

    def _open(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"archive must exist, got {self.path}: curate or fetch it first")
        self._fd = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._fd)
        head = os.pread(self._fd, HEADER_BYTES, 0)
        if len(head) < HEADER_BYTES or head[:8] != b"PMTiles\x03":
            raise ValueError(f"archive must be PMTiles version 3, got {self.path}: write it again")
        try:
            self.header: Any = deserialize_header(head)
        except ValueError as error:
            raise ValueError(f"Could not read the header of {self.path}: {error}") from error
        for what, name in (("directories", "internal"), ("tiles", "tile")):
            packed = self.header[f"{name}_compression"].name.lower()
            if packed not in ("unknown", "none", *(["gzip"] if name == "internal" else [])):
                raise ValueError(
                    f"{what} of an archive must not be packed by {packed}, got {self.path}: write "
                    "it again without (tiles are packed images already)"
                )
        sections = ("root", "metadata", "leaf_directory", "tile_data")
        ends = [self.header[f"{name}_offset"] + self.header[f"{name}_length"] for name in sections]
        size = os.fstat(self._fd).st_size
        if size < max(ends):
            raise ValueError(
                f"{self.path} ends after {size:,} of {max(ends):,} bytes: write or fetch it again"
            )

    def _section(self, offset: int, length: int) -> bytes:
        packed = self.header["internal_compression"] != Compression.NONE
        return unpacked(os.pread(self._fd, length, offset), packed)

    def _told(self) -> Int64[np.ndarray, " tiles"] | None:
        """Checksums of the tiles, if TILES lists this archive."""
        path = self.path.with_name(TILES)
        if not path.is_file():
            return None
        told, mine = ["sensor", "z", "x", "y"], [("sensor", "==", self.path.stem)]
        rows = read_table(path, told, only=[*told, "crc32"], filters=mine)
        if rows.empty or "crc32" not in rows:  # of another archive, or written before checksums
            return None
        rows = rows.assign(number=hilbert_numbers(rows[["z", "x", "y"]].to_numpy()))
        rows = rows.sort_values("number")
        if not np.array_equal(rows["number"], self.ids):
            odd = np.setxor1d(rows["number"], self.ids).tolist()
            raise ValueError(
                f"{self.path} must hold the tiles that {TILES} beside it lists, got {len(odd)} in "
                f"one of them alone, the first {'/'.join(map(str, tileid_to_zxy(odd[0])))}: copy "
                "or curate both again"
            )
        return rows["crc32"].to_numpy(np.int64)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def metadata(self) -> dict[str, Any]:
        """The archive's JSON: attribution, name, whether the ground is procedural.

        Empty where the archive has none; entries that are null are left out.

        Raises:
            ValueError: if it is damaged, or no JSON object.
        """
        start, length = self.header["metadata_offset"], self.header["metadata_length"]
        try:
            told = json.loads(self._section(start, length)) if length else {}
            if not isinstance(told, dict | None):
                raise ValueError(f"it must be a JSON object, got {type(told).__name__}")
        except (ValueError, zlib.error, RecursionError) as error:
            raise ValueError(f"Could not read the metadata of {self.path} ({error})") from error
        return {name: value for name, value in (told or {}).items() if value is not None}

    def tiles(self) -> list[TileId]:
        """Tiles of the archive in the order of `ids`: by zoom, then along the Hilbert curve."""
        return [TileId(*tileid_to_zxy(tile_id)) for tile_id in self.ids.tolist()]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, z: Whole, x: Whole, y: Whole) -> bytes:
        """Encoded bytes of a tile.

        Raises:
            KeyError: if the archive has no such tile.
            ValueError: if they are not those that TILES tells.
        """
        number = TileId(int(z), int(x), int(y)).hilbert
        row = int(np.searchsorted(self.ids, number))
        if row == len(self.ids) or self.ids[row] != number:
            raise KeyError(f"{self.path} has no tile {z}/{x}/{y}")
        data = os.pread(self._fd, int(self.lengths[row]), int(self.offsets[row]))
        if self._checksums is not None and self._checksums[row] != zlib.crc32(data):
            raise ValueError(
                f"{self.path}, tile {z}/{x}/{y}: other bytes than {TILES} tells (damaged, or the "
                "archive of another sensor): copy or curate it again"
            )
        return data

    def get(self, z: Whole, x: Whole, y: Whole) -> Shaped[np.ndarray, "height width bands"]:
        """Pixel values of a tile, see `codec.decode`.

        Raises:
            KeyError: if the archive has no such tile.
            ValueError: if the tile is no whole image.
        """
        data = self.read(z, x, y)
        try:
            return decode(data)
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
