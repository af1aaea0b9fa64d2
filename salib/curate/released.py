"""The tile archives that the paper's authors released: downloaded, checked, indexed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from salib.config import SENSOR_NAMES
from salib.curate.area import excluded_ground, tiles_off
from salib.curate.index import split_by_block, whole_tiles
from salib.files.download import RemoteFile, fetch_files
from salib.files.tables import check_table, write_table
from salib.tiles.archive import Archive
from salib.tiles.checks import is_placeholder
from salib.tiles.codec import decode
from salib.tiles.grid import TileId, tile_gsd_m

BASE_URL = "https://se7a6ueojehnth4fhglodzchw40rfbuv.lambda-url.us-east-2.on.aws"
"""The authors' signer: redirects each file name to a signed address good for an hour."""
STEMS = {"radar": "sar_tiles", "lores": "visual_tiles", "hires": "hires_visual_tiles"}
PLAIN_BYTES = 2048
"""A tile of fewer bytes is decoded when indexing, as it may be of one colour."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Three archives by sensor and the zoom of a location."""

    zoom: int
    archives: Mapping[str, RemoteFile]


def check_tiles(tiles: int, path: Path) -> None:
    """Raise ValueError unless a file is a whole archive of so many tiles."""
    if (found := len(Archive(path))) != tiles:
        raise ValueError(f"it has {found:,} tiles, not {tiles:,}")


def _release(end: str, zoom: int, *stated: tuple[int, float]) -> Release:
    """A release by the end of its files' names, numbers of tiles and gigabytes."""
    archives = {}
    for sensor, (tiles, gigabytes) in zip(SENSOR_NAMES, stated, strict=True):
        url, size = f"{BASE_URL}/{STEMS[sensor]}{end}.pmtile", int(gigabytes * 1e9)
        archives[sensor] = RemoteFile(url=url, size=size, check=partial(check_tiles, tiles))
    return Release(zoom=zoom, archives=archives)


RELEASES = {
    "full": _release("", 15, (304_882, 6.3), (186_250, 5.6), (983_795, 10.2)),
    "small": _release("_small", 15, (83_407, 2.0), (21_917, 0.7711), (109_585, 1.5)),
    "micro": _release("_micro", 17, (939_398, 2.0), (188_060, 1.0), (940_300, 10.4)),
}
"""Names, counts and sizes from `site/index.html` ("Dataset downloads") of pkage/scale-alibi, commit
86fa549; `slurm/aiai_download-datasets.sbatch` there has the same addresses."""


def fetch_archives(
    release: str, out: str | Path, *, base_url: str | None = None, offline: bool = False
) -> Path:
    """Fetch radar.pmtiles, lores.pmtiles and hires.pmtiles of a release into a folder of their own.

    An archive takes its name once it is whole and has the stated number of tiles; then it is not
    downloaded again.

    Args:
        release: name of one of `RELEASES`.
        out: the folder.
        base_url: a mirror that holds files of the same names.
        offline: ask no server.

    Raises:
        ValueError: if the release is unknown.
        OSError: as `fetch_files`.
    """
    if release not in RELEASES:
        raise ValueError(f"release must be one of {', '.join(RELEASES)}, got {release!r}")
    archives = RELEASES[release].archives.items()
    files = {Path(out, f"{sensor}.pmtiles"): file for sensor, file in archives}
    command = f"salib fetch {release} --out {out}"
    fetch_files(files, command, base_url=base_url, offline=offline)
    return Path(out)


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
    out = check_table(folder / "index.parquet", ("tile_id", "split"))
    shown = {name: _shown(folder / f"{name}.pmtiles") for name in SENSOR_NAMES}
    parts = {name: whole_tiles(tiles, name, zoom) for name, tiles in shown.items()}
    joint = pd.concat(parts, axis=1, join="inner").index
    tiles = sorted((TileId(zoom, *place) for place in joint), key=lambda tile: tile.hilbert)
    if not tiles:
        raise ValueError(f"zoom must be that of the release's tiles, got none at {zoom}: {folder}")
    samples = tiles_off(ground, tiles)
    if not samples:
        raise ValueError(f"exclude must leave a sample of the release, got none of {len(tiles)}")
    rows = pd.DataFrame(samples).assign(
        tile_id=[tile.hilbert for tile in samples],
        gsd_m=[tile_gsd_m(tile) for tile in samples],
        split=[*split_by_block(samples, valid_share).values()],
        **{f"valid_frac_{sensor}": 1.0 for sensor in SENSOR_NAMES},
    )
    write_table(out, rows)
    return out


def _shown(path: Path) -> pd.DataFrame:
    """An archive's tiles less those found to show nothing."""
    archive = Archive(path)
    _, first, content, uses = np.unique(
        archive.offsets, return_index=True, return_inverse=True, return_counts=True
    )
    doubtful = (uses > 1) | (archive.lengths[first] < PLAIN_BYTES)
    shows = np.ones(len(first), dtype=bool)
    tiles = archive.tiles()
    for row in tqdm(np.flatnonzero(doubtful).tolist(), f"check {path.stem}", disable=None):
        try:
            shows[row] = not is_placeholder(decode(archive.read(*tiles[first[row]]))[..., :3])
        except ValueError:
            shows[row] = False
    return pd.DataFrame(compress(tiles, shows[content]), columns=["z", "x", "y"])
