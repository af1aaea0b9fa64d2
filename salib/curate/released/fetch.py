"""The authors' released archives: fetched resumably and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from salib.config import SENSOR_NAMES
from salib.files.artifact import check_disk_space, only_writer
from salib.files.download import FetchError, download, manifest, open_session, settle, size_of
from salib.tiles.archive import Archive

BASE_URL = "https://se7a6ueojehnth4fhglodzchw40rfbuv.lambda-url.us-east-2.on.aws"
"""The authors' signer: redirects each file name to a signed address good for an hour."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One archive as the download list states it: file name, tiles, size."""

    file: str
    tiles: int
    gigabytes: float


@dataclass(frozen=True, kw_only=True)
class Release:
    """Three archives by sensor, the zoom of a place, and how many joint places are stated."""

    name: str
    zoom: int
    joint: int
    archives: Mapping[str, Published]


def _release(name: str, zoom: int, joint: int, *stated: tuple[int, float]) -> Release:
    end = "" if name == "full" else f"_{name}"
    files = [f"{stem}{end}.pmtile" for stem in ("sar_tiles", "visual_tiles", "hires_visual_tiles")]
    archives = {
        sensor: Published(file=file, tiles=tiles, gigabytes=gigabytes)
        for sensor, file, (tiles, gigabytes) in zip(SENSOR_NAMES, files, stated, strict=True)
    }
    return Release(name=name, zoom=zoom, joint=joint, archives=archives)


RELEASES = {
    "full": _release("full", 15, 146_502, (304_882, 6.3), (186_250, 5.6), (983_795, 10.2)),
    "small": _release("small", 15, 21_497, (83_407, 2.0), (21_917, 0.7711), (109_585, 1.5)),
    "micro": _release("micro", 17, 188_060, (939_398, 2.0), (188_060, 1.0), (940_300, 10.4)),
}
"""Names, counts and sizes from `site/index.html` ("Dataset downloads") of pkage/scale-alibi, commit
86fa549; `slurm/aiai_download-datasets.sbatch` there has the same addresses."""


def fetch_archives(
    release: str | Release,
    out: str | Path,
    *,
    base_url: str | None = None,
    offline: bool = False,
    report: Callable[[str], object] = tqdm.write,
) -> Path:
    """Fetch radar.pmtiles, lores.pmtiles and hires.pmtiles of a release into a folder of their own.

    What came before an interruption is kept in `.part` files and taken up again; a file that
    changed on the server meanwhile starts anew. An archive takes its name once it is whole, has
    the stated number of tiles and stands in `sha256sums.txt`; then it is not asked for again.

    Args:
        base_url: a mirror that holds files of the same names.
        offline: ask no server.

    Raises:
        ValueError: if the release is unknown.
        OSError: if there is no room, or another run writes to `out`.
        FetchError: if the server fails for good, an archive is not what was
            stated, is missing offline, or `out` holds an archive from elsewhere.
    """
    if isinstance(release, str):
        if release not in RELEASES:
            raise ValueError(f"release must be one of {', '.join(RELEASES)}, got {release!r}")
        release = RELEASES[release]
    out = Path(out)
    if offline:
        _require_all(out, release)
        return out
    with only_writer(out), open_session() as session:
        missing = {sensor: it for sensor, it in release.archives.items() if _lacks(out, sensor, it)}
        parts = {sensor: out / f"{sensor}.pmtiles.part" for sensor in missing}
        stated = sum(int(it.gigabytes * 1e9) for it in missing.values())
        check_disk_space(out, stated - sum(map(size_of, parts.values())))
        for sensor, published in missing.items():
            url = f"{(base_url or BASE_URL).rstrip('/')}/{published.file}"
            kept = size_of(parts[sensor])
            report(f"{sensor} of {release.name}: {url}, {kept:,} bytes kept before")
            download(session, url, parts[sensor])
            advice = f"the release changed or is another file; it is kept in {parts[sensor]}"
            _check_archive(parts[sensor], sensor, published, advice)
            settle(parts[sensor], parts[sensor].with_suffix(""))
    return out


def _require_all(out: Path, release: Release) -> None:
    missing = [sensor for sensor, it in release.archives.items() if _lacks(out, sensor, it)]
    if missing:
        raise FetchError(
            f"{out} must hold {', '.join(missing)} of {release.name} to go without a network: call "
            f"`salib fetch {release.name} --out {out}` with one"
        )


def _lacks(out: Path, sensor: str, published: Published) -> bool:
    path = out / f"{sensor}.pmtiles"
    if not path.exists():
        return True
    if path.name not in manifest(out):
        raise FetchError(f"out must hold fetched archives only, got {path}: choose another folder")
    _check_archive(path, sensor, published, f"delete {path} to fetch it again")
    return False


def _check_archive(path: Path, sensor: str, published: Published, advice: str) -> None:
    try:
        archive = Archive(path)
    except (ValueError, OSError) as error:
        raise FetchError(f"{sensor} must be a whole archive, got: {error}; {advice}") from error
    stated, listed = archive.header["addressed_tiles_count"], len(archive)
    archive.close()
    if {stated, listed} != {published.tiles}:
        raise FetchError(
            f"{sensor} must have {published.tiles:,} tiles ({published.file}), got {stated:,} in "
            f"the header and {listed:,} listed; {advice}"
        )
