"""Files and folders that are whole or absent, and know what they were made from."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import Timeout

from salib.files.disk import LOCKS, beside, locked, sync, told_when_full

ROOT = Path(__file__).parents[2]
MADE_FROM = "made_from.json"
RECIPES = {"earth": 2, "curate": 3, "pretrain": 2, "embed": 4, "evaluate": 4}
"""Number of each stage, raised by hand when the same inputs give other results than before."""
SOURCE = "source"
"""Entry of a key that is recorded and shown, but never compared: the digest of the code."""
FILES = "files"
"""Entry of a stamp: bytes of each file, so that a damaged folder is not taken for a whole one."""
logger = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` only when the block succeeds.

    Raises:
        DiskFullError: if the disk has too little space; what was at `path` is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{token_hex(8)}.part")
    try:
        with told_when_full(path):
            yield part
            sync(part)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` only when the block succeeds.

    The earlier folder is set aside until then, and put back if it cannot be replaced.

    Raises:
        InUseError: if another run is within such a block.
        DiskFullError: if the disk has too little space.
    """
    path = Path(path).resolve()  # what a link leads to is replaced, on the disk where it is
    work = beside(path, ".part")
    with only_writer(work):
        part, old = work / "new", work / "old"
        _put_back(old, path)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        try:
            with told_when_full(path):
                yield part
            if path.exists():
                path.rename(old)
            part.rename(path)
        finally:
            _put_back(old, path)
            shutil.rmtree(part, ignore_errors=True)


def _put_back(old: Path, path: Path) -> None:
    """Give a folder that was set aside its name again, or remove it if its successor has that."""
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def check_replaceable(path: str | Path, *patterns: str, stamped: bool = False) -> None:
    """Refuse to replace a folder that holds anything but an earlier product of the same kind.

    Args:
        path: the folder that `atomic_dir` is to replace; need not exist yet.
        patterns: of the names of all that such a product holds.
        stamped: it also holds MADE_FROM, for products whose names others use as well.

    Raises:
        ValueError: if there is something else at `path`, or it is or holds the current folder.
    """
    path = Path(path)
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise ValueError(f"out must lie in a folder, got {path}, but {above} is a file")
    if path.resolve() in (Path.cwd(), *Path.cwd().parents) or path.is_mount():
        raise ValueError(f"out must be a folder of its own, got {path}: name a new one in it")
    names = {item.name for item in path.iterdir()} if path.is_dir() else set()
    names -= {".DS_Store", *LOCKS}
    foreign = [name for name in names if not any(fnmatchcase(name, each) for each in patterns)]
    if foreign or (names and stamped and MADE_FROM not in names):
        raise ValueError(
            f"out must be new, empty or written by the same command, got {path} with "
            f"{min(foreign or names)!r}: all is kept; choose another name"
        )


class InUseError(OSError):
    """A folder that another run writes to."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` within the block; a killed run keeps none out.

    What a killed run left half-written goes. A folder that nobody may write to is left as it is:
    its content can still be used.

    Raises:
        InUseError: if another run is within such a block.
    """
    if folder.exists() and not os.access(folder, os.W_OK):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = locked(folder)
    except Timeout:
        raise InUseError(
            f"Another run is writing to {folder}: wait for its end, or choose another folder"
        ) from None
    try:
        for part in folder.glob(f".{'[0-9a-f]' * 16}.part"):
            part.unlink()
        yield
    finally:
        with suppress(OSError):  # the folder holds something, or its disk waits for the release
            (folder / LOCKS[0]).unlink(missing_ok=True)
            lock.release()
            folder.rmdir()
        lock.release()


def clear(work: Path, *names: str) -> None:
    """Remove entries of a work directory that a killed run of a finished product left.

    One that another run writes to is left as it is.
    """
    if work.is_dir():
        with suppress(OSError), only_writer(work):
            for name in names:
                entry = work / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def check_disk_space(folder: str | Path, needed: int) -> None:
    """Refuse to begin what a disk cannot hold: bytes in a folder that need not exist yet.

    Raises:
        OSError: if fewer are free.
    """
    above = next(each for each in (Path(folder), *Path(folder).absolute().parents) if each.is_dir())
    free = shutil.disk_usage(above).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"Not enough disk space in {above}: {needed:,} bytes are needed and {free:,} are free. "
            "Free some, or write elsewhere; finished work is kept",
        )


def file_digest(path: str | Path) -> str:
    """Sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digest(module: str) -> str:
    """Sha256 over the sources of our package that a module belongs to."""
    paths = sorted((ROOT / module.split(".")[0]).rglob("*.py"))
    listing = [(str(path.relative_to(ROOT)), file_digest(path)) for path in paths]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: if the file is damaged or holds something else.
        OSError: if it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Could not read {path} ({error}): write or download it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(found).__name__}")
    return found


def made_from(folder: str | Path) -> dict:
    """The key that `folder` was completed from; empty if it was not."""
    try:
        made = read_json(Path(folder) / MADE_FROM)
    except (OSError, ValueError):  # absent, emptied or cut: not known to be complete
        return {}
    return made if isinstance(made.get(FILES, {}), dict) else {}


def differences(made: dict, key: dict) -> list[str]:
    """Names of the entries in which two keys differ, but for the digest of the code."""
    now = json.loads(json.dumps(key))
    compared = {*made, *now} - {SOURCE, FILES}
    return sorted(name for name in compared if made.get(name, ...) != now.get(name, ...))


def is_kept(folder: str | Path, key: dict) -> bool:
    """Whether `folder` was completed from `key`, by whatever code of the same recipe."""
    made = made_from(folder)
    paths = {Path(folder) / name: size for name, size in made.get(FILES, {}).items()}
    whole = all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
    return bool(made) and whole and not differences(made, key)


def code_remark(made: dict | str | Path, key: dict) -> str:
    """What to tell of a product (its key or folder) that other code has made; empty if the same.

    Code is recorded and never compared: whoever changes results raises the number in `RECIPES`.
    """
    made = made if isinstance(made, dict) else made_from(made)
    was, now = made.get(SOURCE, ""), key.get(SOURCE, "")
    if was == now:
        return ""
    return f" (the code has changed since, {was[:8] or 'unknown'} to {now[:8]}; the recipe has not)"


def stamp(folder: str | Path, key: dict, *files: str) -> None:
    """Record in `folder` what it was made from, and how long these `files` are; written last."""
    sizes = {name: (Path(folder) / name).stat().st_size for name in files}
    with atomic_file(Path(folder) / MADE_FROM) as part:
        record = key | {FILES: sizes} if files else key
        part.write_text(json.dumps(record, indent=1, sort_keys=True))


def keep(folder: str | Path, make: Callable[..., object], **arguments: object) -> Path:
    """Call `make(folder, **arguments)` unless the folder was completed from the same already.

    Args:
        make: a function of ours that writes the folder whole, of a stage in `RECIPES`.
        arguments: plain values; `processes` and `overwrite` change not what is made, and do not
            count.
    """
    free = ("processes", "overwrite")
    counted = {name: value for name, value in arguments.items() if name not in free}
    recipe = RECIPES.get(make.__module__.removeprefix("salib.").split(".")[0])
    key = {"arguments": counted, "recipe": recipe, SOURCE: source_digest(make.__module__)}
    if not is_kept(folder, key):
        make(folder, **arguments)
        stamp(folder, key)
    elif remark := code_remark(folder, key):
        logger.warning("kept: %s%s", folder, remark)
    return Path(folder)
