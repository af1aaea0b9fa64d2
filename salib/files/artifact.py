"""Files and folders that are whole or absent, and know what they were made from."""

import ast
import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).parents[2]
PACKAGES = ("earth", "exhibits", "salib")
MADE_FROM = "made_from.json"
RECIPES = {"earth": 1, "curate": 1, "pretrain": 2, "embed": 2, "evaluate": 3}
"""Number of each stage, raised by hand when the same inputs give other results than before."""
SOURCE = "source"
"""Entry of a key that is recorded and shown, but never compared: the digest of the code."""
FILES = "files"
"""Entry of a stamp: bytes of each file, so that a damaged folder is not taken for a whole one."""
HOST = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node()) or "host"
logger = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` only when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{_own(path)}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` only when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _recover(path)
    part = Path(tempfile.mkdtemp(prefix=f"{_own(path)}.", suffix=".part", dir=path.parent))
    part.chmod(0o755)
    try:
        yield part
        old = part.with_suffix(".old")
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_replaceable(path: str | Path, *own: str, stamped: bool = False) -> None:
    """Refuse to replace a folder that holds anything but an earlier product of the same kind.

    Args:
        path: the folder that `atomic_dir` is to replace; need not exist yet.
        own: patterns of all that such a product holds.
        stamped: it also holds MADE_FROM, for products whose names others use as well.

    Raises:
        ValueError: if there is something else at `path`, or it is or holds the current folder.
    """
    path = Path(path)
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise ValueError(f"out must lie in a folder, got {path}, but {above} is a file")
    if path.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"out must be a folder of its own, got {path}: name a new one")
    held = (
        {item.name for item in path.iterdir()} - {".DS_Store", ".lock"} if path.is_dir() else set()
    )
    foreign = [name for name in held if not any(fnmatchcase(name, each) for each in own)]
    if foreign or (held and stamped and MADE_FROM not in held):
        raise ValueError(
            f"out must be new, empty or written by the same command, got {path} with "
            f"{min(foreign or held)!r}: all is kept; choose another name"
        )


class InUseError(OSError):
    """A folder that another run writes to."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` within the block; a killed run keeps none out.

    A folder that nobody may write to is left as it is: what is kept there can still be used.

    Raises:
        InUseError: if another run is within such a block.
    """
    new = not folder.exists()
    if not (new or os.access(folder, os.W_OK)):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InUseError(
            f"out must have one writer, got {folder}, where another run is at work: wait for its "
            "end or choose another folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink(missing_ok=True)
        lock.release()
        if new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _own(path: Path) -> str:
    """Start of the names of this process's unfinished files; another host may share the disk."""
    return f".{path.name}.{HOST}.{os.getpid()}"


def _abandoned(path: Path) -> list[Path]:
    """What killed processes of this host left beside `path`; of other hosts' none is touched."""
    found = []
    for left in sorted(path.parent.glob(f".{path.name}.{HOST}.*")):
        owner = left.name.removeprefix(f".{path.name}.{HOST}.").split(".")[0]
        if left.suffix in (".part", ".old") and owner.isdigit() and not _is_running(int(owner)):
            found.append(left)
    return found


def _recover(path: Path) -> None:
    """Clear away what killed processes left beside `path`; a folder set aside comes back."""
    for left in _abandoned(path):
        if left.suffix == ".old" and not path.exists():
            left.rename(path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def clear_parts(folder: Path, *names: str) -> None:
    """Remove the half-written files that killed processes of this host left of `names`."""
    for left in (part for name in names for part in _abandoned(folder / name)):
        left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def check_disk_space(folder: str | Path, needed: int) -> None:
    """Refuse to begin what a disk cannot hold.

    Args:
        folder: where it will stand; need not exist yet.
        needed: bytes.

    Raises:
        OSError: if fewer are free.
    """
    above = Path(folder).absolute()
    while not above.is_dir():
        above = above.parent
    free = shutil.disk_usage(above).free
    if free < needed:
        text = (
            f"disk must have {needed:,} bytes free, got {free:,} in {above}: free some, or write "
            "elsewhere; what is there is kept"
        )
        raise OSError(errno.ENOSPC, text)


def file_digest(path: str | Path) -> str:
    """Sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def module_files(module: str) -> set[Path]:
    """Source files of one of our modules and, transitively, of all of ours that it imports.

    Args:
        module: dotted name such as "salib.training.train"; a package stands for all its files.

    Raises:
        ValueError: if there is no such module in our packages.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for path in _sources(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.extend(_imports(path))
    return found


def source_digest(*modules: str) -> str:
    """Sha256 over the sources that `modules` depend on within our packages."""
    paths = sorted(set().union(*map(module_files, modules)))
    listing = [(str(path.relative_to(ROOT)), file_digest(path)) for path in paths]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def is_kept(folder: str | Path, key: dict) -> bool:
    """Whether `folder` was completed from `key`, by whatever code of the same recipe."""
    made = made_from(folder)
    paths = {Path(folder) / name: size for name, size in made.get(FILES, {}).items()}
    whole = all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
    return bool(made) and whole and not differences(made, key)


def differences(made: dict, key: dict) -> list[str]:
    """Names of the entries in which two keys differ, but for the digest of the code."""
    now = json.loads(json.dumps(key))
    compared = {*made, *now} - {SOURCE, FILES}
    return sorted(name for name in compared if made.get(name, ...) != now.get(name, ...))


def code_remark(folder: str | Path, key: dict) -> str:
    """What to tell of a kept `folder` that other code has made; empty where the code is the same.

    Code is recorded and never compared: whoever changes results raises the number in `RECIPES`.
    """
    return source_remark(made_from(folder), key)


def source_remark(made: dict, key: dict) -> str:
    """The same of two keys."""
    was, now = (each.get(SOURCE, "") for each in (made, key))
    if was == now:
        return ""
    return f" (the code has changed since, {was[:8] or 'unknown'} to {now[:8]}; the recipe has not)"


def made_from(folder: str | Path) -> dict:
    """The key that `folder` was completed from; empty if it was not."""
    path = Path(folder) / MADE_FROM
    try:
        found = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:  # emptied or cut: not known to be complete
        return {}
    return found if isinstance(found, dict) else {}


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
        arguments: plain values; `processes` changes how fast, not what, and does not count.
    """
    counted = {name: value for name, value in arguments.items() if name != "processes"}
    module = make.__module__
    recipe = RECIPES.get(module.removeprefix("salib.").split(".")[0])
    key = {"arguments": counted, "recipe": recipe, SOURCE: source_digest(module)}
    if not is_kept(folder, key):
        make(folder, **arguments)
        stamp(folder, key)
    elif remark := code_remark(folder, key):
        logger.warning("kept: %s%s", folder, remark)
    return Path(folder)


def _sources(module: str) -> list[Path]:
    base = ROOT.joinpath(*module.split("."))
    if module in ("exhibits", "salib"):  # not all their rooms, but those that are imported
        return [base / "__init__.py"]
    if _is_module(module):
        return sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    raise ValueError(f"module must be part of {', '.join(PACKAGES)}, got {module!r}")


@cache
def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if _is_module(name)]


def _is_module(name: str) -> bool:
    base = ROOT.joinpath(*name.split("."))
    ours = name.split(".")[0] in PACKAGES
    return ours and (base.is_dir() or base.with_suffix(".py").is_file())
