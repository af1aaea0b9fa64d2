"""Files behind an address: signing, GDAL's settings, and what a failed read means."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import rasterio
import requests
from rasterio.errors import RasterioIOError

from salib.files.addresses import without_secrets

SIGNED_HOST = ".blob.core.windows.net"
"""Hosts whose files need a token; the address of the tokens is in PC_SDK_SAS_URL if set."""
PAYS = ("sentinel-s1-l1c", "sentinel-s2-l1c", "sentinel-s2-l2a", "naip-analytic", "naip-source")
PAYS += ("naip-visualization",)
"""Buckets whose reader pays for the transfer."""
FINAL = re.compile(r"\b(403|404|410)\b|credentials|access ?denied|no ?such ?(key|bucket)", re.I)
"""What GDAL says of an object of a bucket that another attempt does not help."""
DRIVER = re.compile(r"/vsi|[A-Za-z][A-Za-z0-9_+.-]+:")
"""How the names of files begin that are no paths of this machine."""
REMOTE = re.compile(r".*/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs)(_streaming)?[/?]")
TOKEN_WAITS_S = (1, 2, 4)
"""Between requests for a token to a busy server, however long a wait it asks for."""
TIMEOUT_S = 30
CACHE_MB = 32
"""Of decoded source blocks, of the files kept open; without a limit GDAL takes 5 % of memory."""
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "4000000",
}
"""A request that fails is sent again up to six times, in half a minute: the only retry of a read.
A block of tiles whose read fails all the same is rendered again by `files.jobs`."""
FRESH: dict[str, Any] = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http"}
"""Makes GDAL ask again: it remembers for a process that an address failed, or what came short."""
_failed: set[str] = set()


class ReadError(ValueError):
    """A scene's file that cannot be read; `again` tells whether another attempt may succeed."""

    def __init__(self, text: str, *, again: bool) -> None:
        """Say what happened to which file, and what to do."""
        super().__init__(without_secrets(text))
        self.again = again


def is_remote(href: str) -> bool:
    """Whether a file is behind an address, be it one of this machine or within an archive."""
    return "://" in href or bool(REMOTE.match(href))


def disk_path(href: str) -> Path | None:
    """Where a file lies on this machine; None behind an address, and for what GDAL alone finds.

    The latter are files in archives (`/vsizip/`, `zip://`) and parts of products that GDAL names by
    a driver, such as `SENTINEL2_L2A:`. An address `file://` may be escaped and name this machine.

    Raises:
        ValueError: if such an address names another machine.
    """
    if href.lower().startswith("file:"):
        path = href[len("file:") :]
        if path.startswith("//"):
            host, _, path = path.removeprefix("//").partition("/")
            if host.lower() not in ("", "localhost"):
                raise ValueError(f"file address must be of this machine, got {href}: state a path")
            path = f"/{path}"
        return Path(unquote(path))
    if DRIVER.match(href) and not os.path.lexists(href):
        return None
    return Path(href)


def location(href: str) -> str:
    """What GDAL opens: a path, a bucket's object, or an address, signed if its host asks for it."""
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if href.lower().startswith("file:"):
        return str(disk_path(href))
    if not _needs_token(href):
        return href
    from planetary_computer import sas

    bare = without_secrets(href)
    parts = urlsplit(bare)
    try:
        account, container = parts.netloc.split(".")[0], parts.path.split("/")[1]
        for wait in TOKEN_WAITS_S:
            with suppress(requests.exceptions.RetryError):
                sas.get_token(account, container, retry_total=0)
                break
            time.sleep(wait)
        token = sas.get_token(account, container, retry_total=0).token  # kept, if there was one
        return f"{bare}{'&' if parts.query else '?'}{token}"
    except (requests.RequestException, ValueError) as error:
        text = f"Could not obtain a SAS token for {href}: {error}"
        raise ReadError(text, again=not isinstance(error, requests.HTTPError)) from error


def payers(hrefs: Sequence[str]) -> list[str]:
    """Those files whose reader pays for the transfer."""
    return [href for href in hrefs if href.startswith("s3://") and urlsplit(href).netloc in PAYS]


def reading(hrefs: Sequence[str], *, requester_pays: bool) -> rasterio.Env:
    """GDAL's settings for these files, as a context."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": CACHE_MB << 20}
    if any(map(is_remote, hrefs)):
        options |= GDAL
    if not _failed.isdisjoint(hrefs):
        options |= FRESH
    if requester_pays and payers(hrefs):
        options |= {"AWS_REQUEST_PAYER": "requester"}
    return rasterio.Env(**options)


@contextmanager
def as_read_errors(href: str) -> Iterator[None]:
    """Raise what goes wrong with a file within the block as a ReadError."""
    try:
        yield
    except RasterioIOError as error:
        raise failure(href, error) from error


def failure(href: str, error: Exception) -> ReadError:
    """What a failed read means: the server is asked for one byte, and its answer decides."""
    _failed.add(href)
    if disk_path(href):
        said = " ".join(str(error.__cause__ or error).split())
        return ReadError(f"Could not read {href}: {said}. Is it whole? Get it again", again=False)
    if not href.startswith(("http://", "https://")):
        again = is_remote(href) and not FINAL.search(str(error))
        return ReadError(f"Could not read {href}: {error}", again=again)
    try:
        first = {"Range": "bytes=0-0"}
        with requests.get(location(href), headers=first, timeout=TIMEOUT_S, stream=True) as answer:
            status = answer.status_code
    except requests.RequestException as lost:
        return ReadError(f"Could not reach {href}: {type(lost).__name__}", again=True)
    if status in (401, 403) and _needs_token(href):
        from planetary_computer import sas

        sas.TOKEN_CACHE.clear()  # so that the next read gets another
        return ReadError(f"The SAS token for {href} is refused (HTTP {status})", again=True)
    if status in (401, 403):
        return ReadError(f"Access to {href} is refused (HTTP {status})", again=False)
    if 400 <= status < 500 and status != 429:
        return ReadError(f"{href} is gone (HTTP {status}): search again", again=False)
    reason = f"HTTP {status}" if status >= 400 else str(error)
    return ReadError(f"Could not read {href}: {reason}", again=True)


def _needs_token(href: str) -> bool:
    """Whether a host asks for a token that the address does not have yet, or no longer."""
    parts = urlsplit(href)
    query = parse_qs(parts.query)
    end = re.fullmatch(r"[\d-]{10}(T[\d:]{5,8}Z)?", query.get("se", [""])[0])
    over = end and end[0] < f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return parts.netloc.endswith(SIGNED_HOST) and ("sig" not in query or bool(over))
