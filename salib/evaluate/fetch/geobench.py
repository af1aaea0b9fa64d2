"""GEO-Bench by task: fetched resumably from the hub, checked, unpacked whole or not at all."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from salib.evaluate.fetch import hub
from salib.evaluate.fetch.published_tasks import TASKS, check_task
from salib.evaluate.fetch.unzip import unzip
from salib.files.artifact import atomic_dir, atomic_file, check_disk_space, only_writer
from salib.files.download import (
    Expected,
    FetchError,
    Session,
    discard,
    download,
    open_session,
    read,
    size_of,
)

REPOSITORY = "recursix/geo-bench-1.0"
REVISION = "1e5754337032f097396db62cc15a5ff88f4618e8"
"""The sixth commit: it added the normalizer of segmentation and took a thirteenth task out. Known
from saved pages of the hub, not from the hub; there may be later commits."""
RECORD = "fetched.json"


def fetch_geobench(
    names: Sequence[str],
    out: str | Path,
    *,
    revision: str = REVISION,
    base_url: str | None = None,
    offline: bool = False,
    report: Callable[[str], object] = tqdm.write,
) -> Path:
    """Fetch GEO-Bench tasks, and the normalizers of their benchmarks, into a GEO_BENCH_DIR.

    A task's zip must have the size and sha256 that the repository lists. Its folder appears once
    every sample that its default partition names is there; then it is not asked for again. What
    came before an interruption is kept in `.fetch/` and taken up again.

    Args:
        names: of tasks, or "all".
        revision: commit, branch or tag of the repository; what it meant at the first call is kept
            in `fetched.json`, and a folder holds one commit only.
        base_url: a mirror with the hub's addresses; HF_ENDPOINT is another way to name one.
        offline: ask no server, as with HF_HUB_OFFLINE.

    Raises:
        ValueError: if a name is unknown or none is given.
        OSError: if there is no room for the zips and what they unpack to, or another run writes to
            `out`.
        FetchError: if the server fails for good, a zip or task is not what it must be, is missing
            offline, or `out` holds another revision or a task from elsewhere.
    """
    names, out = _chosen(names), Path(out)
    _known_commit(out, revision)
    if not (lacking := _lacking(out, names)):
        return out
    if offline or hub.is_offline():
        command = f"salib fetch geobench {' '.join(names)} --out {out}"
        raise FetchError(
            f"{out} must hold {', '.join(lacking)} to go without a network: call `{command}` "
            "with one"
        )
    with only_writer(out), open_session(hub.headers(base_url)) as session:
        commit = _known_commit(out, revision) or revision
        if not hub.is_commit(commit):
            commit = hub.commit_of(session, hub.endpoint(base_url), REPOSITORY, revision)
        source = _Source(session, hub.endpoint(base_url), commit, revision)
        _bring(source, _lacking(out, names), out, report)
    return out


@dataclass(frozen=True)
class _Source:
    session: Session
    server: str
    commit: str
    revision: str

    def url(self, path: str) -> str:
        return hub.file_url(self.server, REPOSITORY, self.commit, path)

    def listed(self, paths: list[str]) -> dict[str, hub.HubFile]:
        files: dict[str, hub.HubFile] = {}
        for folder in sorted({path.split("/")[0] for path in paths}):
            files |= hub.list_folder(self.session, self.server, REPOSITORY, self.commit, folder)
        for path in paths:
            if path not in files or (path.endswith(".zip") and not files[path].sha256):
                raise FetchError(
                    f"{self.server} must list {path} of {REPOSITORY} at {self.commit} with its "
                    "sha256, got none: give another revision or base_url"
                )
        return files


def _bring(source: _Source, lacking: list[str], out: Path, report: Callable[[str], object]) -> None:
    listed = source.listed(lacking)
    _check_room(out, lacking, listed)
    if not _record(out):
        _note(out, revision=source.revision, commit=source.commit)
    for path in lacking:
        report(f"{path}: {source.url(path)}, {listed[path].size:,} bytes")
        bring = _bring_task if path.endswith(".zip") else _bring_normalizer
        bring(source, path, listed[path], out)
    with contextlib.suppress(OSError):  # none was needed, or a part of another task is kept
        (out / ".fetch").rmdir()


def _chosen(names: Sequence[str]) -> list[str]:
    unknown = sorted(set(names) - {"all", *TASKS})
    if unknown or not names:
        raise ValueError(f"tasks must be of {', '.join(TASKS)}, or all, got {unknown or 'none'}")
    return [name for name in TASKS if name in names or "all" in names]


def _record(folder: Path) -> dict:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text())
        return {name: str(known[name]) for name in ("repository", "revision", "commit")}
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{path} must be a record of this command, got {error!r}") from error


def _known_commit(out: Path, revision: str) -> str | None:
    """The commit that `out` and its tasks are of, if any; it must be the one that is asked for."""
    commit = None
    for folder in (out, *sorted(out.glob("*/m-*"))):
        known = _record(folder)
        if known and revision != known["revision"] and not known["commit"].startswith(revision):
            raise FetchError(
                f"revision must be {known['commit']}, which {folder} is of, got {revision}: give "
                "that one, or choose another folder"
            )
        commit = commit or known.get("commit")
    return commit


def _note(folder: Path, **facts: object) -> None:
    with atomic_file(folder / RECORD) as part:
        part.write_text(json.dumps({"repository": REPOSITORY} | facts, indent=1))


def _lacking(out: Path, names: list[str]) -> list[str]:
    """Paths in the repository of what must still be fetched, normalizers first."""
    benchmarks = sorted({TASKS[name].benchmark for name in names})
    paths = [f"{it}/normalizer.json" for it in benchmarks if _lacks_normalizer(out / it)]
    return paths + [f"{TASKS[name].benchmark}/{name}.zip" for name in names if _lacks(out, name)]


def _lacks(out: Path, name: str) -> bool:
    folder = out / TASKS[name].benchmark / name
    if not folder.exists():
        return True
    if not _record(folder):
        raise FetchError(
            f"{folder} must be fetched by this command to be added to, got one from elsewhere: "
            "leave it as it is, or choose another folder"
        )
    try:
        check_task(folder, TASKS[name].counts)
    except ValueError as error:
        raise FetchError(f"{error}; delete {folder} to fetch it again") from error
    return False


def _lacks_normalizer(benchmark: Path) -> bool:
    path = benchmark / "normalizer.json"
    if not path.exists():
        return True
    _check_normalizer(path.read_bytes(), str(path), "delete it to fetch it again")
    return False


def _check_normalizer(content: bytes, where: str, advice: str) -> None:
    try:
        ranges = json.loads(content)
        good = bool(ranges) and all(float(low) < float(high) for low, high in ranges.values())
    except (AttributeError, TypeError, ValueError):
        good = False
    if not good:
        got = content[:40]
        raise FetchError(f"{where} must map tasks to their [low, high], got {got!r}; {advice}")


def _check_room(out: Path, lacking: list[str], listed: dict[str, hub.HubFile]) -> None:
    """One zip at a time stands beside what is unpacked."""
    needed = unpacked = 0
    for path in lacking:
        kept = size_of(_part(out, path))
        size = int(TASKS[Path(path).stem].gigabytes * 1e9) if path.endswith(".zip") else 0
        needed = max(needed, unpacked + listed[path].size - kept + size)
        unpacked += size
    check_disk_space(out, needed)


def _part(out: Path, path: str) -> Path:
    return out / ".fetch" / f"{Path(path).name}.part"


def _bring_normalizer(source: _Source, path: str, file: hub.HubFile, out: Path) -> None:
    url = source.url(path)
    content = read(source.session, url)
    found, advice = hub.git_sha1(content), "nothing is kept; call again, or give another base_url"
    if found != file.git_sha1:
        raise FetchError(f"{url} must be git object {file.git_sha1}, got {found}: {advice}")
    _check_normalizer(content, url, advice)
    with atomic_file(out / path) as part:
        part.write_bytes(content)


def _bring_task(source: _Source, path: str, file: hub.HubFile, out: Path) -> None:
    part, folder = _part(out, path), (out / path).with_suffix("")
    part.parent.mkdir(exist_ok=True)
    assert file.sha256 is not None
    expected = Expected(size=file.size, sha256=file.sha256)
    download(source.session, source.url(path), part, expected=expected)
    try:
        with atomic_dir(folder) as made:
            unzip(part, made, folder=folder.name)
            check_task(made, TASKS[folder.name].counts)
            origin = {"file": path, "size": file.size, "sha256": file.sha256}
            _note(made, revision=source.revision, commit=source.commit, **origin)
    except (ValueError, OSError) as error:
        why = f"{folder} must be made whole, but {error}; the zip is kept in {part}"
        raise FetchError(why) from error
    discard(part)
