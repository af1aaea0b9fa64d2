"""Files from servers: resumed, retried, checked, and whole or told in one clear error."""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from salib.files.artifact import atomic_file, check_disk_space, file_digest

MANIFEST = "sha256sums.txt"
ATTEMPTS, BACKOFF_S, TIMEOUT_S = 6, 1.0, (10.0, 60.0)
PASSING = (408, 425, 429, 500, 502, 503, 504)
CHUNK_BYTES = 1 << 16
Session = requests.Session


class FetchError(OSError):
    """A download that cannot be finished; the message says why and what to do."""


class _OtherRangeError(requests.RequestException):
    """An answer that cannot be joined to what is there; the whole file is asked for next."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a file must be: its length in bytes and its sha256."""

    size: int
    sha256: str


def open_session(headers: Mapping[str, str] | None = None) -> Session:
    """A session that asks again where a server is busy, after the time it names (Retry-After)."""
    retry = Retry(ATTEMPTS, connect=3, backoff_factor=BACKOFF_S, status_forcelist=PASSING)
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # A file asked for in ranges must come as it is, not compressed on the way.
    session.headers.update({"Accept-Encoding": "identity"} | dict(headers or {}))
    return session


def download(session: Session, url: str, part: Path, *, expected: Expected | None = None) -> None:
    """Bring `part` to the whole file at `url`, again and again while that helps.

    Bytes that `part` holds from before are taken up again: without `expected` where the server's
    ETag or date says that the file is still the same, with it in any case, since the sha256 of the
    whole decides. A file of another sha256 is discarded; if bytes from before were part of it, it
    is fetched once more from its start.

    Raises:
        FetchError: if the server fails for good, the file is not `expected`, or it cannot be
            written; unless its sha256 is wrong, `part` keeps what came.
        OSError: if there is no room.
    """
    while True:
        resumed = size_of(part) > 0
        if expected is None or size_of(part) != expected.size:
            _complete(session, url, part, expected)
        if expected is None:
            return
        found = file_digest(part)
        if found == expected.sha256:
            return
        discard(part)
        if not resumed:
            raise FetchError(
                f"{url} must have sha256 {expected.sha256}, got {found}: nothing is kept; "
                "call again, or give another base_url"
            )


def read(session: Session, url: str, *, most_bytes: int = 1 << 24) -> bytes:
    """A small file, such as a listing, whole.

    Raises:
        FetchError: if the server fails for good, or the file is longer than `most_bytes`.
    """
    reason = None
    for attempt in range(ATTEMPTS):
        time.sleep(BACKOFF_S * (2**attempt - 1))
        try:
            with _get(session, url, {}, "nothing is kept") as response:
                content = bytearray()
                for chunk in response.iter_content(CHUNK_BYTES):
                    content += chunk
                    if len(content) > most_bytes:
                        raise FetchError(f"{url} must have at most {most_bytes:,} bytes, got more")
                return bytes(content)
        except requests.RequestException as error:
            reason = error
    why = f"it broke off {ATTEMPTS} times ({reason})"
    raise FetchError(_stopped(url, why, "nothing is kept")) from reason


def manifest(folder: Path) -> dict[str, str]:
    """The sha256 of each fetched file of a folder, by name, as `sha256sum -c` reads them."""
    path = folder / MANIFEST
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def settle(part: Path, target: Path) -> None:
    """Give a whole, checked `part` its name, after its sha256 stands in the manifest."""
    sums = manifest(target.parent) | {target.name: file_digest(part)}
    with atomic_file(target.parent / MANIFEST) as written:
        written.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    part.replace(target)
    _state_path(part).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _complete(session: Session, url: str, part: Path, expected: Expected | None) -> None:
    failures, most, reason = 0, size_of(part), None
    while failures < ATTEMPTS:
        time.sleep(BACKOFF_S * (2**failures - 1))
        headers = {} if isinstance(reason, _OtherRangeError) else _lacking(url, part, expected)
        try:
            with _get(session, url, headers, _kept(part)) as response:
                return _receive(response, url, part, expected)
        except requests.RequestException as error:
            reason = error
        failures = 1 if size_of(part) > most else failures + 1
        most = max(most, size_of(part))
    why = f"it broke off {ATTEMPTS} times ({reason})"
    raise FetchError(_stopped(url, why, _kept(part))) from reason


