"""What is wrong with an archive: every tile read, decoded and compared with what is promised."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from pmtiles.tile import TileType

from salib.tiles.archive import Archive
from salib.tiles.codec import decode, image_format
from salib.tiles.grid import TileId, tiles_of_ids

TILES = "tiles.parquet"
_PROMISED = {TileType.PNG: "png", TileType.JPEG: "jpeg", TileType.WEBP: "webp"}


class Problem(NamedTuple):
    """One finding: the tile (None: the archive as a whole), its kind, and what was found.

    Kinds: "archive" (missing, truncated or no PMTiles), "duplicate" (a place listed twice), "not an
    image" (such as a server's error page), "format" (another than the header promises), "damaged"
    (an image without its end), "size" (another than the first tile's), "placeholder" (one opaque
    colour throughout, as written where a source had nothing), "digest" (bytes other than those that
    tiles.parquet beside the archive tells of), "missing" (a tile that it tells of and that is not
    there).
    """

    tile: TileId | None
    kind: str
    detail: str


def verify(path: str | Path) -> list[Problem]:
    """Everything wrong with an archive; an empty list if nothing is."""
    try:
        archive = Archive(path)
    except ValueError as error:
        return [Problem(None, "archive", str(error))]
    try:
        return list(_problems(archive))
    finally:
        archive.close()


def is_placeholder(image: UInt8[np.ndarray, "height width bands"]) -> bool:
    """Whether every pixel is of one colour and, where the image has alpha, opaque."""
    opaque = image.shape[2] != 4 or bool((image[..., 3] == 255).all())
    return opaque and bool((image == image[:1, :1]).all())


def _known(path: Path) -> dict[TileId, str]:
    """Digests that curate wrote of an archive's tiles; none where it did not write it."""
    table = path.parent / TILES
    if not table.is_file():
        return {}
    rows = pd.read_parquet(table, columns=["sensor", "z", "x", "y", "sha256"])
    rows = rows[rows["sensor"] == path.stem]
    places = zip(rows["z"], rows["x"], rows["y"], strict=True)
    return dict(zip((TileId(*map(int, p)) for p in places), rows["sha256"], strict=True))


def _problems(archive: Archive) -> Iterator[Problem]:
    ids, counts = np.unique(archive.ids, return_counts=True)
    for place, count in zip(tiles_of_ids(ids[counts > 1]), counts[counts > 1], strict=True):
        yield Problem(TileId(*place.tolist()), "duplicate", f"listed {count} times")
    whole = set(map(tuple, tiles_of_ids(ids).tolist()))
    promised, size = _PROMISED.get(archive.header["tile_type"]), None
    known = _known(archive.path)
    for tile in sorted(known.keys() - whole, key=lambda tile: tile.hilbert):
        yield Problem(tile, "missing", f"listed in {TILES} and not in the archive")
    for place in tiles_of_ids(ids).tolist():
        tile = TileId(*place)
        data = archive.read(*tile)
        kind = image_format(data)
        if known and known.get(tile) != hashlib.sha256(data).hexdigest():
            yield Problem(tile, "digest", f"other bytes than {known.get(tile)} in {TILES}")
        if kind is None:
            yield Problem(tile, "not an image", f"{len(data)} bytes that begin {data[:16]!r}")
            continue
        if promised and kind != promised:
            yield Problem(tile, "format", f"{kind} where the header promises {promised}")
        try:
            image = decode(data)
        except ValueError as error:
            yield Problem(tile, "damaged", str(error))
            continue
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            yield Problem(tile, "size", f"{image.shape[:2]} px where the first has {size}")
        if is_placeholder(image):
            yield Problem(tile, "placeholder", f"every pixel is {image[0, 0].tolist()}")
