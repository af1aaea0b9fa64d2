"""Zips from elsewhere, unpacked only if nothing in them reaches beyond the folder meant for it."""

import re
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from salib.files.artifact import check_disk_space

MOST_ENTRIES = 200_000
MOST_GROWTH = 100
"""A zip may unpack to this many times its own size; published ones reach about seven times."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
CLASHING = (FileExistsError, NotADirectoryError)


def unzip(archive: str | Path, out: str | Path, *, folder: str) -> None:
    """Unpack the files below one top folder of a zip into `out`, an empty folder.

    The whole zip is refused, and nothing written, if any entry has an absolute path or one with
    `..`, a drive or a backslash, is a link, a device or encrypted, or appears twice; or if there
    are more than 200,000 entries or they grow to over 100 times the zip. Entries elsewhere than
    below `folder` are left. Each file is checked by its CRC-32.

    Raises:
        ValueError: if the zip is damaged or refused, or holds nothing below `folder`.
        OSError: if there is no room.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _safe(opened, Path(archive))
            wanted = [entry for entry in entries if _place(entry, folder)]
            if not wanted:
                raise ValueError(f"{archive} must hold files below {folder}/, got none")
            check_disk_space(out, sum(entry.file_size for entry in wanted))
            for entry in tqdm(wanted, desc=folder, unit="file", disable=None):
                target = Path(out, _place(entry, folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except UNREADABLE as error:
        raise ValueError(f"{archive} must be a whole zip file, got {error}") from error
    except CLASHING as error:
        raise ValueError(f"{archive} must not use one name for two things, got {error}") from error


def _place(entry: zipfile.ZipInfo, folder: str) -> str:
    """Path of an entry below `folder`; empty for folders and what lies elsewhere."""
    first, *rest = PurePosixPath(entry.filename).parts
    return "/".join(rest) if first == folder and not entry.is_dir() else ""


def _safe(opened: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    entries = opened.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"{archive} must have at most {MOST_ENTRIES:,} entries, got more")
    for entry in entries:
        if wrong := _wrong(entry):
            raise ValueError(f"{archive} must be safe to unpack, got {entry.filename!r}: {wrong}")
    for name, count in Counter(entry.filename for entry in entries).most_common(1):
        if count > 1:
            raise ValueError(f"{archive} must hold each name once, got {name!r} {count} times")
    size, limit = sum(entry.file_size for entry in entries), MOST_GROWTH * archive.stat().st_size
    if size > limit:
        raise ValueError(f"{archive} must unpack to at most {limit:,} bytes, got {size:,}")
    return entries


def _wrong(entry: zipfile.ZipInfo) -> str | None:
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name:
        return "a path that leads elsewhere"
    if re.match(r"[A-Za-z]:", name):
        return "a path with a drive"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or a device"
    return "an encrypted file" if entry.flag_bits & 1 else None