def _stopped(url: str, why: str, kept: str) -> str:
    advice = "call again later, or give another base_url"
    return f"{url} must be served, but {why}: {kept}; {advice}"


def _kept(part: Path) -> str:
    return f"{size_of(part):,} bytes are kept in {part}"


def _lacking(url: str, part: Path, expected: Expected | None) -> dict[str, str]:
    """Headers that ask for what `part` lacks; its last byte is asked for in any case."""
    known = _state(part)
    if not size_of(part):
        return {}
    if expected:
        return {"Range": f"bytes={min(size_of(part), expected.size - 1)}-"}
    if known.get("url") != url or not known.get("validator"):
        return {}
    offset = min(size_of(part), known["length"] - 1)
    return {"Range": f"bytes={offset}-", "If-Range": known["validator"]}


def _get(session: Session, url: str, headers: dict[str, str], kept: str) -> requests.Response:
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise FetchError(_stopped(url, f"it cannot be reached ({error})", kept)) from error
    if response.status_code not in (200, 206, 416):
        response.close()
        raise FetchError(_stopped(url, f"the answer is HTTP {response.status_code}", kept))
    return response


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict:
    path = _state_path(part)
    return json.loads(path.read_text()) if path.is_file() else {}


def _validator(response: requests.Response) -> str | None:
    """What If-Range may compare: a strong ETag, else the date of change."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _receive(response: requests.Response, url: str, part: Path, expected: Expected | None) -> None:
    """Write a body to `part`, behind what is there if the server agreed to go on."""
    if response.status_code == 416:
        raise _OtherRangeError("no such range")
    stated = response.headers.get("Content-Length")
    if stated is None:
        raise FetchError(_stopped(url, "the answer does not state its length", _kept(part)))
    offset, length = 0, int(stated)
    if response.status_code == 206:
        offset, length = _agreed_range(response, part, expected)
    if expected and length != expected.size:
        why = f"it has {length:,} bytes instead of {expected.size:,}"
        raise FetchError(_stopped(url, why, _kept(part)))
    check_disk_space(part.parent, length - offset)
    try:
        if not offset and not expected:
            part.unlink(missing_ok=True)  # before the new state, which it does not belong to
            state = {"url": url, "validator": _validator(response), "length": length}
            with atomic_file(_state_path(part)) as written:
                written.write_text(json.dumps(state))
        _write(response, part, offset, length)
    except requests.RequestException:
        raise
    except OSError as error:
        why = f"it cannot be written ({error})"
        raise FetchError(_stopped(url, why, _kept(part))) from error
    if size_of(part) != length:
        raise requests.ConnectionError(f"{size_of(part)} bytes came of {length}")


def _agreed_range(
    response: requests.Response, part: Path, expected: Expected | None
) -> tuple[int, int]:
    """Where a partial body begins and how long the whole is, if it goes on where `part` ends."""
    known = {"length": expected.size} if expected else _state(part)
    stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    offset, length = map(int, stated.groups()) if stated else (-1, -1)
    if expected and length >= 0 and length != expected.size:
        return offset, length
    same = expected or _validator(response) in (None, known.get("validator"))
    wanted = min(size_of(part), known.get("length", 0) - 1)
    if (offset, length) != (wanted, known.get("length")) or not same:
        raise _OtherRangeError("another range or another file than asked for")
    return offset, length


def _write(response: requests.Response, part: Path, offset: int, length: int) -> None:
    shown = {"total": length, "initial": offset, "unit": "B", "unit_scale": True, "disable": None}
    with part.open("r+b" if offset else "wb") as file, tqdm(desc=part.stem, **shown) as bar:
        file.truncate(offset)
        file.seek(offset)
        for chunk in response.iter_content(CHUNK_BYTES):
            bar.update(file.write(chunk))
        file.flush()
        os.fsync(file.fileno())
