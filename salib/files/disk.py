"""What disks do: they fill up, lack locks, refuse long names, and hold links."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_TEXT = re.compile(
    r"no space left|quota exceeded|file too large|tiff.*write error|\d+ requested and \d+ written",
    re.IGNORECASE,
)
"""Of writers that give no number: safetensors, GDAL, NumPy."""
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK)
"""What a disk answers that has no locks or cannot be told to write now."""
LONGEST_NAME = 128
"""Bytes of a name that has room for more, on any disk."""
LOCKS = (".lock", ".lock.pid")


class DiskFullError(OSError):
    """A disk, or a user's share of it, that has no more space."""


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Turn what writers raise on a full disk, each in its own words, into one line.

    Raises:
        DiskFullError: if the block fails because the disk of `path` is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not _is_full(error):
            raise
        text = f"The disk of {path.parent} is full. Finished work is kept: free space and run again"
        raise DiskFullError(errno.ENOSPC, text) from error


def _is_full(error: BaseException | None) -> bool:
    while error:
        if getattr(error, "errno", None) in FULL or FULL_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def sync(path: Path) -> None:
    """Wait until the disk holds a file, if it can tell."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise


def beside(path: Path, ending: str) -> Path:
    """The hidden place beside `path` in which it is made; of a long name it has the digest."""
    name = os.fsencode(path.name)
    stem = path.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()[:32]
    return not_a_link(path.with_name(f".{stem}{ending}"))


def not_a_link(folder: Path) -> Path:
    """A folder for unfinished work, whose files are replaced and removed.

    Raises:
        ValueError: if it is a link, for what that leads to may be something else.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder} must be no link, got one to {folder.resolve()}: remove it")
    return folder


def locked(folder: Path) -> BaseFileLock:
    """A lock that ends with the process; where the disk has none, a file that names it.

    Raises:
        Timeout: if another process holds it.
    """
    lock = FileLock(folder / LOCKS[0], timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        lock = SoftFileLock(folder / LOCKS[1], timeout=0)
        lock.acquire()
    return lock
