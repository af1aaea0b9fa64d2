"""Files from servers: downloaded by pooch, whole and checked, or told in one clear error."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from salib.files.artifact import check_disk_space, file_digest, only_writer
from salib.files.disk import not_a_link

WORK = ".fetch"
"""Folder beside the finished files, for what is not finished yet."""
RETRIES, TIMEOUT_S, CHUNK_BYTES = 4, (10.0, 60.0), 1 << 18
ADVICE = "finished files are kept; call again later, or name a mirror with --base-url"


class FetchError(OSError):
    """A download that cannot be finished; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as its publisher states it.

    Args:
        url: its address.
        size: bytes, about.
        sha256: None where it is not stated.
        check: raises ValueError if a file is not the stated one.
    """

    url: str
    size: int
    sha256: str | None = None
    check: Callable[[Path], object] = lambda _: None


def fetch_files(
    files: Mapping[Path, RemoteFile],
    command: str,
    *,
    base_url: str | None = None,
    offline: bool = False,
) -> None:
    """Download the missing ones of some files of one folder; each appears whole and checked.

    A lost connection, a busy server and a wrong sha256 are tried again from the start of the file.

    Args:
        files: by the path to give them.
        command: what the user calls to fetch them.
        base_url: a mirror that holds files of the same names.
        offline: ask no server.

    Raises:
        OSError: if there is too little disk space, or another run writes to the folder.
        FetchError: if the server cannot be reached or lacks a file, a file is not as stated or
            cannot be written, is missing offline, or another one stands under its name.
    """
    for path, file in files.items():
        if path.exists():
            _check(path, file, f"move it away and run `{command}`, or choose another folder")
    missing = [path for path in files if not path.exists()]
    if not missing:
        return
    if offline:
        raise needs_network(", ".join(map(str, missing)), command)
    folder = missing[0].parent
    with only_writer(folder):
        check_disk_space(folder, sum(files[path].size for path in missing))
        for path in missing:
            file, part = files[path], not_a_link(folder / WORK) / path.name
            if base_url:
                file = replace(file, url=f"{base_url.rstrip('/')}/{file.url.rpartition('/')[2]}")
            _download(file, part)
            _check(part, file, f"delete it to download it again; {ADVICE}")
            part.replace(path)
        shutil.rmtree(folder / WORK)


def needs_network(missing: str, command: str) -> FetchError:
    """The error for what is missing when no server may be asked."""
    return FetchError(f"{missing} must be there to work offline: run `{command}` with a network")


def _check(path: Path, file: RemoteFile, advice: str) -> None:
    try:
        if file.sha256 and (digest := file_digest(path)) != file.sha256:
            raise ValueError(f"its sha256 is {digest}, not {file.sha256}")
        file.check(path)
    except (ValueError, OSError) as error:
        raise FetchError(f"{path} is not the published file: {error}; {advice}") from error


def _download(file: RemoteFile, part: Path) -> None:
    how: Any = {"registry": {part.name: file.sha256}, "urls": {part.name: file.url}}
    get: Any = _get  # pooch's own type asks for an availability check as well
    try:
        for left in part.parent.glob("tmp*"):  # by a run that was killed
            left.unlink()
        pooch.create(part.parent, "", retry_if_failed=RETRIES, **how).fetch(part.name, None, get)
    except FetchError:
        raise
    except (requests.RequestException, ValueError) as error:
        raise FetchError(f"Could not download {file.url}: {error}; {ADVICE}") from error
    except OSError as error:
        raise FetchError(f"Could not write {part}: {error}; {ADVICE}") from error


def _get(url: str, path: Any, files: Any) -> None:
    """Pooch's downloader for HTTP; an answer that will not change is not asked for again."""
    bar: Any = tqdm(None, url.rpartition("/")[2], 1, unit="B", unit_scale=True, disable=None)
    try:
        pooch.HTTPDownloader(bar, CHUNK_BYTES, timeout=TIMEOUT_S)(url, path, files)
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        if status == 429 or status >= 500:
            raise
        raise FetchError(f"Could not download {url}: HTTP {status}; {ADVICE}") from error
