"""Labelled tasks as published: GEO-Bench from the Hugging Face hub, EuroSAT, UC Merced."""

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

from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.evaluate.tasks.inputs import GEOBENCH_TASKS
from salib.files.artifact import check_disk_space, file_digest, only_writer
from salib.files.disk import not_a_link
from salib.files.download import ADVICE, WORK, FetchError, RemoteFile, fetch_files, needs_network

REPOSITORY = "recursix/geo-bench-1.0"
REVISION = "1e5754337032f097396db62cc15a5ff88f4618e8"
"""The sixth commit: it added the normalizer of segmentation and took a thirteenth task out. Known
from saved pages of the hub, not from the hub; there may be later commits."""
SEGMENTATION = ("NeonTree", "SA-crop-type", "cashew-plant", "chesapeake", "nz-cattle", "pv4ger-seg")
BENCHMARKS = dict.fromkeys(GEOBENCH_TASKS, "classification_v1.0")
BENCHMARKS |= {f"m-{name}": "segmentation_v1.0" for name in SEGMENTATION}
"""The folder of each task."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def fetch_chips(
    source: str, out: str | Path, *, base_url: str | None = None, offline: bool = False
) -> Path:
    """Fetch the zip of EuroSAT or UC Merced into a folder for `salib evaluate --real`.

    It takes its name once it has the published sha256, and is then not downloaded again.

    Args:
        source: "eurosat" or "ucmerced".
        out: the folder.
        base_url: a mirror that holds a file of the same name.
        offline: ask no server.

    Returns:
        Path of the zip.

    Raises:
        ValueError: if the source is unknown.
        OSError: as `fetch_files`.
    """
    if source not in CHIP_ZIPS:
        raise ValueError(f"source must be one of {', '.join(CHIP_ZIPS)}, got {source!r}")
    layout, command = CHIP_ZIPS[source], f"salib fetch {source} --out {out}"
    target = Path(out, layout.file)
    file = RemoteFile(url=layout.url, size=layout.size, sha256=layout.sha256)
    fetch_files({target: file}, command, base_url=base_url, offline=offline)
    return target


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
        revision: commit, branch or tag of the repository.
        base_url: a mirror of the hub, as HF_ENDPOINT names one; HF_HUB_DISABLE_XET=1 keeps all of a
            download to it.
        offline: ask no server, as with HF_HUB_OFFLINE.

    Raises:
        ValueError: if a name is unknown or none is given.
        OSError: if there is too little disk space, or another run writes to `out`.
        FetchError: if the server fails, a zip is damaged or not the listed one, or a file is
            missing offline.
    """
    out, unknown = Path(out), sorted(set(names) - {"all", *BENCHMARKS})
    if unknown or not names:
        raise ValueError(
            f"tasks must be of {', '.join(BENCHMARKS)}, or all, got {unknown or 'none'}"
        )
    if not (missing := _missing(out, names)):
        return out
    if offline or is_offline_mode():
        command = f"salib fetch geobench {' '.join(names)} --out {out}"
        raise needs_network(f"{', '.join(missing)} in {out}", command)
    with only_writer(out):
        hub = HfApi(endpoint=base_url, token=False if base_url else None)
        _download(hub, revision, _missing(out, names), out)
        shutil.rmtree(out / WORK, ignore_errors=True)
    return out


def _missing(out: Path, names: Sequence[str]) -> list[str]:
    """Paths in the repository of what must still be fetched, normalizers first."""
    chosen = BENCHMARKS if "all" in names else {name: BENCHMARKS[name] for name in names}
    normalizers = [f"{benchmark}/normalizer.json" for benchmark in dict.fromkeys(chosen.values())]
    zips = [f"{benchmark}/{name}.zip" for name, benchmark in chosen.items()]
    return [path for path in normalizers + zips if not (out / path.removesuffix(".zip")).exists()]


def _download(hub: HfApi, revision: str, paths: list[str], out: Path) -> None:
    with _hub_errors_in_a_line(f"the list of files at {revision}", hub.endpoint):
        listed = hub.dataset_info(REPOSITORY, revision=revision, files_metadata=True)
    files = {file.rfilename: file for file in listed.siblings or ()}
    if absent := [path for path in paths if path not in files]:
        raise FetchError(
            f"{hub.endpoint} has no {absent[0]} in {REPOSITORY} at {listed.sha}: give another "
            "--revision or --base-url"
        )
    check_disk_space(out, sum(files[path].size or 0 for path in paths))
    where = {"repo_type": "dataset", "revision": listed.sha, "local_dir": not_a_link(out / WORK)}
    for path in paths:
        with _hub_errors_in_a_line(path, hub.endpoint):
            file = Path(hub.hf_hub_download(REPOSITORY, path, **where))
        lfs, target = files[path].lfs, out / path.removesuffix(".zip")
        target.parent.mkdir(exist_ok=True)
        if path.endswith(".zip"):
            _unpack(file, lfs.sha256 if lfs else None, target)
        else:
            file.replace(target)


def _unpack(archive: Path, sha256: str | None, target: Path) -> None:
    """Unpack the folder of a task beside its zip, and move it to `target` when it is whole."""
    if (digest := file_digest(archive)) != sha256:
        archive.unlink()
        raise FetchError(f"{archive.name} has sha256 {digest}, not {sha256}: deleted; {ADVICE}")
    folder = archive.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(archive) as opened:  # writes nothing outside of the folder
            check_disk_space(archive.parent, sum(entry.file_size for entry in opened.infolist()))
            bar = tqdm(opened.namelist(), desc=folder.name, unit="file", disable=None)
            opened.extractall(archive.parent, bar)
        folder.replace(target)
    except DAMAGED as error:
        raise FetchError(f"Could not unpack {archive}, which is kept: {error}") from error
    archive.unlink()


@contextmanager
def _hub_errors_in_a_line(what: str, server: str) -> Iterator[None]:
    """Turn an error of the hub's package into one line."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        cause = error.__cause__ or error  # more precise than that a file is missing
        status = getattr(getattr(cause, "response", None), "status_code", None)
        reason = f"HTTP {status}" if status else str(cause).partition("\n")[0]
        raise FetchError(f"Could not fetch {what} from {server}: {reason}; {ADVICE}") from error
