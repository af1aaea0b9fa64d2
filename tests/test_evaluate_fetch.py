"""GEO-Bench, EuroSAT and UC Merced from a server with faults: whole, or told in one error."""

import errno
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import files_of_at_most
from huggingface_hub import HfApi, constants
from servers import Faults, RangeServer
from typer.testing import CliRunner

from exhibits.chips import SAMPLES, missing_samples
from salib.cli.app import app
from salib.evaluate import fetch
from salib.evaluate.fetch import (
    BENCHMARKS,
    REPOSITORY,
    REVISION,
    fetch_chips,
    fetch_geobench,
)
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.evaluate.tasks.task import geobench_task, iter_split, real_tasks
from salib.files.artifact import InUseError, only_writer
from salib.files.download import FetchError

CLASSES, SEGMENTS = "classification_v1.0", "segmentation_v1.0"
EUROSAT = list(BENCHMARKS).index("m-eurosat")
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

    def publish(self, commit=REVISION, revision=None, listed=None):
        """Serve `files`, and the listing of `listed` (by default of them)."""
        for path, content in self.files.items():
            where = f"datasets/{REPOSITORY}/resolve/{commit}/{path}"
            self.write(where, content)
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
            self.write(f"{where}.headers", json.dumps(headers))
        siblings = []
        for path, content in (listed or self.files).items():
            entry = {"rfilename": path, "size": len(content)}
            if path.endswith(".zip"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        answer = json.dumps({"id": REPOSITORY, "sha": commit, "siblings": siblings})
        self.write(f"api/datasets/{REPOSITORY}/revision/{revision or commit}", answer)

    def write(self, path, content):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def asked(self, ending=""):
        """Ranges and statuses of the GETs for what ends so."""
        start = f"/{self.name}/"
        return [
            (wanted, status)
            for method, path, wanted, status in self.server.requests
            if method == "GET" and path.startswith(start) and path.endswith(ending)
        ]


def task_files(seed=EUROSAT):
    """Files of a small task; m-eurosat's zip takes several reads from a connection."""
    random = np.random.default_rng(seed)
    size = 60_000 if seed == EUROSAT else 300
    files = {f"id_{index}.hdf5": random.bytes(size) for index in range(7)}
    return files | {"default_partition.json": b"{}", "task_specs.pkl": b"specs"}


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
    for name in ("HF_TOKEN", "GEO_BENCH_DIR", "SALIB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield
    server.faults, server.missing = None, ()


@pytest.fixture
def mirror(server):
    mirror = Mirror(server)
    for seed, (name, benchmark) in enumerate(BENCHMARKS.items()):
        mirror.files[f"{benchmark}/{name}.zip"] = zipped(name, task_files(seed))
    for bench in (CLASSES, SEGMENTS):
        ranges = {n: [0.25, 0.75] for n, benchmark in BENCHMARKS.items() if benchmark == bench}
        mirror.files[f"{bench}/normalizer.json"] = json.dumps(ranges).encode()
    mirror.publish()
    return mirror


@pytest.fixture
def fetched(mirror, tmp_path):
    def call(*names, **options):
        given = {"base_url": mirror.url} | options
        return fetch_geobench(names or ("m-eurosat",), tmp_path / "out", **given)

    call.folder = tmp_path / "out"
    call.task = call.folder / CLASSES / "m-eurosat"
    call.zip = call.folder / ".fetch" / CLASSES / "m-eurosat.zip"
    return call


def below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_whole(folder, *names):
    """The folder holds these tasks as published, their normalizers, and nothing else."""
    files = below(folder)
    for name in names:
        bench, seed = BENCHMARKS[name], list(BENCHMARKS).index(name)
        for file, content in task_files(seed).items():
            assert files.pop(f"{bench}/{name}/{file}") == content
        files.pop(f"{bench}/normalizer.json", None)
    assert files == {}


def test_tasks_and_normalizers_come_as_published(fetched, mirror):
    folder = fetched("m-eurosat", "m-nz-cattle")
    assert_whole(folder, "m-eurosat", "m-nz-cattle")
    for bench in (CLASSES, SEGMENTS):
        path = f"{bench}/normalizer.json"
        assert (folder / path).read_bytes() == mirror.files[path]


def test_only_what_was_named_is_asked_for(fetched, mirror):
    fetched("m-pv4ger")
    start = f"/{mirror.name}/"
    paths = [path for method, path, *_ in mirror.server.requests if method == "GET"]
    paths = [path for path in paths if path.startswith(start)]
    assert [Path(path).name for path in paths] == [REVISION, "normalizer.json", "m-pv4ger.zip"]


def test_all_stands_for_the_twelve(fetched):
    assert_whole(fetched("all"), *BENCHMARKS)
    assert len(BENCHMARKS) == 12
    assert list(BENCHMARKS.values()).count(CLASSES) == 6


def test_a_second_call_asks_for_nothing_and_a_further_task_only_for_itself(fetched, mirror):
    fetched()
    before = mirror.asked()
    fetched(base_url="http://127.0.0.1:1")
    fetched(offline=True)
    assert mirror.asked() == before
    fetched("m-eurosat", "m-so2sat")
    assert len(mirror.asked()) == len(before) + 2
    assert_whole(fetched.folder, "m-eurosat", "m-so2sat")


LATER = [seed for seed in range(9) if random.Random(seed).random() > 0.4]


@pytest.mark.parametrize("seed", LATER[:3])  # of faults after the listing
def test_connections_that_break_off_are_resumed_within_a_call(fetched, mirror, seed):
    fetched("m-brick-kiln")
    mirror.server.faults = Faults(seed, truncated=0.4)
    assert_whole(fetched("m-brick-kiln", "m-eurosat"), "m-eurosat", "m-brick-kiln")


def test_a_failure_is_one_error_and_a_later_call_brings_the_rest(fetched, mirror):
    fetched("m-brick-kiln")
    mirror.server.faults = Faults(unavailable=1.0)
    with pytest.raises(FetchError, match=r"Could not fetch .*: HTTP 503; .*call again later"):
        fetched("all")
    mirror.server.faults = None
    assert_whole(fetched("m-brick-kiln", "m-eurosat"), "m-eurosat", "m-brick-kiln")


def test_a_zip_that_came_whole_before_is_not_asked_for_again(fetched, mirror, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetched()
    assert not fetched.task.exists()
    assert_whole(fetched(), "m-eurosat")
    assert len(mirror.asked("m-eurosat.zip")) == 1


def test_a_wrong_sha256_leaves_nothing_and_says_both(fetched, mirror):
    path, right = f"{CLASSES}/m-eurosat.zip", dict(mirror.files)
    wrong = bytearray(right[path])
    wrong[2000] ^= 1
    mirror.files[path] = bytes(wrong)
    mirror.publish(listed=right)
    sums = [hashlib.sha256(content).hexdigest() for content in (bytes(wrong), right[path])]
    with pytest.raises(FetchError, match=f"has sha256 {sums[0]}, not {sums[1]}"):
        fetched()
    assert not fetched.task.exists()
    assert not fetched.zip.exists()
    mirror.files = right
    mirror.publish()
    assert_whole(fetched(), "m-eurosat")


@pytest.mark.parametrize("missing", ["zip", "listing", "entry"])
def test_what_the_server_does_not_have_is_one_error_that_names_it(fetched, mirror, missing):
    path = f"{CLASSES}/m-eurosat.zip"
    if missing == "entry":
        listed = {name: content for name, content in mirror.files.items() if name != path}
        mirror.publish(listed=listed)
    gone = {
        "zip": f"datasets/{REPOSITORY}/resolve/{REVISION}/{path}",
        "listing": f"api/datasets/{REPOSITORY}/revision/{REVISION}",
    }
    mirror.server.missing = [f"/{mirror.name}/{gone[missing]}"] if missing in gone else []
    says = {"entry": r"has no .*m-eurosat\.zip", "zip": r"m-eurosat\.zip from .*HTTP 404"}
    with pytest.raises(FetchError, match=says.get(missing, "list of files .*HTTP 404")) as told:
        fetched()
    assert "\n" not in str(told.value)
    assert not fetched.task.exists()
    mirror.server.missing = ()
    mirror.publish()
    assert_whole(fetched(), "m-eurosat")


def test_no_server_is_one_error_that_says_what_to_do(fetched):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"refused; .*call again later, or name a mirror"):
        fetched(base_url=f"http://127.0.0.1:{port}")
    assert not below(fetched.folder)


def test_an_answer_that_is_no_listing_is_told(fetched, mirror):
    mirror.write(f"api/datasets/{REPOSITORY}/revision/{REVISION}", "<html>log in</html>")
    with pytest.raises(FetchError, match="Could not fetch the list of files"):
        fetched()


@pytest.mark.parametrize("name", ["../evil", "m-eurosat/../../evil", "/tmp/evil"])
def test_a_zip_that_reaches_out_of_its_folder_writes_nothing_there(fetched, mirror, name):
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = zipped("m-eurosat", task_files(), (name, "evil"))
    mirror.publish()
    fetched()
    assert {path.parent for path in fetched.folder.parent.rglob("evil")} <= {fetched.task}
    assert not Path("/tmp/evil").exists()


TASK = zipped("m-eurosat", {"a": "x" * 99})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>", "not a zip file"),
        (TASK[:-30], "not a zip file"),
        (TASK.replace(b"xxx", b"yyy"), "Bad CRC"),
        (zipped("m-eurosat", {"a": "x", "a/b": "y"}), "Not a directory"),
        (zipped("other", {"a": "x"}), "No such file"),
    ],
    ids=["html", "cut", "crc", "clash", "elsewhere"],
)
def test_a_damaged_zip_is_told_and_kept(fetched, mirror, content, says):
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = content
    mirror.publish()
    with pytest.raises(FetchError, match=rf"Could not unpack .*m-eurosat\.zip, .* kept: .*{says}"):
        fetched()
    assert fetched.zip.read_bytes() == content
    assert not fetched.task.exists()


