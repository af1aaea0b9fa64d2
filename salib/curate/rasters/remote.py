"""Files behind an address: signing, GDAL's settings, and what a failed read means."""

import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio
import requests
from rasterio.errors import RasterioIOError
from urllib3.util import Retry

SAS_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
SIGNED = re.compile(r"(?P<account>[a-z0-9]+)\.blob\.core\.windows\.net")
"""Hosts whose files need a token; the address of the tokens is in PC_SDK_SAS_URL if set."""
PAYS = ("sentinel-s1-l1c", "sentinel-s2-l1c", "sentinel-s2-l2a", "naip-analytic", "naip-source")
PAYS += ("naip-visualization",)
"""Buckets whose reader pays for the transfer."""
FINAL = re.compile(r"\b(403|404|410)\b|credentials|access ?denied|no ?such ?(key|bucket)", re.I)
"""What GDAL says of an object of a bucket that another attempt does not help."""
SPARE_S = 60
TRIES = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
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
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "4000000",
}

FRESH: dict[str, Any] = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http"}
"""Makes GDAL ask again: it remembers for a process that an address failed, or what came short."""
Found = TypeVar("Found")
_tokens: dict[tuple[str, str], tuple[str, float]] = {}
_lock = threading.Lock()


class ReadError(ValueError):
    """A scene's file that cannot be read.

    Attributes:
        again: whether another attempt may succeed.
        after_s: seconds that the server asks to wait, None if it does not say.
        refused: whether access was refused (403), as it is with a token that ran out.
    """

    def __init__(
        self, text: str, *, again: bool, after_s: float | None = None, refused: bool = False
    ) -> None:
        """Say what happened to which file, and what to do."""
        super().__init__(text)
        self.again, self.after_s, self.refused = again, after_s, refused


def is_remote(href: str) -> bool:
    """Whether a file is behind an address."""
    return "://" in href


def location(href: str) -> str:
    """What GDAL opens: a path, a bucket's object, or an address, signed if its host asks for it."""
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if not is_remote(href):
        return href
    token = _token(href)
    if token is None:
        return href
    return f"{href}{'&' if urlsplit(href).query else '?'}{token}"


def payers(hrefs: Sequence[str]) -> list[str]:
    """Those files whose reader pays for the transfer."""
    return [href for href in hrefs if href.startswith("s3://") and urlsplit(href).netloc in PAYS]


def reading(hrefs: Sequence[str], *, requester_pays: bool) -> rasterio.Env:
    """GDAL's settings for these files, as a context."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": CACHE_MB << 20}
    if any(map(is_remote, hrefs)):
        options |= GDAL
    if requester_pays and payers(hrefs):
        options |= {"AWS_REQUEST_PAYER": "requester"}
    return rasterio.Env(**options)


def failure(href: str, error: Exception) -> ReadError:
    """What a failed read means: the server is asked for one byte, and its answer decides."""
    if not href.startswith(("http://", "https://")):
        again = is_remote(href) and not FINAL.search(str(error))
        return ReadError(f"asset must be a readable raster, got {href} ({error})", again=again)
    try:
        with requests.get(
            location(href), headers={"Range": "bytes=0-0"}, timeout=TIMEOUT_S, stream=True
        ) as answer:
            status, wait = answer.status_code, answer.headers.get("Retry-After")
    except requests.RequestException as lost:
        return ReadError(f"asset must be within reach, got {href} ({lost})", again=True)
    rule = f"asset must be readable, got HTTP {status} for {href}"
    if status in (401, 403):
        signed = _container(href) is not None
        _forget(href)
        return ReadError(
            f"{rule}: {'the token is refused' if signed else 'access is refused'}",
            again=signed,
            refused=True,
        )
    if status == 429 or status >= 500:
        return ReadError(rule, again=True, after_s=_seconds(wait))
    if status >= 400:
        return ReadError(f"{rule}: search again, the file is gone", again=False)
    return ReadError(f"asset must be a whole raster, got {href} ({error})", again=True)


def patiently(href: str, act: Callable[[str], Found]) -> Found:
    """Open or read a file by its location, a few times where that may help.

    A block of tiles takes many reads, so one that fails must not cost the block. A refused token is
    renewed once, without waiting.

    Raises:
        ReadError: if it cannot be read.
    """
    refused = False
    for trial in range(TRIES):
        try:
            with rasterio.Env(**FRESH) if trial else nullcontext():
                return act(location(href))
        except (RasterioIOError, ReadError) as error:
            found = error if isinstance(error, ReadError) else failure(href, error)
            if not found.again or trial == TRIES - 1 or (found.refused and refused):
                raise found from error
            refused = refused or found.refused
            pause(href, trial, found)
    raise AssertionError("the last trial returns or raises")


def pause(name: str, trial: int, error: ReadError) -> None:
    """Wait before another attempt: double from one second up to a minute, or what is asked for.

    Waits of different names spread a little; a refused token is no reason to wait.
    """
    if error.refused:
        return
    spread = random.Random(f"{name} {trial}").uniform(0.75, 1.25)
    wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**trial * spread)
    time.sleep(max(wait, error.after_s) if error.after_s else wait)


def _seconds(wait: str | None) -> float | None:
    if not wait:
        return None
    try:
        return float(Retry().parse_retry_after(wait))
    except ValueError:
        return None


def _container(href: str) -> tuple[str, str] | None:
    parts = urlsplit(href)
    found = SIGNED.fullmatch(parts.netloc)
    return None if found is None else (found["account"], parts.path.split("/")[1])


def _token(href: str) -> str | None:
    """Query that opens a file, kept until a minute before it ends; None where none is needed."""
    place = _container(href)
    if place is None:
        return None
    with _lock:
        token, end = _tokens.get(place, ("", 0.0))
        if end > time.time() + SPARE_S:
            return token
        address = f"{os.environ.get('PC_SDK_SAS_URL', SAS_URL)}/{'/'.join(place)}"
        key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
        headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
        try:
            answer = requests.get(address, headers=headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
            token, expiry = answer.json()["token"], answer.json()["msft:expiry"]
        except (requests.RequestException, KeyError, ValueError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            wait = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After")
            raise ReadError(
                f"asset must get a token, got none for {href} from {address} ({error})",
                again=status is None or status == 429 or status >= 500,
                after_s=_seconds(wait),
            ) from error
        end = datetime.fromisoformat(expiry).astimezone(UTC).timestamp()
        _tokens[place] = token, end
        return token


def _forget(href: str) -> None:
    """Drop a file's token, so that the next read asks for a new one."""
    place = _container(href)
    if place is not None:
        with _lock:
            _tokens.pop(place, None)
