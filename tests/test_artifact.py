"""Files and folders are whole or absent, and kept while nothing they depend on changed."""

from pathlib import Path

import pytest

from salib.files.artifact import (
    MADE_FROM,
    InUseError,
    atomic_dir,
    atomic_file,
    check_replaceable,
    code_remark,
    is_kept,
    keep,
    only_writer,
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


def test_what_a_killed_run_left_is_cleared_by_the_next_writer(tmp_path):
    half = tmp_path / ".made.part" / "new" / "value.txt"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    with atomic_dir(tmp_path / "made") as part:
        assert list(part.iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]
    left = {".0123456789abcdef.part": False, ".notes.part": True, ".lock": False}
    for name in left:
        (tmp_path / "made" / name).touch()
    with only_writer(tmp_path / "made"):
        pass
    assert {name: (tmp_path / "made" / name).exists() for name in left} == left


def test_a_folder_is_replaced_by_one_run_at_a_time(tmp_path):
    second = pytest.raises(InUseError, match="Another run is writing to")
    with atomic_dir(tmp_path / "made") as part:
        (part / "value.txt").write_text("whole")
        with second, atomic_dir(tmp_path / "made"):
            pytest.fail("two writers")
    assert (tmp_path / "made" / "value.txt").read_text() == "whole"


def test_a_stamp_holds_for_its_key_alone(tmp_path):
    assert not is_kept(tmp_path, {"seed": 1})
    stamp(tmp_path, {"seed": 1, "size": (2, 3)})
    assert is_kept(tmp_path, {"size": [2, 3], "seed": 1})
    assert not is_kept(tmp_path, {"seed": 2, "size": (2, 3)})


def test_other_code_keeps_what_was_made_and_another_recipe_does_not(tmp_path):
    key = {"seed": 1, "recipe": 1, "source": "a" * 64}
    stamp(tmp_path, key)
    edited = key | {"source": "b" * 64}
    assert is_kept(tmp_path, edited)
    assert code_remark(tmp_path, key) == ""
    assert "aaaaaaaa to bbbbbbbb" in code_remark(tmp_path, edited)
    assert not is_kept(tmp_path, key | {"recipe": 2})


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


def test_a_folder_has_one_writer_and_is_left_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "out"
    second = pytest.raises(InUseError, match=r"Another run is writing to .*out: wait")
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
    monkeypatch.setattr("salib.files.artifact.os.access", lambda *_: False)
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
