"""The directories of a PMTiles archive, of which no number is trusted."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int64

from salib.tiles.grid import MAX_ZOOM

MOST_TILES = 2**25
"""Of one archive: its index then takes a gigabyte of memory."""
MOST_BYTES = 2**24
"""Of one directory, or of the metadata, when unpacked."""
Entries = Int64[np.ndarray, "entries 4"]
"""Number of the first tile, how many tiles in a row show the content, its length and offset."""


def unpacked(data: bytes, packed: bool) -> bytes:
    """Bytes as they are, or by gzip.

    Raises:
        ValueError: if they end early or are too many.
    """
    if not packed:
        return data
    unpacking = zlib.decompressobj(wbits=31)
    data = unpacking.decompress(data, MOST_BYTES)
    if not unpacking.eof:
        raise ValueError(f"it ends early, or unpacks to more than {MOST_BYTES:,} bytes")
    return data


def read_entries(section: Callable[[int, int], bytes], header: Mapping[str, int]) -> Entries:
    """Every entry of an archive that shows a tile, by number.

    All leaves together are no longer than their section of the file, so none is read without end.

    Args:
        section: unpacked bytes of the file by offset and length.
        header: numbers of the archive's header, which the file is long enough for.

    Raises:
        ValueError: if a directory is damaged, claims more than the file or memory can hold or a
            tile twice, or there is no tile.
    """
    waiting = [(header["root_offset"], header["root_length"])]
    left, count, parts = header["leaf_directory_length"], 0, []
    while waiting:
        entries = _directory(section(*waiting.pop()))
        leaf = entries[:, 1] == 0
        left -= int(entries[leaf, 2].sum())
        count += int(entries[:, 1].sum(dtype=float))
        if left < 0:
            raise ValueError("its directories lead to more than the file holds")
        if count > MOST_TILES:
            raise ValueError(f"it claims {count:.2g} tiles, more than memory can hold")
        starts = entries[leaf, 3] + header["leaf_directory_offset"]
        waiting += zip(starts.tolist(), entries[leaf, 2].tolist(), strict=True)
        parts.append(entries[~leaf])
    table = np.concatenate(parts)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if not len(table):
        raise ValueError("it holds no tile")
    numbers, runs, lengths, offsets = table.T
    ends = numbers + runs
    if (numbers[1:] < ends[:-1]).any() or ends[-1] > (4 ** (MAX_ZOOM + 1) - 1) // 3:
        raise ValueError("it lists a tile more than once, or one that no zoom has")
    if (offsets + lengths > header["tile_data_length"]).any() or not lengths.all():
        raise ValueError("it tells of tiles outside the file")
    return table


def _directory(data: bytes) -> Entries:
    """Entries of an unpacked directory, as the specification lays them out.

    Raises:
        ValueError: if the bytes are no directory.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)  # of the numbers: seven bits in a byte, the lowest first
    sizes = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(raw) - 1 or sizes.max() > 8:
        raise ValueError("it has no directory")
    shifts = np.arange(len(raw)) - np.repeat(ends - sizes + 1, sizes)
    values = np.add.reduceat((raw & 127).astype(np.int64) << 7 * shifts, ends - sizes + 1)
    count = int(values[0])
    if 4 * count != len(values) - 1:
        raise ValueError(f"it has a directory of {len(values) - 1} numbers for {count} entries")
    numbers, runs, lengths, offsets = values[1:].reshape(4, count)
    if not count:
        return np.empty((0, 4), np.int64)
    if offsets[0] == 0 or max(numbers.sum(dtype=float), lengths.sum(dtype=float)) > 2**62:
        raise ValueError("it has a directory of numbers that no archive holds")
    before = np.cumsum(lengths) - lengths
    stated = np.maximum.accumulate(np.where(offsets == 0, 0, np.arange(count)))
    # An offset of 0 stands for: right after the content of the entry before.
    follows = offsets[stated] - 1 + before - before[stated]
    return np.stack([np.cumsum(numbers), runs, lengths, follows], axis=1)
