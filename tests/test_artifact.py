"""Files and folders are whole or absent, and kept while nothing they depend on changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from salib.artifact import (
    MADE_FROM,
    PACKAGE,
    InUseError,
    atomic_dir,
    atomic_file,
    check_replaceable,
    is_kept,
    keep,
    module_files,
    only_writer,
    source_digest,
    stamp,
)


def fail(part, error):
    """Write half of something, then fail."""
    (part / "value.txt" if part.is_dir() else part).write_text("half")
    raise error


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "deep" / "value.txt"
    with atomic_file(path) as part:
        part.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_file(path) as part:
        fail(part, OSError("disk full"))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_folder_leaves_the_old_folder_and_no_other(tmp_path):
    for text in ("old", "new"):
        with atomic_dir(tmp_path / "made") as part:
            (part / "value.txt").write_text(text)
    with pytest.raises(KeyboardInterrupt), atomic_dir(tmp_path / "made") as part:
        fail(part, KeyboardInterrupt())
    assert (tmp_path / "made" / "value.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_what_a_killed_process_left_is_cleared_and_a_folder_set_aside_comes_back(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for suffix in ("part", "old"):
        (tmp_path / f".made.{dead}.xyz.{suffix}").mkdir()
    (tmp_path / f".made.{dead}.xyz.old" / "value.txt").write_text("good")
    with pytest.raises(OSError, match="full"), atomic_dir(tmp_path / "made") as part:
        fail(part, OSError("disk full"))
    assert (tmp_path / "made" / "value.txt").read_text() == "good"
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_a_stamp_holds_for_its_key_alone(tmp_path):
    assert not is_kept(tmp_path, {"seed": 1})
    stamp(tmp_path, {"seed": 1, "size": (2, 3)})
    assert is_kept(tmp_path, {"size": [2, 3], "seed": 1})
    assert not is_kept(tmp_path, {"seed": 2, "size": (2, 3)})


def test_a_folder_is_made_once_for_each_set_of_arguments(tmp_path):
    calls = []

    def make(folder, *, seed, processes=1):
        calls.append(seed)
        with atomic_dir(folder) as part:
            (part / "value.txt").write_text(str(seed))

    make.__module__ = "salib.config"
    for seed in (1, 1, 2, 2, 1):
        keep(tmp_path / "made", make, seed=seed)
        assert (tmp_path / "made" / "value.txt").read_text() == str(seed)
    keep(tmp_path / "made", make, seed=1, processes=5)
    assert calls == [1, 2, 1]


def test_a_module_depends_on_what_it_imports_and_nothing_downstream():
    train = {path.relative_to(PACKAGE).as_posix() for path in module_files("salib.train")}
    assert {"train.py", "data.py", "model/fusion.py", "bias.py", "curate/archive.py"} <= train
    assert not train & {"cli.py", "ledger.py", "tables.py"}
    assert source_digest("salib.bias") != source_digest("salib.losses")
    with pytest.raises(ValueError, match="must be part of salib"):
        module_files("salib.nothing")


def test_a_folder_has_one_writer_and_is_left_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "out"
    second = pytest.raises(InUseError, match=r"must have one writer, got .*out, where another")
    with only_writer(folder):
        with second, only_writer(folder):
            pytest.fail("two writers")
        (folder / "kept").touch()
    with only_writer(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["kept"]
    with pytest.raises(KeyError), only_writer(tmp_path / "empty"):
        raise KeyError
    assert not (tmp_path / "empty").exists()
    monkeypatch.setattr("salib.artifact.os.access", lambda *_: False)
    with only_writer(folder):
        assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path, monkeypatch):
    ours, theirs, file = (tmp_path / name for name in ("ours", "theirs", "file"))
    for folder, name in ((ours, "made.json"), (theirs, "made.json"), (theirs, "thesis.txt")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("kept")
    file.write_text("kept")
    (tmp_path / "empty").mkdir()
    for path in (ours, tmp_path / "empty", tmp_path / "new" / "deep"):
        check_replaceable(path, "*.json")
    monkeypatch.chdir(tmp_path / "empty")
    for path in (theirs, file, file / "below", Path(), Path("..")):
        with pytest.raises(ValueError, match="out must"):
            check_replaceable(path, "*.json")
    with pytest.raises(ValueError, match=r"with 'made\.json'"):
        check_replaceable(ours, "*.json", stamped=True)
    (ours / MADE_FROM).write_text("{}")
    check_replaceable(ours, "*.json", stamped=True)
    assert (theirs / "thesis.txt").read_text() == "kept"


@pytest.mark.parametrize("left", ["", '{"a": 1', "\x00"])
def test_a_cut_stamp_counts_as_unfinished(tmp_path, left):
    (tmp_path / MADE_FROM).write_text(left)
    assert not is_kept(tmp_path, {"a": 1})
