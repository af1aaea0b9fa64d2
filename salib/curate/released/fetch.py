"""The authors' released archives: fetched and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from salib.config import SENSOR_NAMES
from salib.files.download import RemoteFile, fetch_files
from salib.tiles.archive import Archive

BASE_URL = "https://se7a6ueojehnth4fhglodzchw40rfbuv.lambda-url.us-east-2.on.aws"
"""The authors' signer: redirects each file name to a signed address good for an hour."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Three archives by sensor and the zoom of a location."""

    zoom: int
    archives: Mapping[str, RemoteFile]


def check_tiles(tiles: int, path: Path) -> None:
    """Check that a file is a whole archive of so many tiles.

    Raises:
        ValueError: if it is not.
    """
    archive = Archive(path)
    archive.close()
    if len(archive) != tiles:
        raise ValueError(f"it has {len(archive):,} tiles, not {tiles:,}")


def _release(name: str, zoom: int, *stated: tuple[int, float]) -> Release:
    """A release of which the number of tiles and the gigabytes of each archive are stated."""
    end = "" if name == "full" else f"_{name}"
    files = [f"{stem}{end}.pmtile" for stem in ("sar_tiles", "visual_tiles", "hires_visual_tiles")]
    archives = {
        sensor: RemoteFile(
            url=f"{BASE_URL}/{file}", size=int(gigabytes * 1e9), check=partial(check_tiles, tiles)
        )
        for sensor, file, (tiles, gigabytes) in zip(SENSOR_NAMES, files, stated, strict=True)
    }
    return Release(zoom=zoom, archives=archives)


RELEASES = {
    "full": _release("full", 15, (304_882, 6.3), (186_250, 5.6), (983_795, 10.2)),
    "small": _release("small", 15, (83_407, 2.0), (21_917, 0.7711), (109_585, 1.5)),
    "micro": _release("micro", 17, (939_398, 2.0), (188_060, 1.0), (940_300, 10.4)),
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
