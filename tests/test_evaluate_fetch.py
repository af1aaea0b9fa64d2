"""GEO-Bench, EuroSAT and UC Merced from a server with faults: whole, or told in one error."""

import errno
import hashlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import socket
import stat
import subprocess
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled import read_split
from servers import Faults, RangeServer
from typer.testing import CliRunner

from exhibits.chips import SAMPLES, missing_samples
from salib.cli.app import app
from salib.evaluate.fetch import chips as fetch_chips
from salib.evaluate.fetch import geobench as fetch
from salib.evaluate.fetch import hub
from salib.evaluate.fetch.geobench import REPOSITORY, REVISION, fetch_geobench
from salib.evaluate.fetch.published_tasks import SPLITS, TASKS, check_task
from salib.evaluate.fetch.unzip import unzip
from salib.evaluate.tasks.chip_zips import CHIP_ZIPS
from salib.evaluate.tasks.task import geobench_task, real_tasks
from salib.files import download
from salib.files.artifact import InUseError, only_writer
from salib.files.download import Expected, FetchError

CLASSES, SEGMENTS = "classification_v1.0", "segmentation_v1.0"
COUNTS = (3, 2, 2)
EUROSAT = list(TASKS).index("m-eurosat")
OTHER = "0123456789" * 4
DATA_DIR = os.environ.get("SALIB_DATA_DIR")
NEXT = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RangeServer(tmp_path_factory.mktemp("served")) as running:
        running.home = Path(running._root)
        yield running


class Mirror:
    """A hub with one repository under a folder of the server; assign `files` and publish again."""

    def __init__(self, server):
        self.server, self.name = server, f"mirror-{next(NEXT)}"
        self.root, self.url = server.home / self.name, f"{server.url}/{self.name}"
        self.files = {}

    def publish(self, commit=REVISION, listed=None):
        """Serve `files`, and the listing of `listed` (by default of them)."""
        for path, content in self.files.items():
            self.write(f"datasets/{REPOSITORY}/resolve/{commit}/{path}", content)
        entries = {}
        for path, content in (listed or self.files).items():
            entry = {"type": "file", "path": path, "size": len(content)}
            if path.endswith(".zip"):
                digest = hashlib.sha256(content).hexdigest()
                lfs = {"oid": digest, "size": len(content), "pointerSize": 134}
                entry |= {"oid": hub.git_sha1(digest.encode()), "lfs": lfs}
            else:
                entry |= {"oid": hub.git_sha1(content)}
            entries.setdefault(path.split("/")[0], []).append(entry)
        for folder, found in entries.items():
            tree = [{"type": "directory", "path": f"{folder}/more", "oid": "0", "size": 0}, *found]
            self.write(f"api/datasets/{REPOSITORY}/tree/{commit}/{folder}", json.dumps(tree))

    def point(self, branch, commit):
        self.write(f"api/datasets/{REPOSITORY}/revision/{branch}", json.dumps({"sha": commit}))

    def write(self, path, content):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def asked(self, ending=""):
        """Ranges and statuses of the requests for what ends so."""
        start = f"/{self.name}/"
        return [
            (wanted, status)
            for _, path, wanted, status in self.server.requests
            if path.startswith(start) and path.endswith(ending)
        ]


def task_files(seed=EUROSAT):
    """Files of a small task; m-eurosat's zip takes several reads from a connection."""
    random = np.random.default_rng(seed)
    size = 60_000 if seed == EUROSAT else 300
    names = [f"id_{index}" for index in range(sum(COUNTS))]
    cuts = np.cumsum(COUNTS)[:2]
    splits = {s: list(n) for s, n in zip(SPLITS, np.split(names, cuts), strict=True)}
    files = {f"{name}.hdf5": random.bytes(size) for name in names}
    partition = json.dumps({split: list(map(str, part)) for split, part in splits.items()})
    return files | {"default_partition.json": partition, "task_specs.pkl": b"specs"}


