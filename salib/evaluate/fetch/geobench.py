"""GEO-Bench by task: fetched from the Hugging Face hub, checked, unpacked whole or not at all."""

import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.constants import is_offline_mode
from tqdm import tqdm

from salib.evaluate.fetch.published_tasks import BENCHMARKS
from salib.files.artifact import atomic_file, check_disk_space, file_digest, only_writer
from salib.files.download import ADVICE, WORK, FetchError, needs_network

REPOSITORY = "recursix/geo-bench-1.0"
REVISION = "1e5754337032f097396db62cc15a5ff88f4618e8"
"""The sixth commit: it added the normalizer of segmentation and took a thirteenth task out. Known
from saved pages of the hub, not from the hub; there may be later commits."""
RECORD = "fetched.json"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def fetch_geobench(
    names: Sequence[str],
    out: str | Path,
    *,
    revision: str = REVISION,
    base_url: str | None = None,
    offline: bool = False,
) -> Path:
    """Fetch GEO-Bench tasks, and the normalizers of their benchmarks, into a GEO_BENCH_DIR.

    A task's zip must have the sha256 that the repository lists. Its folder appears when all of it
    is unpacked; a folder that is there already is left as it is.

    Args:
        names: of tasks, or "all".
        out: the folder.
        revision: commit, branch or tag of the repository; a folder holds one commit only, which
            stands in its `fetched.json`.
        base_url: a mirror of the hub, as HF_ENDPOINT names one; HF_HUB_DISABLE_XET=1 keeps all of a
            download to it.
        offline: ask no server, as with HF_HUB_OFFLINE.

    Raises:
        ValueError: if a name is unknown or none is given.
        OSError: if there is too little disk space, or another run writes to `out`.
        FetchError: if the server fails, a zip is damaged or not the listed one, a file is missing
            offline, or `out` holds another commit.
    """
    out, unknown = Path(out), sorted(set(names) - {"all", *BENCHMARKS})
    if unknown or not names:
        raise ValueError(
            f"tasks must be of {', '.join(BENCHMARKS)}, or all, got {unknown or 'none'}"
        )
    if re.fullmatch("[0-9a-f]{40}", revision):
        _check_commit(out, revision)
    if not (missing := _missing(out, names)):
        return out
    if offline or is_offline_mode():
        command = f"salib fetch geobench {' '.join(names)} --out {out}"
        raise needs_network(f"{', '.join(missing)} in {out}", command)
    with only_writer(out):
        hub = HfApi(endpoint=base_url, token=False if base_url else None)
        _bring(hub, revision, _missing(out, names), out)
        shutil.rmtree(out / WORK, ignore_errors=True)
    return out


def _missing(out: Path, names: Sequence[str]) -> list[str]:
    """Paths in the repository of what must still be fetched, normalizers first."""
    chosen = BENCHMARKS if "all" in names else {name: BENCHMARKS[name] for name in names}
    normalizers = [f"{benchmark}/normalizer.json" for benchmark in dict.fromkeys(chosen.values())]
    zips = [f"{benchmark}/{name}.zip" for name, benchmark in chosen.items()]
    return [path for path in normalizers + zips if not (out / path.removesuffix(".zip")).exists()]


def _check_commit(out: Path, commit: str) -> None:
    record = out / RECORD
    fetched = json.loads(record.read_text())["commit"] if record.is_file() else commit
    if commit != fetched:
        raise FetchError(
            f"{out} holds commit {fetched}, but --revision means {commit}: give --revision "
            f"{fetched}, or choose another folder"
        )


def _bring(hub: HfApi, revision: str, paths: list[str], out: Path) -> None:
    with _telling(f"the list of files at {revision}", hub.endpoint):
        listed = hub.dataset_info(REPOSITORY, revision=revision, files_metadata=True)
    commit, files = str(listed.sha), {file.rfilename: file for file in listed.siblings or ()}
    _check_commit(out, commit)
    if absent := [path for path in paths if path not in files]:
        raise FetchError(
            f"{hub.endpoint} has no {absent[0]} in {REPOSITORY} at {commit}: give another "
            "--revision or --base-url"
        )
    check_disk_space(out, sum(files[path].size or 0 for path in paths))
    where = {"repo_type": "dataset", "revision": commit, "local_dir": out / WORK}
    for path in paths:
        with _telling(path, hub.endpoint):
            file = Path(hub.hf_hub_download(REPOSITORY, path, **where))
        lfs = files[path].lfs
        (out / path).parent.mkdir(exist_ok=True)
        if path.endswith(".zip"):
            _unpack(file, lfs.sha256 if lfs else None, (out / path).with_suffix(""))
        else:
            file.replace(out / path)
        with atomic_file(out / RECORD) as part:
            part.write_text(json.dumps({"repository": REPOSITORY, "commit": commit}, indent=1))


def _unpack(archive: Path, sha256: str | None, target: Path) -> None:
    """Unpack the folder of a task beside its zip, and move it to `target` when it is whole."""
    if (digest := file_digest(archive)) != sha256:
        archive.unlink()
        raise FetchError(f"{archive.name} has sha256 {digest}, not {sha256}: deleted; {ADVICE}")
    folder = archive.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if outside := [it for it in names if it.startswith("/") or ".." in it.split("/")]:
                raise ValueError(f"{outside[0]!r} in it points outside the folder")
            check_disk_space(archive.parent, sum(entry.file_size for entry in opened.infolist()))
            bar = tqdm(names, desc=folder.name, unit="file", disable=None)
            opened.extractall(archive.parent, bar)
        folder.replace(target)
    except (*DAMAGED, ValueError, OSError) as error:
        raise FetchError(f"Could not unpack {archive}, which is kept: {error}") from error
    archive.unlink()


@contextmanager
def _telling(what: str, server: str) -> Iterator[None]:
    """Turn an error of the hub's package into one line."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        cause = error.__cause__ or error  # that a file is not on disk says less
        status = getattr(getattr(cause, "response", None), "status_code", None)
        reason = f"HTTP {status}" if status else str(cause).partition("\n")[0]
        raise FetchError(f"Could not fetch {what} from {server}: {reason}; {ADVICE}") from error
