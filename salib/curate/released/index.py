"""The index of the authors' released archives, which have none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64
from tqdm import tqdm

from salib.config import SENSOR_NAMES
from salib.curate.area import excluded_ground, tiles_off
from salib.curate.index import split_by_block
from salib.files.artifact import atomic_file
from salib.tiles.archive import Archive
from salib.tiles.checks import is_placeholder
from salib.tiles.codec import decode
from salib.tiles.grid import TileId, hilbert_ids, tile_gsd_m, tiles_of_ids

PLAIN_BYTES = 2048
"""A tile of fewer bytes is decoded when indexing, as it may be of one colour."""


def index_released(
    folder: str | Path,
    zoom: int,
    *,
    exclude: Sequence[str | Path] = (),
    valid_share: float | int = 0,
) -> Path:
    """Write the index of locations with tiles of radar, lores, hires and four finer ones of hires.

    Tiles of one colour and tiles that are no image, as the archives hold where a source had
    nothing, do not count; looked for among contents of several tiles and those under 2 KiB.
    `valid_frac_*` is 1 throughout: counting alpha would decode every tile.

    Args:
        folder: what `fetch_archives` wrote.
        zoom: of the locations.
        exclude: GeoJSON files, as for `curate`; locations on their polygons are left out.
        valid_share: share of the samples at most that goes to the split `valid`, as for `curate`;
            the paper trained on all.

    Raises:
        ValueError: if an archive or a file is missing, or no sample is left.
    """
    folder, ground = Path(folder), excluded_ground(exclude)
    radar, lores, hires = (_shown(folder / f"{sensor}.pmtiles") for sensor in SENSOR_NAMES)
    ids = np.intersect1d(np.intersect1d(radar, lores), hires)
    places = tiles_of_ids(ids)
    places = places[places[:, 0] == zoom]
    for south in (0, 1):
        for east in (0, 1):
            finer = 2 * places + [0, east, south]
            places = places[np.isin(hilbert_ids(zoom + 1, finer[:, 1], finer[:, 2]), hires)]
    tiles = [TileId(*place) for place in places.tolist()]
    if not tiles:
        raise ValueError(f"zoom must be that of the release's tiles, got none at {zoom}: {folder}")
    samples = tiles_off(ground, tiles)
    if not samples:
        raise ValueError(f"exclude must leave a sample of the release, got none of {len(tiles)}")
    splits = split_by_block(samples, valid_share)
    rows = pd.DataFrame(samples).assign(
        tile_id=[tile.hilbert for tile in samples],
        gsd_m=[tile_gsd_m(tile) for tile in samples],
        split=[splits[tile] for tile in samples],
        **{f"valid_frac_{sensor}": 1.0 for sensor in SENSOR_NAMES},
    )
    with atomic_file(folder / "index.parquet") as written:
        rows.to_parquet(written)
    return folder / "index.parquet"


def _shown(path: Path) -> Int64[np.ndarray, " tiles"]:
    """Ids of an archive's tiles less those found to show nothing."""
    archive = Archive(path)
    offsets, lengths = archive.contents
    _, first, content, uses = np.unique(
        offsets, return_index=True, return_inverse=True, return_counts=True
    )
    doubtful = (uses > 1) | (lengths[first] < PLAIN_BYTES)
    shows = np.ones(len(first), dtype=bool)
    places = tiles_of_ids(archive.ids[first])
    for row in tqdm(np.flatnonzero(doubtful).tolist(), f"check {path.stem}", disable=None):
        try:
            shows[row] = not is_placeholder(decode(archive.read(*places[row]))[..., :3])
        except ValueError:
            shows[row] = False
    archive.close()
    return archive.ids[shows[content]]
