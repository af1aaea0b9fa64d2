"""Disks, places, people: what was finished stays, and every failure is one line."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from full_disk import files_of_at_most
from labelled import write_dark_and_light
from rasterio.transform import from_origin
from safetensors import SafetensorError
from train_runs import MODEL, TRAIN, digests, stopped

from exhibits.tables.printed import check_paper
from salib import build_model, load_model
from salib.cli.app import main
from salib.curate.output import INDEX, SNAPSHOT, TILES, move_output, outputs, place_of
from salib.curate.released import index_released
from salib.evaluate import PROTOCOLS, Candidate, evaluate, folder_task
from salib.evaluate.probes.clusters import umap_class
from salib.evaluate.rows import COLUMNS
from salib.files.artifact import (
    MADE_FROM,
    InUseError,
    atomic_dir,
    atomic_file,
    is_kept,
    keep,
    only_writer,
    read_json,
    stamp,
)
from salib.files.disk import DiskFullError, beside
from salib.files.tables import check_table
from salib.mapping import embed_scene, open_scene
from salib.mapping.images import embed_images
from salib.model import save_model
from salib.model.store import CONFIG
from salib.training.checkpoint import Checkpoint
from salib.training.step import make_optimizer
from salib.training.train import pretrain

ROOT = Path(__file__).parent.parent
FULL_DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("100000 requested and 8176 written"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("TIFFAppendToStrip:Write error at scanline 10"),
]


@contextmanager
def killed(monkeypatch, name, *, at):
    """The `at`-th call of a method of Path ends the run, as a kill would."""
    calls, real = [], getattr(Path, name)

    def call(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, call)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(build_model(MODEL, 0), tmp_path_factory.mktemp("m") / "model")


@pytest.fixture
def picture(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), levels)
    return tmp_path / "picture.png"


def command(monkeypatch, capsys, *words):
    """Exit status and what a command line wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["salib", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err.strip().splitlines()


# A full disk


@pytest.mark.parametrize("error", FULL_DISK, ids=str)
def test_a_full_disk_is_one_line_whatever_the_writer_calls_it(tmp_path, error):
    (tmp_path / "kept").write_text("old")
    line = rf"The disk of {tmp_path} is full\. Finished work is kept: free space and run again"
    with pytest.raises(DiskFullError, match=line), atomic_file(tmp_path / "kept"):
        raise error
    with pytest.raises(DiskFullError, match=line), atomic_dir(tmp_path / "kept2"):
        raise RuntimeError("unexpected pos 704 vs 598") from error
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


def test_another_failure_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(RuntimeError, match="unexpected"), atomic_file(tmp_path / "a"):
        raise RuntimeError("unexpected")


def test_a_disk_that_is_full_at_any_byte_costs_no_model_and_no_checkpoint(tmp_path):
    model, out = build_model(MODEL, 0), tmp_path / "model"
    save_model(model, out)
    optimizer = make_optimizer(model, TRAIN)
    state = Checkpoint(tmp_path, {"seed": 1}, model, optimizer)
    state.save(now=True)
    before = digests(tmp_path)
    sizes = {path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    for most in sorted({*range(0, max(sizes), max(sizes) // 7), *(n - 1 for n in sizes)}):
        with files_of_at_most(most):
            if most < (tmp_path / "state.pt").stat().st_size:
                with pytest.raises(DiskFullError, match="is full"):
                    state.save(now=True)
            if most < (out / "model.safetensors").stat().st_size:
                with pytest.raises(DiskFullError, match="is full"):
                    save_model(model, out)
        assert digests(tmp_path) == before
    load_model(out)
    Checkpoint(tmp_path, {"seed": 1}, model, optimizer)


def test_a_pretraining_whose_disk_fills_up_says_so_and_resumes(tiles, tmp_path, monkeypatch):
    out, said = tmp_path / "model", []
    stopped(tiles, out, monkeypatch, at=2)
    with files_of_at_most(5_000), pytest.raises(DiskFullError, match=f"disk of {tmp_path}"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert not out.exists()
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["Resuming at step 2 of 3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def not_reached(path):
    pytest.fail(f"a digest for {path}, which is not whole")


def test_a_map_whose_disk_fills_up_at_any_byte_is_never_taken_for_whole(
    model, tmp_path, monkeypatch
):
    """GDAL writes the last blocks of a file when it closes it, and raises nothing then.

    The digest is appended to a map whose blocks are all there, and to no other.
    """
    levels = np.random.default_rng(0).integers(1, 256, (3, 96, 80), dtype=np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(431_000, 5_400_000, 10, 10)}
    shape = {"count": 3, "height": 96, "width": 80, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", **shape, **place) as file:
        file.write(levels)
    scene, out, whole = open_scene(tmp_path / "scene.tif", "lores"), tmp_path / "m.tif", "whole.tif"
    size = embed_scene(scene, model, tmp_path / whole, window=4).stat().st_size
    for most in [*range(1_500, size - 100, size // 11), size - 1]:
        with monkeypatch.context() as patch:
            if most < size - 100:
                patch.setattr("salib.mapping.geotiff.append_checksum", not_reached)
            with files_of_at_most(most), pytest.raises(OSError, match=r"disk.* full"):
                embed_scene(scene, model, out, window=4)
        assert not out.exists()
    embed_scene(scene, model, out, window=4)
    assert out.read_bytes() == (tmp_path / whole).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "m.tif", whole}


# What is finished stays


def folder_of(path, text):
    with atomic_dir(path) as part:
        (part / "value").write_text(text)


@pytest.mark.parametrize("at", [1, 2])
def test_a_folder_killed_between_two_names_is_put_back(tmp_path, monkeypatch, at):
    folder_of(tmp_path / "made", "old")
    with killed(monkeypatch, "rename", at=at), pytest.raises(KeyboardInterrupt):
        folder_of(tmp_path / "made", "new")
    assert (tmp_path / "made" / "value").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_a_dead_run_set_aside_is_put_back_or_cleared(tmp_path):
    old = tmp_path / ".made.part" / "old"
    for there in (False, True):
        old.mkdir(parents=True, exist_ok=True)
        (old / "value").write_text("aside")
        with pytest.raises(KeyError), atomic_dir(tmp_path / "made"):
            raise KeyError
        assert (tmp_path / "made" / "value").read_text() == ("new" if there else "aside")
        assert not old.exists()
        (tmp_path / "made" / "value").write_text("new")


def test_a_link_to_a_folder_stays_one_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "made").symlink_to(tmp_path / "disk" / "made")
    for text in ("old", "new"):
        folder_of(tmp_path / "made", text)
    assert (tmp_path / "made").is_symlink()
    assert (tmp_path / "disk" / "made" / "value").read_text() == "new"


@pytest.mark.parametrize("ending", [".part", ".unfinished", ".parts"])
def test_a_link_at_an_unfinished_place_is_refused_and_not_followed(tmp_path, ending):
    (tmp_path / "theirs" / "new").mkdir(parents=True)
    (tmp_path / "theirs" / "new" / "thesis").write_text("kept")
    (tmp_path / f".made{ending}").symlink_to(tmp_path / "theirs")
    with pytest.raises(ValueError, match="must be no link"):
        beside(tmp_path / "made", ending)
    if ending == ".part":
        with pytest.raises(ValueError, match="must be no link"), atomic_dir(tmp_path / "made"):
            pytest.fail("followed")
    assert (tmp_path / "theirs" / "new" / "thesis").read_text() == "kept"


def test_a_pretraining_killed_at_its_very_end_is_cleared_by_the_next(tiles, tmp_path, monkeypatch):
    out, work = tmp_path / "model", tmp_path / ".model.unfinished"
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    stopped(tiles, tmp_path / "other", monkeypatch, at=2)
    (tmp_path / ".other.unfinished").rename(work)
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert not work.exists()
    work.mkdir()  # of a run that saved nothing
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert not work.exists()
    with only_writer(work):  # of a run that is at work
        (work / "state.pt").write_bytes(b"")
        pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
        assert (work / "state.pt").is_file()


def curated(folder, text, sensors=("radar", "lores")):
    for name in outputs(sensors):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_new_tiles_lie_beside_finished_ones_until_they_are_whole(tmp_path):
    assert place_of(tmp_path) == tmp_path
    curated(tmp_path, "old", ("radar", "lores", "hires"))
    stamp(tmp_path, {"seed": 1}, *outputs(("radar", "lores", "hires")))
    place = place_of(tmp_path)
    curated(place, "new")
    assert is_kept(tmp_path, {"seed": 1})
    move_output(place, tmp_path, outputs(("radar", "lores")))
    names = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert names == dict.fromkeys(outputs(("radar", "lores")), "new")


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_tiles_of_two_runs_are_never_taken_for_one(tmp_path, monkeypatch, at):
    curated(tmp_path, "old")
    stamp(tmp_path, {"seed": 1}, *outputs(("radar", "lores")))
    place = place_of(tmp_path)
    curated(place, "new")
    with killed(monkeypatch, "replace", at=at), pytest.raises(KeyboardInterrupt):
        move_output(place, tmp_path, outputs(("radar", "lores")))
    texts = [(tmp_path / name).read_text() for name in outputs(("radar", "lores")) if name != INDEX]
    assert len(set(texts)) == 1 or not (tmp_path / INDEX).exists()
    assert not is_kept(tmp_path, {"seed": 1})
    assert (tmp_path / SNAPSHOT).is_file()
    assert (tmp_path / TILES).is_file()


@pytest.mark.parametrize(
    "content", [b"", b"my thesis", b"a,b\n1,2\n", b"PAR1damaged PAR1", b"\xff\xfe\x00"]
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_table_replaces_no_file_of_others(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"out must not exist or be a table by the same command"):
        check_table(path, COLUMNS)
    assert path.read_bytes() == content
    path.unlink()
    check_table(path, COLUMNS)
    path.mkdir()
    with pytest.raises(ValueError, match="out must not exist"):
        check_table(path, COLUMNS)


def test_vectors_are_kept_or_replaced_only_when_asked(model, picture, tmp_path):
    out, call = tmp_path / "rows.parquet", {"gsd_m": {"lores": 5.0}}
    embed_images({"lores": [picture]}, model, out, **call)
    before, moment = out.read_bytes(), out.stat().st_mtime_ns
    embed_images({"lores": [picture]}, model, out, **call)
    assert out.stat().st_mtime_ns == moment
    other = {"gsd_m": {"lores": 6.0}}
    with pytest.raises(ValueError, match=r"made from the same, got .*--overwrite"):
        embed_images({"lores": [picture]}, model, out, **other)
    assert out.read_bytes() == before
    embed_images({"lores": [picture]}, model, out, **other, overwrite=True)
    assert pd.read_parquet(out)["gsd_m"].tolist() == [6.0]
    out.write_text("thesis")
    with pytest.raises(ValueError, match="or delete it"):
        embed_images({"lores": [picture]}, model, out, **other, overwrite=True)
    assert out.read_text() == "thesis"


def test_an_index_of_others_stays_beside_fetched_archives(tmp_path):
    pd.DataFrame({"mine": [1]}).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(ValueError, match="out must not exist"):
        index_released(tmp_path, 15)
    assert pd.read_parquet(tmp_path / "index.parquet").columns.tolist() == ["mine"]


QUICK = replace(PROTOCOLS["default"], probes=("knn",))


class Colour(torch.nn.Module):
    def embed(self, images, *, sensor, gsd_m):
        return images.float().mean((2, 3))


@pytest.fixture
def labelled(tmp_path):
    write_dark_and_light(tmp_path / "images")
    return folder_task(tmp_path / "images", gsd_m=2.0)


def test_rows_of_another_evaluation_are_replaced_only_when_asked(labelled, tmp_path, monkeypatch):
    models = {"SA-low": Candidate(model=Colour(), sensor="lores", trained=False)}
    out = tmp_path / "rows.csv"
    call = {"image_px": 8, "out": out, "protocol": QUICK, "against": "SA-low"}
    evaluate(models, [labelled], seed=0, **call)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="differs in seed: choose another name"):
        evaluate(models, [labelled], seed=1, **call)
    with pytest.raises(ValueError, match="differs in task: choose another name"):
        evaluate(models, [replace(labelled, name="other")], seed=0, **call)
    assert out.read_bytes() == before
    with monkeypatch.context() as patch:  # the second task ends the run
        patch.setattr("salib.evaluate.run.check_disjoint", lambda _: None)
        broken = replace(labelled, name="broken", kind="segmentation")
        with suppress(ValueError, TypeError, AttributeError):
            evaluate(models, [labelled, broken], seed=1, overwrite=True, **call)
    assert out.read_bytes() == before
    evaluate(models, [labelled], seed=0, **call)
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"images", "rows.csv"}


# Disks of other kinds, and people without rights


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_disk_without_locks_still_has_one_writer(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path / "out"):
        with pytest.raises(InUseError, match="Another run"), only_writer(tmp_path / "out"):
            pytest.fail("two writers")
        (tmp_path / "out" / "kept").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]
    folder_of(tmp_path / "made", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "out"]


def test_a_dead_run_keeps_nobody_out_where_there_are_no_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    child = os.fork()
    if not child:
        with only_writer(tmp_path / "out"):
            os._exit(9)
    os.waitpid(child, 0)
    assert (tmp_path / "out" / ".lock.pid").is_file()
    with only_writer(tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_a_lock_that_fails_otherwise_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), only_writer(tmp_path / "out"):
        pytest.fail("no lock")


def test_a_disk_that_refuses_permissions_times_and_syncs_holds_every_product(
    model, picture, tiles, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def no_sync(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    for name in ("chmod", "fchmod", "lchmod", "chown", "utime"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    monkeypatch.setattr(os, "fsync", no_sync)
    embed_images({"lores": [picture]}, model, tmp_path / "a.parquet", gsd_m={"lores": 5})
    pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=2)
    load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["x" * 248, "ü" * 124, "wörld a", "雪 山.tif", "-a", "a" * 129])
def test_any_name_that_a_disk_takes_can_be_written(tmp_path, name):
    with atomic_file(tmp_path / "files" / name) as part:
        part.write_text("whole")
    folder_of(tmp_path / "folders" / name, "whole")
    assert [path.name for path in (tmp_path / "files").iterdir()] == [name]
    assert [path.name for path in (tmp_path / "folders").iterdir()] == [name]
    for ending in (".unfinished", ".parts"):
        place = beside(tmp_path / "folders" / name, ending)
        place.mkdir()
        assert place == beside(tmp_path / "folders" / name, ending)
        assert place.name.startswith(".")


def test_a_mounted_disk_itself_is_refused_before_any_work(monkeypatch, tmp_path):
    from salib.files.artifact import check_replaceable

    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(ValueError, match="name a new one in it"):
        check_replaceable(tmp_path, "*.json")


def test_umap_finds_a_folder_to_compile_in_without_home(tmp_path, monkeypatch):
    import numba

    (tmp_path / "umap.py").write_text(
        "import numba\n"
        "if not numba.config.CACHE_DIR:\n"
        "    raise RuntimeError('cannot cache function: no locator available')\n"
        "class UMAP:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert umap_class().__name__ == "UMAP"
    folder = Path(numba.config.CACHE_DIR)
    assert folder.stat().st_mode & 0o77 == 0  # what numba reads from it, it runs
    sys.modules.pop("umap")
    shutil.rmtree(folder)


# Stamps, configurations, claims: JSON and YAML of anyone


@pytest.mark.parametrize("text", ["null", "[]", "3", '"a"', "[" * 100_000, "{", "\x00", "\ufeff{}"])
def test_json_that_is_no_object_is_refused_by_name_and_no_stamp(tmp_path, model, text):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    for name in (MADE_FROM, CONFIG):
        (folder / name).write_text(text)
    assert not is_kept(folder, {})
    with pytest.raises(ValueError, match=rf"{CONFIG}.*(write or download it again|JSON object)"):
        read_json(folder / CONFIG)
    with pytest.raises(ValueError, match=CONFIG):
        load_model(folder)


@pytest.mark.parametrize("files", [[1], "a", {"a": "b"}, {"..": 3}, {"\x00": 1}, None])
def test_a_stamp_of_odd_files_is_no_stamp(tmp_path, files):
    (tmp_path / MADE_FROM).write_text(json.dumps({"seed": 1, "files": files}))
    assert not is_kept(tmp_path, {"seed": 1})


@pytest.mark.parametrize(
    "stated",
    [
        {"depth": 10**6},
        {"decoder_depth": 10**7},
        {"dim": 2**40, "heads": 2},
        {"decoder_dim": 2**40},
        {"patch_px": 10**6},
        {"depth": 10**30},
    ],
    ids=str,
)
def test_a_configuration_of_any_size_is_refused_before_it_is_built(
    model, tmp_path, monkeypatch, stated
):
    def build(*_, **__):
        pytest.fail("built")

    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    stored = json.loads((folder / CONFIG).read_text())
    del stored["seal"]  # as if written by hand
    (folder / CONFIG).write_text(json.dumps(stored | stated))
    monkeypatch.setattr("salib.model.store.build_model", build)
    with pytest.raises(ValueError, match="weights must fit"):
        load_model(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "3",
        "a: [",
        "- 3",
        "- id: a",
        "- {id: a, quote: b, where: c, rule: {kind: guess}}",
        "- {id: a, quote: b, where: c, rule: {kind: best_count}}",
        "- {id: a, quote: b, where: c, rule: {kind: best_count, at_least: x}}",
        "- {id: a, quote: b, where: c, rule: {kind: mean_difference, column: x, probes: [knn], "
        "at_least: 0}}",
        "- {id: a, quote: b, where: c, rule: {kind: mean_difference, column: CROMA, probes: knn, "
        "at_least: 0}}",
        "- {quote: b, where: c, rule: {kind: external, needs: d}}",
        "- {id: a, quote: b, where: c, rule: {kind: experiment, name: d, then: perhaps}}",
        "- {id: a, quote: b, where: c, rule: {kind: test, held_by: [D1], answer: not run, why: d}}",
        "- {id: a, quote: b, where: c, rule: {kind: test, held_by: D1, answer: holds, why: d}}",
        "[" * 1_200,
        "!!python/object/apply:os.system [false]",
        "\x00",
    ],
)
def test_damaged_claims_are_told_before_the_evaluation(tmp_path, text):
    check_paper(ROOT / "paper")
    check_paper(tmp_path)
    (tmp_path / "claims.yml").write_text(text)
    with pytest.raises(ValueError, match=r"Could not read .*claims\.yml .*: restore it") as told:
        check_paper(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "block,task\n1,2\n", '"', "\x00"])
def test_a_damaged_table_2_is_told_before_the_evaluation(tmp_path, text):
    (tmp_path / "table2.csv").write_text(text)
    with pytest.raises(ValueError, match=r"Could not read .*table2\.csv"):
        check_paper(tmp_path)


# One line


class OddError(Exception):
    """What a package may raise."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "Out of memory (no more is free): use fewer workers, or smaller inputs"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OverflowError("int too large"), "OverflowError: int too large"),
        (OddError("two\nlines"), "OddError: two lines"),
        (KeyError("tile"), "KeyError: 'tile'"),
        (AssertionError(), "AssertionError:"),
        (cv2.error("imdecode"), "error: imdecode"),
        (SafetensorError("header"), "SafetensorError: header"),
        (ValueError("zoom must be\none"), "zoom must be one"),
        (OSError(28, "no\xa0room", "a b"), "Could not read or write a b: no\xa0room"),
        (ModuleNotFoundError("x", name="x"), "x must be installed for this command"),
    ],
    ids=repr,
)
def test_whatever_a_command_meets_ends_in_one_line(monkeypatch, capsys, tmp_path, error, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("salib.files.artifact.keep", fail)
    code, lines = command(monkeypatch, capsys, "world", tmp_path / "w")
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"salib: {line}")
    monkeypatch.setenv("SALIB_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["salib", "world", "w"])
    with pytest.raises(type(error)):
        main()


def test_what_a_package_says_of_a_file_is_told_with_its_name(monkeypatch, capsys, tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "index.parquet").write_bytes(b"no parquet at all")
    words = ["pretrain", tmp_path / "tiles", "--preset", "tiny", "--out", tmp_path / "m"]
    code, lines = command(monkeypatch, capsys, *words)
    assert code == 2
    assert len(lines) == 1
    assert str(tmp_path / "tiles") in lines[0]


@pytest.mark.parametrize("seed", [2**63, 2**64, -1])
@pytest.mark.parametrize("words", [("world", "w"), ("pretrain", "t", "--out", "o")])
def test_a_seed_beyond_what_generators_take_is_refused(monkeypatch, capsys, words, seed):
    code, lines = command(monkeypatch, capsys, *words, "--seed", seed)
    assert code == 2
    assert "--seed" in " ".join(lines)


def test_another_world_is_replaced_only_when_asked_and_other_catalogues_never(
    monkeypatch, capsys, tmp_path
):
    def write(out, *, overwrite, seed, **_):
        from earth.scenes import write as module

        with monkeypatch.context() as patch:
            patch.setattr(module, "area_of_tiles", lambda *_: folder_of(tmp_path / "never", ""))
            return module.write_scenes(out, seed=seed, overwrite=overwrite)

    out = tmp_path / "world"
    out.mkdir()
    (out / "catalog.json").write_text("{}")
    (out / "naip").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="written by the same command"):
            write(out, overwrite=overwrite, seed=1)
    stamp(out, {"arguments": {"seed": 1}})
    with pytest.raises(ValueError, match="replace it with --overwrite"):
        write(out, overwrite=False, seed=1)
    assert not (tmp_path / "never").exists()


def test_the_arguments_of_a_kept_folder_say_nothing_of_replacing_it(tmp_path):
    calls = []

    def make(folder, *, seed, overwrite=False):
        calls.append(overwrite)
        folder_of(folder, str(seed))

    make.__module__ = "salib.config"
    for overwrite in (True, False):
        keep(tmp_path / "made", make, seed=1, overwrite=overwrite)
    assert calls == [True]


# The names of profiles and notebooks


@pytest.mark.parametrize(
    "profile", ["", "../notebooks", ".", "/", "%", "smoke laptop", "smoke/", "*", "none", "~"]
)
def test_make_refuses_a_profile_that_is_none_before_it_removes_anything(profile):
    words = ["make", "-n", "clean", f"PROFILE={profile}"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "rm" not in run.stdout
    assert "PROFILE must be one of gpu laptop paper smoke, got" in run.stderr


def test_make_cleans_what_the_profile_made(tmp_path):
    words = ["make", "-n", "clean", "PROFILE= laptop "]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert any(line.endswith(" runs/laptop") for line in run.stdout.splitlines())
