"""Data set repositories of the Hugging Face hub over plain HTTP: revisions, listings, addresses.

`salib.files.download` brings the files, not the `huggingface_hub` package: that one (2.4.0) deletes
what it has after a failure, takes no account of a file's sha256, and leaves a mirror for the hub's
own storage protocol. Its variables hold here too: HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from salib.files.download import FetchError, Session, read

HOME = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file as its repository lists it.

    Args:
        size: bytes.
        git_sha1: name of its git object; of the pointer to it where `sha256` is given.
        sha256: of its bytes, if it is stored in LFS.
    """

    size: int
    git_sha1: str
    sha256: str | None


def endpoint(base_url: str | None = None) -> str:
    """Where the hub's routes are: `base_url`, else HF_ENDPOINT, else the hub itself."""
    return (base_url or os.environ.get("HF_ENDPOINT") or HOME).rstrip("/")


def headers(base_url: str | None = None) -> dict[str, str]:
    """HF_TOKEN as a header, but never for a `base_url`, which need not be the hub's."""
    token = os.environ.get("HF_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token and not base_url else {}


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit, which cannot come to mean another one."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def commit_of(session: Session, server: str, repository: str, revision: str) -> str:
    """The full commit that a branch, a tag or a short commit means now.

    Raises:
        FetchError: if the server fails or does not know.
    """
    url = f"{server}/api/datasets/{repository}/revision/{quote(revision, safe='')}"
    answer = _json(session, url)
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not is_commit(commit):
        raise FetchError(f"{url} must give the full commit as sha, got {commit!r}")
    return commit


def list_folder(
    session: Session, server: str, repository: str, commit: str, folder: str
) -> dict[str, HubFile]:
    """Files of one folder of a repository, by their path in it.

    Raises:
        FetchError: if the server fails or the answer is no listing.
    """
    url = f"{server}/api/datasets/{repository}/tree/{commit}/{folder}"
    listed = _json(session, url)
    try:
        return {
            entry["path"]: HubFile(
                size=int(entry["size"]),
                git_sha1=entry["oid"],
                sha256=entry["lfs"]["oid"] if entry.get("lfs") else None,
            )
            for entry in listed
            if entry["type"] == "file"
        }
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError(f"{url} must be a listing of the hub's, got {error!r}") from error


def file_url(server: str, repository: str, commit: str, path: str) -> str:
    """Where a file of a repository is served."""
    return f"{server}/datasets/{repository}/resolve/{commit}/{quote(path)}"


def git_sha1(content: bytes) -> str:
    """Name of the git object that holds `content`."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _json(session: Session, url: str) -> Any:
    content = read(session, url)
    try:
        return json.loads(content)
    except ValueError as error:
        raise FetchError(f"{url} must answer in JSON, got {content[:40]!r}") from error
