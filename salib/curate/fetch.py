"""The authors' released archives: fetched resumably, checked, and indexed for `salib.data`."""

import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from salib.artifact import atomic_file, check_room, file_digest
from salib.config import SENSOR_NAMES
from salib.curate.archive import Archive

BASE_URL = "https://se7a6ueojehnth4fhglodzchw40rfbuv.lambda-url.us-east-2.on.aws"
"""The authors' signer: redirects each file name to a signed address good for an hour."""
MANIFEST = "sha256sums.txt"
ATTEMPTS, BACKOFF_S, TIMEOUT_S = 6, 1.0, (10.0, 60.0)
PASSING = (408, 425, 429, 500, 502, 503, 504)
CHUNK_BYTES = 1 << 16


class FetchError(OSError):
    """A download that cannot be finished; the message says why and what to do."""


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
    base_url: str = BASE_URL,
    report: Callable[[str], object] = tqdm.write,
) -> Path:
    """Fetch radar.pmtiles, lores.pmtiles and hires.pmtiles of a release into a folder of their own.

    What came before an interruption is kept in `.part` files and taken up again; a file that
    changed on the server meanwhile starts anew. An archive takes its name once it is whole, has
    the stated number of tiles and stands in `sha256sums.txt`; then it is not asked for again.

    Raises:
        ValueError: if the release is unknown.
        OSError: if there is no room.
        FetchError: if the server fails for good, an archive is not what was
            stated, or `out` holds an archive from elsewhere.
    """
    if isinstance(release, str):
        if release not in RELEASES:
            raise ValueError(f"release must be one of {', '.join(RELEASES)}, got {release!r}")
        release = RELEASES[release]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), _session() as session:
        missing = {sensor: it for sensor, it in release.archives.items() if _lacks(out, sensor, it)}
        parts = {sensor: out / f"{sensor}.pmtiles.part" for sensor in missing}
        stated = sum(int(it.gigabytes * 1e9) for it in missing.values())
        check_room(out, stated - sum(map(_size, parts.values())))
        for sensor, published in missing.items():
            url = f"{base_url.rstrip('/')}/{published.file}"
            report(f"{sensor} of {release.name}: {url}, {_size(parts[sensor]):,} bytes kept before")
            _download(session, url, parts[sensor])
            _settle(parts[sensor], sensor, published)
    return out


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(f"{out} must have one fetch at a time, got a second") from error
        yield


def _session() -> requests.Session:
    retry = Retry(ATTEMPTS, connect=3, backoff_factor=BACKOFF_S, status_forcelist=PASSING)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # A file asked for in ranges must come as it is, not compressed on the way.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _lacks(out: Path, sensor: str, published: Published) -> bool:
    path = out / f"{sensor}.pmtiles"
    if not path.exists():
        return True
    if path.name not in _manifest(out):
        raise FetchError(f"out must hold fetched archives only, got {path}: choose another folder")
    _check_archive(path, sensor, published, f"delete {path} to fetch it again")
    return False


def _manifest(out: Path) -> dict[str, str]:
    path = out / MANIFEST
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _download(session: requests.Session, url: str, part: Path) -> None:
    """Bring `part` to its whole length, again and again while that helps."""
    failures, most, reason = 0, _size(part), None
    while failures < ATTEMPTS:
        time.sleep(BACKOFF_S * (2**failures - 1))
        try:
            with _ask(session, url, part) as response:
                return _receive(response, url, part)
        except requests.RequestException as error:
            reason = error
        failures = 1 if _size(part) > most else failures + 1
        most = max(most, _size(part))
    raise FetchError(_stopped(url, part, f"it broke off {ATTEMPTS} times ({reason})")) from reason


def _stopped(url: str, part: Path, why: str) -> str:
    kept = f"{_size(part):,} bytes are kept in {part}"
    return f"{url} must be served, but {why}: {kept}; call again later, or give another base_url"


def _ask(session: requests.Session, url: str, part: Path) -> requests.Response:
    """The response to a request for what `part` lacks; its last byte is asked for in any case."""
    known, headers = _state(part), {}
    if known.get("url") == url and known.get("validator") and _size(part):
        offset = min(_size(part), known["length"] - 1)
        headers = {"Range": f"bytes={offset}-", "If-Range": known["validator"]}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise FetchError(_stopped(url, part, f"it cannot be reached ({error})")) from error
    if response.status_code == 416:
        _anew(response, part, "no such range")
    if response.status_code not in (200, 206):
        response.close()
        raise FetchError(_stopped(url, part, f"the answer is HTTP {response.status_code}"))
    return response


def _anew(response: requests.Response, part: Path, why: str) -> NoReturn:
    response.close()
    _state_path(part).unlink(missing_ok=True)
    raise requests.ConnectionError(why)


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict:
    path = _state_path(part)
    return json.loads(path.read_text()) if path.is_file() else {}


def _validator(response: requests.Response) -> str | None:
    """What If-Range may compare: a strong ETag, else the date of change."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _receive(response: requests.Response, url: str, part: Path) -> None:
    """Write a body to `part`, behind what is there if the server agreed to go on."""
    stated = response.headers.get("Content-Length")
    if stated is None:
        raise FetchError(_stopped(url, part, "the answer does not state its length"))
    offset, length = 0, int(stated)
    if response.status_code == 206:
        known = _state(part)
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        offset, length = map(int, found.groups()) if found else (-1, -1)
        wanted = min(_size(part), known["length"] - 1)
        same = _validator(response) in (None, known["validator"])
        if (offset, length) != (wanted, known["length"]) or not same:
            _anew(response, part, "another range or another file than asked for")
    check_room(part.parent, length - offset)
    shown = {"total": length, "initial": offset, "unit": "B", "unit_scale": True, "disable": None}
    with part.open("r+b" if offset else "wb") as file, tqdm(desc=part.stem, **shown) as bar:
        if not offset:  # only now, as the old bytes are gone
            state = {"url": url, "validator": _validator(response), "length": length}
            with atomic_file(_state_path(part)) as written:
                written.write_text(json.dumps(state))
        file.truncate(offset)
        file.seek(offset)
        for chunk in response.iter_content(CHUNK_BYTES):
            bar.update(file.write(chunk))
        file.flush()
        os.fsync(file.fileno())
    if _size(part) != length:
        raise requests.ConnectionError(f"{_size(part)} bytes came of {length}")


def _settle(part: Path, sensor: str, published: Published) -> None:
    """Check a whole `part`, note its sum, and only then give it the name of an archive."""
    advice = f"the release changed or is another file; it is kept in {part}"
    _check_archive(part, sensor, published, advice)
    target = part.with_suffix("")
    sums = _manifest(part.parent) | {target.name: file_digest(part)}
    with atomic_file(part.parent / MANIFEST) as written:
        written.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    part.replace(target)
    _state_path(part).unlink()


def _check_archive(path: Path, sensor: str, published: Published, advice: str) -> None:
    try:
        archive = Archive(path)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise FetchError(f"{sensor} must be a whole archive, got: {error}; {advice}") from error
    stated, listed = archive.header["addressed_tiles_count"], len(archive)
    archive.close()
    if {stated, listed} != {published.tiles}:
        raise FetchError(
            f"{sensor} must have {published.tiles:,} tiles ({published.file}), got {stated:,} in "
            f"the header and {listed:,} listed; {advice}"
        )
