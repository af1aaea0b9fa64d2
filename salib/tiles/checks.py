"""What is wrong with an archive: every tile read, decoded and compared with tiles.parquet."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from salib.tiles.archive import Archive
from salib.tiles.codec import decode
from salib.tiles.grid import TileId

TILES = "tiles.parquet"


def verify(path: str | Path) -> list[tuple[TileId | None, str]]:
    """Everything wrong with an archive, by tile (None: the archive as a whole).

    A missing or truncated archive, a tile that is listed twice, that is no whole image (such as a
    server's error page) or of one opaque colour (as written where a source had nothing), and, where
    `curate` wrote the archive, a tile that is missing or has other bytes than tiles.parquet tells.
    """
    path = Path(path)
    try:
        archive = Archive(path)
    except ValueError as error:
        return [(None, str(error))]
    told: dict[tuple[int, int, int], str] = {}
    if (path.parent / TILES).is_file():
        rows = pd.read_parquet(path.parent / TILES).query("sensor == @path.stem")
        told = dict(zip(zip(rows.z, rows.x, rows.y, strict=True), rows.sha256, strict=True))
    tiles, problems = archive.tiles(), []
    problems += [(TileId(*t), f"missing, but listed in {TILES}") for t in told.keys() - {*tiles}]
    for number, tile in enumerate(tiles):
        data = archive.read(*tile)
        if number and tile == tiles[number - 1]:
            problems.append((tile, "listed more than once"))
        if told and told.get(tile) != hashlib.sha256(data).hexdigest():
            problems.append((tile, f"other bytes than {TILES} tells"))
        try:
            if is_placeholder(decode(data)):
                problems.append((tile, "placeholder of one colour"))
        except ValueError as error:
            problems.append((tile, str(error)))
    return problems


def is_placeholder(image: Shaped[np.ndarray, "height width bands"]) -> bool:
    """Whether every pixel is of one colour and, where the image has alpha, opaque."""
    opaque = image.shape[2] != 4 or bool((image[..., 3] == 255).all())
    return opaque and bool((image == image[:1, :1]).all())