def zipped(folder, files, *more):
    """A zip of files below a folder, and of more (ZipInfo or name, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in [*((f"{folder}/{n}", c) for n, c in files.items()), *more]:
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def calm(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "GEO_BENCH_DIR", "SALIB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)
    for name, task in TASKS.items():
        monkeypatch.setitem(TASKS, name, replace(task, counts=COUNTS, gigabytes=0.0))
    yield
    server.faults, server.missing = None, ()


@pytest.fixture
def mirror(server):
    mirror = Mirror(server)
    for seed, (name, task) in enumerate(TASKS.items()):
        mirror.files[f"{task.benchmark}/{name}.zip"] = zipped(name, task_files(seed))
    for bench in (CLASSES, SEGMENTS):
        ranges = {n: [0.25, 0.75] for n, task in TASKS.items() if task.benchmark == bench}
        mirror.files[f"{bench}/normalizer.json"] = json.dumps(ranges).encode()
    mirror.publish()
    return mirror


@pytest.fixture
def fetched(mirror, tmp_path):
    lines = []

    def call(*names, **options):
        given = {"base_url": mirror.url, "report": lines.append} | options
        return fetch_geobench(names or ("m-eurosat",), tmp_path / "out", **given)

    call.folder, call.lines = tmp_path / "out", lines
    call.task = call.folder / CLASSES / "m-eurosat"
    call.part = call.folder / ".fetch" / "m-eurosat.zip.part"
    return call


def below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_whole(folder, *names):
    """The folder holds these tasks as published, their normalizers, records, and nothing else."""
    found = below(folder)
    record = json.loads(found.pop("fetched.json"))
    for name in names:
        bench, seed = TASKS[name].benchmark, list(TASKS).index(name)
        for file, content in task_files(seed).items():
            got = found.pop(f"{bench}/{name}/{file}")
            assert got == (content if isinstance(content, bytes) else content.encode())
        assert json.loads(found.pop(f"{bench}/{name}/fetched.json"))["commit"] == record["commit"]
        found.pop(f"{bench}/normalizer.json", None)
    assert found == {}
    assert not list(folder.rglob("*.part"))


def test_tasks_and_normalizers_come_as_published_with_a_record_of_their_origin(fetched, mirror):
    folder = fetched("m-eurosat", "m-nz-cattle")
    assert_whole(folder, "m-eurosat", "m-nz-cattle")
    for bench in (CLASSES, SEGMENTS):
        path = f"{bench}/normalizer.json"
        assert (folder / path).read_bytes() == mirror.files[path]
    record = json.loads((fetched.task / "fetched.json").read_text())
    zip_ = mirror.files[f"{CLASSES}/m-eurosat.zip"]
    assert record["commit"] == REVISION
    assert (record["size"], record["sha256"]) == (len(zip_), hashlib.sha256(zip_).hexdigest())
    assert len(fetched.lines) == 4


def test_only_what_was_named_is_asked_for(fetched, mirror):
    fetched("m-pv4ger")
    zips = [path for _, path, *_ in mirror.server.requests if path.startswith(f"/{mirror.name}/")]
    assert [Path(path).name for path in zips] == [CLASSES, "normalizer.json", "m-pv4ger.zip"]


def test_all_stands_for_the_twelve(fetched):
    assert_whole(fetched("all"), *TASKS)
    assert len(TASKS) == 12
    assert sum(task.benchmark == CLASSES for task in TASKS.values()) == 6


def test_a_second_call_asks_for_nothing_and_a_further_task_only_for_itself(fetched, mirror):
    fetched()
    before = mirror.asked()
    fetched(base_url="http://127.0.0.1:1")
    fetched(offline=True)
    assert mirror.asked() == before
    fetched("m-eurosat", "m-so2sat")
    assert len(mirror.asked()) == len(before) + 2
    assert_whole(fetched.folder, "m-eurosat", "m-so2sat")


@pytest.mark.parametrize("seed", range(3))
def test_faults_at_a_third_of_the_requests_are_outlasted(fetched, mirror, seed):
    mirror.server.faults = Faults(seed, unavailable=0.3, truncated=0.3)
    assert_whole(fetched("m-eurosat", "m-brick-kiln"), "m-eurosat", "m-brick-kiln")
    assert len(mirror.asked()) > 4


def test_retry_after_of_a_busy_server_is_waited_for(fetched, mirror):
    seed = next(s for s in range(99) if random.Random(s).random() < 0.2)
    mirror.server.faults = Faults(seed, unavailable=0.2, retry_after=1)
    start = time.monotonic()
    assert_whole(fetched(), "m-eurosat")
    assert mirror.asked()[0] == (None, 503)
    assert time.monotonic() - start >= 1


def test_a_connection_dropped_for_good_is_one_error_and_later_only_the_rest_is_asked(
    fetched, mirror
):
    def break_zips(line):
        if ".zip" in line:
            mirror.server.faults = Faults(truncated=1.0)

    with pytest.raises(FetchError, match=r"m-eurosat\.zip must be served, but it broke off"):
        fetched(report=break_zips)
    assert not fetched.task.exists()
    kept = fetched.part.stat().st_size
    whole = len(mirror.files[f"{CLASSES}/m-eurosat.zip"])
    assert whole // 2 < kept < whole
    mirror.server.faults, before = None, len(mirror.asked("m-eurosat.zip"))
    assert_whole(fetched(), "m-eurosat")
    assert mirror.asked("m-eurosat.zip")[before:] == [(f"bytes={kept}-", 206)]


def test_bytes_kept_from_one_mirror_are_completed_by_another(fetched, mirror, server):
    content = mirror.files[f"{CLASSES}/m-eurosat.zip"]
    fetched.part.parent.mkdir(parents=True)
    fetched.part.write_bytes(content[:5000])
    other = Mirror(server)
    other.files = mirror.files
    other.publish()
    assert_whole(fetched(base_url=other.url), "m-eurosat")
    assert other.asked("m-eurosat.zip") == [("bytes=5000-", 206)]


def test_a_zip_that_came_whole_before_is_not_asked_for_again(fetched, mirror, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "unzip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetched()
    assert not fetched.task.exists()
    before = len(mirror.asked("m-eurosat.zip"))
    assert_whole(fetched(), "m-eurosat")
    assert len(mirror.asked("m-eurosat.zip")) == before == 1


def test_kept_bytes_of_another_file_are_fetched_again_from_the_start(fetched, mirror):
    fetched.part.parent.mkdir(parents=True)
    fetched.part.write_bytes(bytes(5000))
    assert_whole(fetched(), "m-eurosat")
    assert mirror.asked("m-eurosat.zip") == [("bytes=5000-", 206), (None, 200)]


def test_a_wrong_sha256_leaves_nothing_and_says_both(fetched, mirror):
    path, right = f"{CLASSES}/m-eurosat.zip", dict(mirror.files)
    wrong = bytearray(right[path])
    wrong[2000] ^= 1
    mirror.files[path] = bytes(wrong)
    mirror.publish(listed=right)
    sums = [hashlib.sha256(content).hexdigest() for content in (right[path], bytes(wrong))]
    with pytest.raises(FetchError, match=f"must have sha256 {sums[0]}, got {sums[1]}"):
        fetched()
    assert not fetched.task.exists()
    assert not fetched.part.exists()
    mirror.files = right
    mirror.publish()
    assert_whole(fetched(), "m-eurosat")


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_file_of_another_length_is_refused_before_it_is_read(fetched, mirror, kept):
    path, right = f"{CLASSES}/m-eurosat.zip", dict(mirror.files)
    mirror.files[path] = right[path] + b"more"
    mirror.publish(listed=right)
    fetched.part.parent.mkdir(parents=True)
    fetched.part.write_bytes(right[path][:kept])
    with pytest.raises(FetchError, match=r"bytes instead of .* bytes are kept"):
        fetched()
    assert fetched.part.read_bytes() == right[path][:kept]
    assert not fetched.task.exists()


@pytest.mark.parametrize("missing", ["zip", "listing", "entry"])
def test_what_the_server_does_not_have_is_one_error_that_names_it(fetched, mirror, missing):
    path = f"{CLASSES}/m-eurosat.zip"
    if missing == "entry":
        listed = {name: content for name, content in mirror.files.items() if name != path}
        mirror.publish(listed=listed)
    gone = {
        "zip": f"datasets/{REPOSITORY}/resolve/{REVISION}/{path}",
        "listing": f"api/datasets/{REPOSITORY}/tree/{REVISION}/{CLASSES}",
    }
    mirror.server.missing = [f"/{mirror.name}/{gone[missing]}"] if missing in gone else []
    said = {"entry": r"must list .*m-eurosat\.zip"}.get(missing, "HTTP 404")
    with pytest.raises(FetchError, match=said):
        fetched()
    assert not fetched.task.exists()
    mirror.server.missing = ()
    mirror.publish()
    assert_whole(fetched(), "m-eurosat")


def test_no_server_is_one_error_that_says_what_to_do(fetched):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"cannot be reached.*call again later, or give another"):
        fetched(base_url=f"http://127.0.0.1:{port}")
    assert not below(fetched.folder)


@pytest.mark.parametrize(
    "answer", ["<html>log in</html>", '{"error": "busy"}', '[{"type": "file"}]']
)
def test_an_answer_that_is_no_listing_is_told(fetched, mirror, answer):
    mirror.write(f"api/datasets/{REPOSITORY}/tree/{REVISION}/{CLASSES}", answer)
    with pytest.raises(FetchError, match=r"must (answer in JSON|be a listing)"):
        fetched()


def test_git_names_objects_alike():
    content = b'{"m-eurosat": [0.1, 0.2]}'
    command = ["git", "hash-object", "--stdin"]
    run = subprocess.run(command, input=content, capture_output=True, check=True)
    assert hub.git_sha1(content) == run.stdout.decode().strip()


def test_a_normalizer_other_than_listed_or_damaged_is_refused(fetched, mirror):
    path, right = f"{CLASSES}/normalizer.json", dict(mirror.files)
    mirror.files[path] = right[path].replace(b"0.25", b"0.26")
    mirror.publish(listed=right)
    with pytest.raises(FetchError, match="must be git object"):
        fetched()
    mirror.files = right
    mirror.publish()
    fetched()
    (fetched.folder / path).write_text('{"m-eurosat": [0.9, 0.1]}')
    with pytest.raises(FetchError, match=r"\[low, high\].*delete it to fetch it again"):
        fetched()


def with_mode(name, mode):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


MALICIOUS = {
    "slip": ("../evil", "leads elsewhere"),
    "slip inside": ("m-eurosat/../../evil", "leads elsewhere"),
    "absolute": ("/tmp/evil", "leads elsewhere"),
    "backslash": ("m-eurosat\\..\\evil", "leads elsewhere"),
    "drive": ("C:evil", "drive"),
    "link": (with_mode("m-eurosat/evil", stat.S_IFLNK | 0o777), "a link"),
    "device": (with_mode("m-eurosat/evil", stat.S_IFCHR | 0o600), "a device"),
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_a_malicious_zip_is_refused_whole_and_writes_nothing(fetched, mirror, kind):
    entry, said = MALICIOUS[kind]
    path = f"{CLASSES}/m-eurosat.zip"
    mirror.files[path] = zipped("m-eurosat", task_files(), (entry, "/etc/passwd"))
    mirror.publish()
    with pytest.raises(FetchError, match=f"safe to unpack, got .*evil.*{said}.*kept in"):
        fetched()
    assert set(below(fetched.folder)) == {
        *("fetched.json", f"{CLASSES}/normalizer.json", ".fetch/m-eurosat.zip.part")
    }
    assert not list(fetched.folder.parent.glob("evil"))


def flagged_encrypted(content):
    """The zip with the bit of encryption set in every header."""
    damaged = bytearray(content)
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = damaged.find(mark)
        while start >= 0:
            damaged[start + at] |= 1
            start = damaged.find(mark, start + 4)
    return bytes(damaged)


def bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("task/zeros", bytes(3_000_000))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "whole zip file"),
        (zipped("task", {"a": "x" * 99})[:-30], "whole zip file"),
        (zipped("task", {"a": "x" * 99}).replace(b"xxx", b"yyy"), "whole zip file"),
        (flagged_encrypted(zipped("task", {"a": "x"})), "an encrypted file"),
        (zipped("task", {"a": "x", "b": "y"}).replace(b"task/b", b"task/a"), "hold each name once"),
        (zipped("task", {"a": "x", "a/b": "y"}), "one name for two things"),
        (zipped("other", {"a": "x"}), "hold files below task/"),
        (zipped("task", {}), "hold files below task/"),
        (bomb(), r"unpack to at most .* got 3,000,000"),
    ],
    ids=["html", "cut", "crc", "encrypted", "twice", "clash", "elsewhere", "empty", "bomb"],
)
def test_a_zip_that_is_damaged_or_absurd_is_told(tmp_path, content, said):
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=said):
        unzip(tmp_path / "a.zip", tmp_path / "out", folder="task")


def test_unpacking_gives_what_zipfile_gives_and_leaves_the_rest(tmp_path):
    content = zipped("task", {"a.hdf5": "x", "deep/b": "y", "c d/é": ""}, ("__MACOSX/._a", "z"))
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    unzip(tmp_path / "a.zip", tmp_path / "out", folder="task")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "theirs")
    assert below(tmp_path / "out") == below(tmp_path / "theirs" / "task")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.pop("id_3.hdf5"), "1 without a file, the first 'id_3'"),
        (lambda files: files.pop("task_specs.pkl"), "hold task_specs.pkl"),
        (lambda files: files.pop("default_partition.json"), "default partition"),
        (lambda files: files.update({"default_partition.json": "[]"}), "default partition"),
        (
            lambda files: files.update(
                {"default_partition.json": '{"train": ["id_0"], "valid": ["id_1"], "test": []}'}
            ),
            r"must have \(3, 2, 2\) in .* got \(1, 1, 0\)",
        ),
    ],
    ids=["sample", "specs", "partition", "list", "counts"],
)
def test_a_task_that_lacks_what_its_partition_names_does_not_appear(fetched, mirror, change, said):
    files = task_files()
    change(files)
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = zipped("m-eurosat", files)
    mirror.publish()
    with pytest.raises(FetchError, match=said):
        fetched()
    assert [path.name for path in (fetched.folder / CLASSES).iterdir()] == ["normalizer.json"]


def test_files_that_no_partition_names_are_no_fault(tmp_path):
    for name, content in (task_files() | {"extra.hdf5": b"", "label_map.json": "{}"}).items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    check_task(tmp_path, None)
    with pytest.raises(ValueError, match=r"\(9, 2, 2\)"):
        check_task(tmp_path, (9, 2, 2))


def test_room_for_the_largest_zip_beside_all_that_is_unpacked_is_asked_first(
    fetched, mirror, monkeypatch
):
    names, gigabytes = ("m-eurosat", "m-so2sat"), (0.001, 0.002)
    for name, size in zip(names, gigabytes, strict=True):
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], gigabytes=size))
    needed = 3_000_000 + len(mirror.files[f"{CLASSES}/m-so2sat.zip"])
    usage = shutil.disk_usage(fetched.folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=f"must have {needed:,} bytes free, got {needed - 1:,}"):
        fetched(*names)
    assert mirror.asked(".zip") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert_whole(fetched(*names), *names)


@contextmanager
def files_of_at_most(size):
    """Writing beyond `size` bytes of a file fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_downloading_keeps_what_came(fetched, mirror):
    whole = len(mirror.files[f"{CLASSES}/m-eurosat.zip"])
    with (
        files_of_at_most(whole - 1000),
        pytest.raises(FetchError, match=r"it cannot be written.* bytes are kept in"),
    ):
        fetched()
    assert fetched.part.stat().st_size == whole - 1000
    assert not fetched.task.exists()
    assert_whole(fetched(), "m-eurosat")
    assert mirror.asked("m-eurosat.zip")[-1] == (f"bytes={whole - 1000}-", 206)