def test_what_a_zip_holds_elsewhere_does_not_come_along(fetched, mirror):
    more = ("__MACOSX/._a", "z")
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = zipped("m-eurosat", task_files(), more)
    mirror.publish()
    assert_whole(fetched(), "m-eurosat")


def test_disk_space_is_checked_for_the_zips_and_then_for_what_they_unpack_to(
    fetched, mirror, monkeypatch
):
    task = {"zeros.hdf5": bytes(3_000_000)}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m-so2sat/zeros.hdf5", task["zeros.hdf5"])
    mirror.files[f"{CLASSES}/m-so2sat.zip"] = stream.getvalue()
    mirror.publish()
    paths = [f"{CLASSES}/{name}" for name in ("normalizer.json", "m-eurosat.zip", "m-so2sat.zip")]
    needed = sum(len(mirror.files[path]) for path in paths)
    usage = shutil.disk_usage(fetched.folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=f"{needed:,} bytes are needed and {needed - 1:,} are"):
        fetched("m-eurosat", "m-so2sat")
    assert mirror.asked(".zip") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    with pytest.raises(
        FetchError, match=r"m-so2sat\.zip, which is kept: .*3,000,000 bytes are needed"
    ):
        fetched("m-eurosat", "m-so2sat")


def test_a_disk_that_fills_while_unpacking_keeps_the_zip(fetched, mirror, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(FetchError, match=r"zip, which is kept: .*No space left"):
            fetched()
    assert not fetched.task.exists()
    assert_whole(fetched(), "m-eurosat")
    assert len(mirror.asked("m-eurosat.zip")) == 1


def test_a_branch_brings_its_commit(fetched, mirror):
    mirror.publish(OTHER, revision="main")
    assert_whole(fetched(revision="main"), "m-eurosat")


def test_a_revision_that_is_not_there_leaves_the_folder_free_for_another(fetched):
    for revision in ("f" * 40, "no-branch"):
        with pytest.raises(FetchError, match="HTTP 404"):
            fetched(revision=revision)
    assert_whole(fetched(), "m-eurosat")


def test_a_task_from_elsewhere_is_left_as_it_is(fetched, mirror):
    fetched.task.mkdir(parents=True)
    (fetched.task / "mine").write_text("mine")
    fetched()
    assert (fetched.task / "mine").read_text() == "mine"
    assert mirror.asked(".zip") == []


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_what_is_missing_is_told_with_the_command(fetched, mirror, monkeypatch, by):
    if by == "environment":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    command = f"`salib fetch geobench m-eurosat --out {fetched.folder}`"
    with pytest.raises(FetchError, match=rf"{CLASSES}/m-eurosat\.zip in .*offline: run {command}"):
        fetched(offline=by == "argument")
    assert not fetched.folder.exists()
    assert mirror.asked() == []


def test_the_hubs_endpoint_is_the_default_and_its_token_stays_with_it(
    fetched, mirror, tmp_path, monkeypatch
):
    code = (
        "import sys; from salib.evaluate import fetch as g; hub = g.HfApi()\n"
        "assert hub.endpoint == sys.argv[2], hub.endpoint\n"
        "g.fetch_geobench(['m-eurosat'], sys.argv[1])\n"
    )
    env = os.environ | {"HF_ENDPOINT": mirror.url, "HF_TOKEN": "secret"}
    command = [sys.executable, "-c", code, str(fetched.folder), mirror.url]
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert_whole(fetched.folder, "m-eurosat")
    tokens = []
    monkeypatch.setattr(HfApi, "__init__", lambda self, endpoint, token: tokens.append(token))
    monkeypatch.setattr(fetch, "_download", lambda *_: None)
    fetched("m-so2sat")
    fetched("m-so2sat", base_url=None)
    assert tokens == [False, None]


def test_two_fetches_into_one_folder_are_refused(fetched):
    fetched.folder.mkdir()
    with only_writer(fetched.folder), pytest.raises(InUseError, match="Another run is writing to"):
        fetched()


@pytest.mark.parametrize(("names", "got"), [((), "none"), (("m-euronet",), "m-euronet")])
def test_unknown_tasks_and_none_are_refused(tmp_path, names, got):
    with pytest.raises(ValueError, match=f"m-so2sat, .* m-NeonTree, or all, got .*{got}"):
        fetch_geobench(names, tmp_path)


@pytest.mark.real
@pytest.mark.skipif(missing_samples(DATA_DIR) is not None, reason="no real samples")
def test_real_samples_come_through_as_they_are(fetched, mirror):
    real_samples = Path(DATA_DIR, SAMPLES)
    files = below(real_samples)
    mirror.files[f"{CLASSES}/m-eurosat.zip"] = zipped("m-eurosat", files)
    mirror.publish()
    fetched()
    theirs, ours = (
        list(iter_split(geobench_task(folder, procedural=False), "test"))
        for folder in (real_samples, fetched.task)
    )
    for (image, label), (our_image, our_label) in zip(theirs, ours, strict=True):
        assert (image == our_image).all()
        assert label == our_label


def chips_zip():
    image = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()
    chips = {f"c{c}/c{c}_{n}.png": image for c in range(2) for n in range(301)}
    chips["c0/._c0_0.png"] = b"no image"
    return zipped("EuroSAT_RGB", chips | {"readme.txt": np.random.default_rng(0).bytes(300_000)})


@pytest.fixture
def chips(server, tmp_path, monkeypatch):
    content, mirror = chips_zip(), Mirror(server)

    def call(source="eurosat", **options):
        given = {"base_url": mirror.url} | options
        return fetch_chips(source, tmp_path / "data", **given)

    for name, layout in CHIP_ZIPS.items():
        stated = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        monkeypatch.setitem(CHIP_ZIPS, name, layout._replace(**stated))
        mirror.write(layout.file, content)
    call.folder, call.content, call.mirror = tmp_path / "data", content, mirror
    return call


def test_chips_come_as_a_zip_that_evaluation_reads_and_only_once(chips):
    target = chips()
    assert target.read_bytes() == chips.content
    (task,) = real_tasks(target.parent)
    assert (task.name, task.class_names) == ("eurosat", ("c0", "c1"))
    assert set(below(target.parent)) == {"EuroSAT_RGB.zip"}
    before = chips.mirror.asked()
    chips(base_url="http://127.0.0.1:1")
    chips(offline=True)
    assert chips.mirror.asked() == before


def test_a_wrong_sha256_of_chips_is_told_and_nothing_stays(chips):
    chips.mirror.write("EuroSAT_RGB.zip", b"x" + chips.content[1:])
    with pytest.raises(FetchError, match=r"SHA256 hash .* does not match the known hash"):
        chips()
    assert below(chips.folder) == {}


def test_a_disk_that_fills_or_may_not_be_written_to_is_told(chips, monkeypatch):
    with files_of_at_most(1000), pytest.raises(FetchError, match=r"Could not write .*too large"):
        chips()
    usage = shutil.disk_usage(chips.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match="and 1,000 are free"):
        chips()
    assert below(chips.folder) == {}


def test_chips_of_another_make_are_kept_and_told(chips):
    chips.folder.mkdir()
    (chips.folder / "EuroSAT_RGB.zip").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"is not the published file: its sha256 .* move it away"):
        chips()
    assert below(chips.folder) == {"EuroSAT_RGB.zip": b"mine"}
    assert chips.mirror.asked() == []


@pytest.mark.parametrize("source", ["eurosat", "ucmerced"])
def test_missing_chips_offline_are_told_with_the_command(chips, source):
    with pytest.raises(FetchError, match=f"`salib fetch {source} --out {chips.folder}` with a"):
        chips(source, offline=True)
    assert not chips.folder.exists()


def test_the_published_zips_are_named_by_a_sha256():
    assert [len(bytes.fromhex(layout.sha256)) for layout in CHIP_ZIPS.values()] == [32, 32]


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