def test_a_disk_that_fills_while_unpacking_keeps_the_zip(fetched, mirror, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(FetchError, match=r"No space left.*the zip is kept in"):
            fetched()
    assert [path.name for path in (fetched.folder / CLASSES).iterdir()] == ["normalizer.json"]
    assert_whole(fetched(), "m-eurosat")
    assert len(mirror.asked("m-eurosat.zip")) == 1


def test_a_branch_is_resolved_once_and_commits_are_not_mixed(fetched, mirror):
    mirror.publish(OTHER)
    mirror.point("main", OTHER)
    folder = fetched(revision="main")
    assert json.loads((folder / "fetched.json").read_text())["commit"] == OTHER
    mirror.point("main", "f" * 40)
    for same in ("main", OTHER, OTHER[:7]):
        fetched("m-eurosat", "m-so2sat", revision=same)
    assert_whole(folder, "m-eurosat", "m-so2sat")
    assert len(mirror.asked("revision/main")) == 1
    before = mirror.asked()
    with pytest.raises(FetchError, match=f"revision must be {OTHER}, .* got {REVISION}"):
        fetched("m-pv4ger")
    (folder / "fetched.json").unlink()
    with pytest.raises(FetchError, match=f"revision must be {OTHER}, .*m-eurosat is of"):
        fetched("m-pv4ger")
    assert mirror.asked() == before


def test_a_revision_that_is_not_there_leaves_the_folder_free_for_another(fetched):
    with pytest.raises(FetchError, match="HTTP 404"):
        fetched(revision="f" * 40)
    with pytest.raises(FetchError, match="HTTP 404"):
        fetched(revision="no-branch")
    assert_whole(fetched(), "m-eurosat")


def test_a_task_from_elsewhere_is_left_as_it_is(fetched, mirror):
    fetched.task.mkdir(parents=True)
    (fetched.task / "mine").write_text("mine")
    with pytest.raises(FetchError, match="got one from elsewhere: leave it as it is"):
        fetched()
    assert below(fetched.folder) == {f"{CLASSES}/m-eurosat/mine": b"mine"}
    assert mirror.asked() == []


def test_a_fetched_task_that_lost_a_sample_is_told(fetched):
    fetched()
    (fetched.task / "id_0.hdf5").unlink()
    with pytest.raises(FetchError, match=r"the first 'id_0'; delete .*m-eurosat to fetch it again"):
        fetched()


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_what_is_missing_is_told_with_the_command(fetched, mirror, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = f"`salib fetch geobench m-eurosat --out {fetched.folder}`"
    with pytest.raises(FetchError, match=rf"{CLASSES}/m-eurosat\.zip to go without.*{command}"):
        fetched(offline=by == "argument")
    assert not fetched.folder.exists()
    assert mirror.asked() == []


def test_the_hubs_variables_name_the_mirror_and_keep_the_token_to_it(fetched, mirror, monkeypatch):
    assert hub.endpoint() == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert hub.headers() == {"Authorization": "Bearer secret"}
    assert hub.headers("http://127.0.0.1:1") == {}
    assert_whole(fetched(base_url=None), "m-eurosat")


def test_two_fetches_into_one_folder_are_refused(fetched):
    fetched.folder.mkdir()
    with only_writer(fetched.folder), pytest.raises(InUseError, match="must have one writer"):
        fetched()


@pytest.mark.parametrize(("names", "got"), [((), "none"), (("m-euronet",), "m-euronet")])
def test_unknown_tasks_and_none_are_refused(tmp_path, names, got):
    with pytest.raises(ValueError, match=f"m-so2sat, m-NeonTree, .* or all, got .*{got}"):
        fetch_geobench(names, tmp_path)


@pytest.mark.real
@pytest.mark.skipif(missing_samples(DATA_DIR) is not None, reason="no real samples")
def test_real_samples_come_through_as_they_are(fetched, mirror, monkeypatch):
    real_samples = Path(DATA_DIR, SAMPLES)
    files = below(real_samples)
    monkeypatch.setitem(TASKS, "m-eurosat", replace(TASKS["m-eurosat"], counts=(5, 5, 5)))
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = zipped("m-eurosat", files)
    mirror.publish()
    fetched()
    theirs, ours = (
        read_split(geobench_task(folder, procedural=False), "test")
        for folder in (real_samples, fetched.task)
    )
    assert (theirs[1] == ours[1]).all()
    assert all((a == b).all() for a, b in zip(theirs[0], ours[0], strict=True))


def chips_zip(per_class=3, classes=2):
    image = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()
    chips = {f"c{c}/c{c}_{n}.png": image for c in range(classes) for n in range(per_class)}
    chips["c0/._c0_0.png"] = b"no image"
    return zipped("EuroSAT_RGB", chips | {"readme.txt": np.random.default_rng(0).bytes(300_000)})


@pytest.fixture
def chips(server, tmp_path, monkeypatch):
    content, mirror = chips_zip(), Mirror(server)

    def call(source="eurosat", **options):
        given = {"base_url": mirror.url, "report": lambda _: None} | options
        return fetch_chips.fetch_chips(source, tmp_path / "data", **given)

    for name in fetch_chips.PUBLISHED:
        expected = Expected(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        stated = {"expected": expected, "classes": 2, "chips": 6}
        changed = replace(fetch_chips.PUBLISHED[name], **stated)
        monkeypatch.setitem(fetch_chips.PUBLISHED, name, changed)
        mirror.write(CHIP_ZIPS[name].file, content)
    call.folder, call.content, call.mirror = tmp_path / "data", content, mirror
    return call


def test_chips_come_as_a_zip_that_evaluation_reads_and_only_once(chips):
    target = chips()
    assert target.read_bytes() == chips.content
    (task,) = real_tasks(target.parent)
    assert (task.name, task.class_names) == ("eurosat", ("c0", "c1"))
    check = ["sha256sum", "--strict", "-c", "sha256sums.txt"]
    assert subprocess.run(check, cwd=target.parent, capture_output=True).returncode == 0
    assert set(below(target.parent)) == {"EuroSAT_RGB.zip", "sha256sums.txt"}
    before = chips.mirror.asked()
    chips(base_url="http://127.0.0.1:1")
    chips(offline=True)
    assert chips.mirror.asked() == before


def test_uc_merced_comes_from_the_hub_or_its_mirror(chips, monkeypatch):
    folder = fetch_chips.PUBLISHED["ucmerced"].folder
    chips.mirror.write(f"{folder}/UCMerced_LandUse.zip", chips.content)
    monkeypatch.setenv("HF_ENDPOINT", chips.mirror.url)
    assert chips("ucmerced", base_url=None).name == CHIP_ZIPS["ucmerced"].file
    assert chips.mirror.asked("UCMerced_LandUse.zip") == [(None, 200)]


def test_chips_broken_off_go_on_where_they_ended(chips):
    chips.mirror.server.faults = Faults(truncated=1.0)
    with pytest.raises(FetchError, match="broke off"):
        chips()
    kept = (chips.folder / "EuroSAT_RGB.zip.part").stat().st_size
    chips.mirror.server.faults = None
    assert chips().read_bytes() == chips.content
    assert chips.mirror.asked()[-1] == (f"bytes={kept}-", 206)


def test_chips_of_another_make_are_kept_and_told(chips):
    chips.folder.mkdir()
    (chips.folder / "EuroSAT_RGB.zip").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"must have sha256 .*, got .* move it away"):
        chips()
    assert below(chips.folder) == {"EuroSAT_RGB.zip": b"mine"}
    assert chips.mirror.asked() == []


@pytest.mark.parametrize("stated", [{"classes": 3}, {"chips": 7}])
def test_chips_without_the_published_classes_are_refused(chips, monkeypatch, stated):
    changed = replace(fetch_chips.PUBLISHED["eurosat"], **stated)
    monkeypatch.setitem(fetch_chips.PUBLISHED, "eurosat", changed)
    with pytest.raises(FetchError, match=r"chips in \d classes, got 6 in 2"):
        chips()
    assert not (chips.folder / "EuroSAT_RGB.zip").exists()


@pytest.mark.parametrize("source", ["eurosat", "ucmerced"])
def test_missing_chips_offline_are_told_with_the_command(chips, monkeypatch, source):
    with pytest.raises(FetchError, match=f"`salib fetch {source} --out {chips.folder}` with one"):
        chips(source, offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if source == "ucmerced":
        with pytest.raises(FetchError, match="to go without a network"):
            chips(source, base_url=None)
    assert not chips.folder.exists()


def test_the_published_zips_are_those_that_evaluation_names_by_a_sha256():
    assert fetch_chips.PUBLISHED.keys() == CHIP_ZIPS.keys()
    for published in fetch_chips.PUBLISHED.values():
        assert len(bytes.fromhex(published.expected.sha256)) == 32


def test_the_command_fetches_into_the_folder_the_environment_names(
    mirror, chips, tmp_path, monkeypatch
):
    for name in ("GEO_BENCH_DIR", "SALIB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    words = ["fetch", "geobench", "m-eurosat", "m-pv4ger", "--base-url", mirror.url]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert_whole(tmp_path / "GEO_BENCH_DIR", "m-eurosat", "m-pv4ger")
    words = ["fetch", "eurosat", "--base-url", chips.mirror.url]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "SALIB_DATA_DIR" / "EuroSAT_RGB.zip").read_bytes() == chips.content
