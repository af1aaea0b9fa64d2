"""The whole of curate(): outputs, interruption, processes, second calls, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from curate_scenes import write_small_world

from salib.config import SENSOR_NAMES
from salib.curate import Engine, Rules, curate
from salib.curate.index import split_by_block
from salib.curate.output import outputs
from salib.curate.plan import make_blocks, make_plan
from salib.curate.search.catalog import search_all
from salib.curate.search.sources import find_items
from salib.curate.shards import commit
from salib.files.artifact import RECIPES, InUseError, file_digest
from salib.tiles.archive import Archive
from salib.tiles.checks import verify
from salib.tiles.codec import image_format
from salib.tiles.grid import TileId, gsd_m, tile_bounds, tiles_of_bbox

ZOOM = 14
OUTPUTS = outputs(SENSOR_NAMES)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def out(catalog, tmp_path_factory):
    return curate(catalog, tmp_path_factory.mktemp("tiles") / "out", zoom=ZOOM)


@pytest.fixture(scope="module")
def index(out):
    return geopandas.read_parquet(out / "index.parquet")


def digests(folder):
    return {name: file_digest(folder / name) for name in OUTPUTS}


def test_only_outputs_and_their_stamp_are_left(out):
    assert {path.name for path in out.iterdir()} == {*OUTPUTS, "made_from.json"}


def test_every_joint_sample_is_whole_in_all_three_archives(out, index):
    radar, lores, hires = (Archive(out / f"{name}.pmtiles") for name in ("radar", "lores", "hires"))
    zooms = [{tile.z for tile in archive.tiles()} for archive in (radar, lores, hires)]
    assert zooms == [{ZOOM}, {ZOOM}, {ZOOM, ZOOM + 1}]
    assert len(index) > 10
    for row in index.itertuples():
        tile = TileId(row.z, row.x, row.y)
        assert row.tile_id == tile.hilbert
        for archive in (radar, lores, hires):
            image = archive.get(*tile)
            assert image.shape == (256, 256, 4)
            assert (image[..., 3] == 255).mean() >= 0.95
        assert not radar.get(*tile)[..., 0].any()
        assert set(tile.children()) <= {*hires.tiles()}


def test_the_index_tells_place_gsd_time_and_origin(out, index):
    row = index.iloc[len(index) // 2]
    tile = TileId(int(row.z), int(row.x), int(row.y))
    assert row.geometry.equals(shapely.box(*tile_bounds(tile)))
    assert index.crs == "EPSG:4326"
    middle = (tile_bounds(tile)[1] + tile_bounds(tile)[3]) / 2
    assert row.gsd_m == pytest.approx(gsd_m(middle, ZOOM), rel=1e-6)
    assert index.tile_id.is_monotonic_increasing
    assert index.tile_id.is_unique
    for name, prefix in (("radar", "S1_"), ("lores", "S2_"), ("hires", "naip_")):
        assert index[f"valid_frac_{name}"].between(0.95, 1).all()
        assert str(index[f"datetime_{name}"].dt.tz) == "UTC"
        ids = set(np.concatenate(index[f"scene_ids_{name}"].to_list()))
        assert ids == {prefix + "0", prefix + "1"}
    assert set(index.split) <= {"train", "valid"}


def test_metadata_says_procedural_and_tiles_give_the_radar_model_residual(out):
    for name in ("radar", "lores", "hires"):
        metadata = Archive(out / f"{name}.pmtiles").metadata
        assert metadata["procedural"] is True
        assert metadata["attribution"].startswith("Procedural")
    tiles = pd.read_parquet(out / "tiles.parquet")
    assert tiles.gcp_residual_px.lt(0.05).eq(tiles.sensor == "radar").all()


def test_finer_hires_tiles_average_to_the_coarser_one(out, index):
    hires = Archive(out / "hires.pmtiles")
    row = index.iloc[3]
    tile = TileId(int(row.z), int(row.x), int(row.y))
    rows = [[hires.get(*tile.children()[2 * r + c]) for c in range(2)] for r in range(2)]
    fine = np.concatenate([np.concatenate(pair, axis=1) for pair in rows], axis=0)[..., :3]
    means = fine.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    coarse = hires.get(*tile)[..., :3].astype(float)
    assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.98


def test_a_second_call_reads_nothing_and_changes_nothing(catalog, out, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr("salib.curate.run.make_plan", lambda *a, **k: pytest.fail("planned again"))
    assert curate(catalog, out, zoom=ZOOM) == out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_two_processes_give_the_bytes_of_one(catalog, out, tmp_path):
    curate(catalog, tmp_path / "two", zoom=ZOOM, engine=Engine(workers=2))
    assert digests(tmp_path / "two") == digests(out)


SCRIPT = "import sys; from salib.curate import curate; curate(*sys.argv[1:], zoom=14)"


def test_a_killed_run_resumes_to_the_same_bytes(catalog, out, tmp_path, monkeypatch):
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(catalog), str(folder)], stderr=subprocess.DEVNULL
    )
    while not (kept := list(folder.glob(".shards/*.arrow"))):
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob(".shards/[0-9]*.arrow")}
    assert not any((folder / name).exists() for name in OUTPUTS if name != "scenes.json")
    done = []
    monkeypatch.setattr("salib.curate.run.commit", lambda block: done.append(commit(block)))
    curate(catalog, folder, zoom=ZOOM)
    assert kept
    assert not set(kept) & set(done)
    assert digests(folder) == digests(out)


def test_a_second_run_into_a_folder_is_kept_out_until_the_first_ends(catalog, out, tmp_path):
    folder = tmp_path / "shared"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(catalog), str(folder)], stderr=subprocess.DEVNULL
    )
    while not list(folder.glob(".shards/*.arrow")):
        assert process.poll() is None
        time.sleep(0.002)
    with pytest.raises(InUseError, match="Another run is writing to"):
        curate(catalog, folder, zoom=ZOOM)
    assert process.wait() == 0
    curate(catalog, folder, zoom=ZOOM)
    assert digests(folder) == digests(out)
    assert {path.name for path in folder.iterdir()} == {*OUTPUTS, "made_from.json"}


def test_an_interrupted_finish_leaves_no_index_and_resumes(catalog, out, tmp_path, monkeypatch):
    folder = tmp_path / "finish"
    with monkeypatch.context() as patch:
        patch.setattr("salib.curate.output.write_archive", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            curate(catalog, folder, zoom=ZOOM)
    assert {path.name for path in folder.iterdir()} == {".shards", "scenes.json"}
    monkeypatch.setattr("salib.curate.run.commit", lambda block: pytest.fail("rendered again"))
    curate(catalog, folder, zoom=ZOOM)
    assert digests(folder) == digests(out)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("hires.pmtiles", lambda path: path.write_bytes(path.read_bytes()[:-5000])),
        ("hires.pmtiles", lambda path: shutil.copy(path.parent / "lores.pmtiles", path)),
        ("index.parquet", lambda path: path.unlink()),
        ("index.parquet", lambda path: path.write_bytes(b"junk")),
        ("index.parquet", lambda path: shutil.copy(path.parent / "tiles.parquet", path)),
        ("scenes.json", lambda path: path.write_bytes(b"junk")),
        ("tiles.parquet", lambda path: shutil.copy(path.parent / "index.parquet", path)),
    ],
    ids=[
        "truncated",
        "another archive",
        "absent",
        "junk",
        "tiles",
        "no scenes",
        "index",
    ],
)
def test_a_damaged_or_absent_output_is_made_again(catalog, out, tmp_path, name, damage):
    folder = shutil.copytree(out, tmp_path / "cut")
    damage(folder / name)
    (folder / ".notes.part").write_text("somebody's")
    curate(catalog, folder, zoom=ZOOM)
    assert (folder / ".notes.part").read_text() == "somebody's"
    (folder / ".notes.part").unlink()
    assert digests(folder) == digests(out)


def stopped(catalog, folder, monkeypatch, blocks, **options):
    """Curate until so many blocks are rendered; their files."""
    left = list(range(blocks))

    def one_less(block):
        left.pop()
        return commit(block)

    with monkeypatch.context() as patch:
        patch.setattr("salib.curate.run.commit", one_less)
        with pytest.raises(IndexError):
            curate(catalog, folder, zoom=ZOOM, **options)
    return set(folder.glob(".shards/[0-9]*.arrow"))


def test_code_edits_neither_read_a_scene_again_nor_go_unsaid(catalog, out, tmp_path, monkeypatch):
    folder, said, done = tmp_path / "edited", [], []
    before = stopped(catalog, folder, monkeypatch, 3)
    assert len(before) == 3
    monkeypatch.setattr("salib.curate.run.source_digest", lambda module: "edited" * 8)
    with monkeypatch.context() as patch:
        patch.setattr("salib.curate.run.commit", lambda b: done.append(commit(b)))
        curate(catalog, folder, zoom=ZOOM, report=said.append)
    assert done
    assert not before & set(done)
    assert digests(folder) == digests(out)
    assert [line for line in said if "resuming: 3 of" in line and "the code has changed" in line]
    said.clear()
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr("salib.curate.run.source_digest", lambda module: "again" * 8)
    curate(catalog, folder, zoom=ZOOM, report=said.append)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    (line,) = said
    assert line.startswith(f"kept: {folder} ")
    assert "the code has changed since, editeded to againaga" in line


def test_a_raised_recipe_asks_before_it_replaces(catalog, out, tmp_path, monkeypatch):
    folder = shutil.copytree(out, tmp_path / "recipe")
    monkeypatch.setitem(RECIPES, "curate", RECIPES["curate"] + 1)
    with pytest.raises(ValueError, match="with tiles that differ in recipe: choose"):
        curate(catalog, folder, zoom=ZOOM)
    assert digests(folder) == digests(out)


def test_unfinished_tiles_of_other_arguments_stay_until_asked(catalog, tmp_path, monkeypatch):
    before = stopped(catalog, tmp_path, monkeypatch, 2)
    with pytest.raises(ValueError, match="unfinished tiles that differ in quant: choose another"):
        curate(catalog, tmp_path, zoom=ZOOM, quant="released")
    assert set(tmp_path.glob(".shards/[0-9]*.arrow")) == before
    curate(catalog, tmp_path, zoom=ZOOM, quant="released", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS, "made_from.json"}


def test_what_others_made_is_not_replaced_even_when_asked(catalog, out, tmp_path):
    folder = shutil.copytree(out, tmp_path / "noted")
    (folder / "notes.txt").write_text("somebody's")
    with pytest.raises(ValueError, match=r"out must be new.* with 'notes\.txt': all is kept"):
        curate(catalog, folder, zoom=ZOOM, quant="released", overwrite=True)
    assert digests(folder) == digests(out)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(out / "radar.pmtiles", alone)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"with 'radar\.pmtiles': all is kept"):
            curate(catalog, alone, zoom=ZOOM, overwrite=overwrite)
    assert file_digest(alone / "radar.pmtiles") == digests(out)["radar.pmtiles"]


def test_half_written_files_of_a_killed_run_go_and_those_of_others_stay(catalog, tmp_path):
    ours, other = (tmp_path / name for name in (".0123456789abcdef.part", ".notes.part"))
    for path in (other, ours):
        path.write_text("half")
    curate(catalog, tmp_path, zoom=ZOOM)
    assert other.is_file()
    assert not ours.is_file()


def test_other_arguments_replace_the_output_only_when_asked(catalog, out, tmp_path):
    folder = tmp_path / "again"
    row = geopandas.read_parquet(out / "index.parquet").iloc[0]
    bbox = row.geometry.bounds
    curate(catalog, folder, zoom=ZOOM, area=bbox)
    one = geopandas.read_parquet(folder / "index.parquet")
    assert one.tile_id.tolist() == [row.tile_id]
    first = Archive(folder / "radar.pmtiles").get(row.z, row.x, row.y)
    before = digests(folder)
    with pytest.raises(ValueError, match="with tiles that differ in quant: choose another folder"):
        curate(catalog, folder, zoom=ZOOM, area=bbox, quant="released")
    assert digests(folder) == before
    curate(catalog, folder, zoom=ZOOM, area=bbox, quant="released", overwrite=True)
    released = Archive(folder / "radar.pmtiles").get(row.z, row.x, row.y)
    differs = (first != released).any(axis=2)
    assert differs.any()
    assert (first[differs].max(axis=1) == 255).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"zoom": 3}, "zoom must be between 8 and 20, got 3"),
        ({"quant": "db"}, "quant must be one of paper, released, got 'db'"),
        ({"encoding": "jpeg"}, "encoding must be one of png, webp, got 'jpeg'"),
        ({"min_valid": 1.2}, "min_valid must lie between 0 and 1"),
        ({"valid_share": 1.0}, "valid_share must be at least 0 and less than 1"),
        ({"valid_share": -0.1}, "valid_share must be at least 0 and less than 1"),
        ({"area": (1, 2, 3)}, "bbox must be .* got 3 values"),
        ({"area": (10, 10, 11, 11)}, "search must find a scene"),
        ({"area": (-98.4, 38.499, -98.399, 38.5)}, "area must hold a tile of zoom 14"),
        ({"zoom": 8}, "area must hold a tile of zoom 8 .* raise zoom"),
        ({"rules": Rules(dates="2019-01-01/2019-02-01")}, "search must find a scene"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(catalog, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        curate(catalog, tmp_path / "out", **{"zoom": ZOOM} | options)
    assert not (tmp_path / "out").exists()


def test_a_missing_catalogue_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"catalog must be a catalog\.json on disk"):
        curate(tmp_path / "catalog.json", tmp_path / "out", zoom=ZOOM)


def test_a_missing_scene_file_is_refused(tmp_path):
    catalog = write_small_world(tmp_path / "world", km=3)
    (tmp_path / "world" / "s1-0-vh.tif").unlink()
    with pytest.raises(ValueError, match="asset of S1_0 must exist"):
        curate(catalog, tmp_path / "out", zoom=ZOOM)
    assert not (tmp_path / "out").exists()


def test_fetched_archives_are_not_replaced(catalog, tmp_path):
    (tmp_path / "radar.pmtiles").write_bytes(b"20 GB")
    with pytest.raises(ValueError, match="must be new, empty or written by the same command"):
        curate(catalog, tmp_path, zoom=ZOOM)
    assert (tmp_path / "radar.pmtiles").read_bytes() == b"20 GB"


def test_a_changed_item_is_curated_again_when_asked(tmp_path):
    catalog = write_small_world(tmp_path / "world", km=3)
    folder = curate(catalog, tmp_path / "out", zoom=ZOOM)
    before = json.loads((folder / "made_from.json").read_text())
    item = next((tmp_path / "world").glob("**/S2_0.json"))
    item.write_text(item.read_text().replace('"eo:cloud_cover": 3.0', '"eo:cloud_cover": 9.0'))
    with pytest.raises(ValueError, match="with tiles that differ in items: choose"):
        curate(catalog, folder, zoom=ZOOM)
    curate(catalog, folder, zoom=ZOOM, overwrite=True)
    after = json.loads((folder / "made_from.json").read_text())
    assert {key for key in before if before[key] != after[key]} <= {"items", "files"}
    assert before["items"] != after["items"]
    assert Archive(folder / "lores.pmtiles").metadata["scenes"] == ["S2_1", "S2_0"]


def test_the_plan_takes_no_scene_it_does_not_need(catalog):
    scenes = search_all(find_items(catalog, Rules(), None))
    plan = make_plan(scenes, zoom=ZOOM, area=shapely.box(-98.4, 38.45, -98.36, 38.49))
    assert [scene.id for scene in plan.scenes["lores"]] == ["S2_0"]


@pytest.mark.parametrize("least", [0.5, 0.95])
def test_the_plan_holds_the_tiles_that_every_sensor_covers(catalog, least):
    scenes = search_all(find_items(catalog, Rules(), None))
    seen = {n: shapely.union_all([one.footprint for one in scenes[n]]) for n in SENSOR_NAMES}
    area = shapely.union_all([*seen.values()]).envelope
    plan = make_plan(scenes, zoom=ZOOM, area=area, min_valid=least)
    lacks = {}
    for tile in tiles_of_bbox(area.bounds, ZOOM):
        box = shapely.box(*tile_bounds(tile))
        lacks[tile] = [
            name for name in SENSOR_NAMES if seen[name].intersection(box).area < least * box.area
        ]
    assert set(plan.tiles) == {tile for tile, sensors in lacks.items() if not sensors}
    counts = {name: sum(name in lacking for lacking in lacks.values()) for name in SENSOR_NAMES}
    assert plan.uncovered == {name: count for name, count in counts.items() if count}


def test_a_block_gets_the_scenes_that_meet_it_best_first(catalog, tmp_path):
    plan = make_plan(search_all(find_items(catalog, Rules(), None)), zoom=ZOOM)
    blocks = make_blocks(plan, tmp_path)
    assert sorted(tile for block in blocks for tile in block.tiles) == sorted(plan.tiles)
    several = 0
    for block in blocks:
        ground = shapely.union_all([shapely.box(*tile_bounds(tile)) for tile in block.tiles])
        for sensor, scenes in plan.scenes.items():
            meeting = [scene.id for scene in scenes if scene.footprint.intersects(ground)]
            given = [scene.id for scene in block.scenes[sensor]]
            assert [name for name in given if name in meeting] == meeting
            several += len(meeting) > 1
    assert several > 0


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35])
def test_neighbours_share_a_split_and_no_more_than_the_share_is_held_out(share):
    tiles = [TileId(14, 3700 + x, 6200 + y) for x in range(67) for y in range(53)]
    splits = split_by_block(tiles, share)
    blocks = {}
    for tile, split in splits.items():
        blocks.setdefault(tile.parent(4), set()).add(split)
    assert all(len(found) == 1 for found in blocks.values())
    held = sum(split == "valid" for split in splits.values())
    assert 0.5 * share * len(tiles) < held <= share * len(tiles)
    assert split_by_block(tiles[::-1], share) == splits


def test_a_share_smaller_than_every_block_is_held_out_in_smaller_blocks():
    tiles = [TileId(14, 16 * 200 + x, 16 * 300 + y) for x in range(16) for y in range(11)]
    for share in (0.01, 0.1, 0.5):
        held = sum(split == "valid" for split in split_by_block(tiles, share).values())
        assert 0.5 * share * len(tiles) <= held <= share * len(tiles)
    assert set(split_by_block(tiles[:9], 0.1).values()) == {"train"}  # not a whole tile


def test_a_share_of_0_trains_on_all_and_1_is_refused():
    tiles = [TileId(14, 40 * x, 40 * y) for x in range(7) for y in range(5)]
    assert set(split_by_block(tiles, 0).values()) == {"train"}
    assert split_by_block([], 0.1) == {}
    for share in (-0.1, 1, 1.5):
        with pytest.raises(ValueError, match="valid_share must be at least 0 and less than 1, got"):
            split_by_block(tiles, share)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.4])
def test_no_ground_of_valid_is_in_train_whichever_zooms_there_are(share):
    tiles = [TileId(12, 31 + x, 17 + y) for x in range(11) for y in range(7)]
    tiles += [child for tile in tiles[::3] for child in tile.children(2)]
    tiles += [TileId(8, 5, 3)]
    held = {split: [] for split in ("train", "valid")}
    for tile, split in split_by_block(tiles, share).items():
        held[split].append(tile)
    assert 0 < len(held["valid"]) <= share * len(tiles)
    for one in held["valid"]:
        for other in held["train"]:
            levels = one.z - other.z
            assert (one.parent(levels) != other) if levels > 0 else (other.parent(-levels) != one)


def test_webp_holds_the_pixels_of_png_and_both_are_sound(catalog, out, index, tmp_path):
    box = index.geometry.iloc[0].buffer(-1e-6).bounds
    small = curate(catalog, tmp_path / "webp", zoom=ZOOM, area=box, encoding="webp")
    for name in SENSOR_NAMES:
        smaller, whole = (Archive(folder / f"{name}.pmtiles") for folder in (small, out))
        assert verify(smaller.path) == verify(whole.path) == []
        for tile in smaller.tiles():
            assert image_format(smaller.read(*tile)) == "webp"
            found, expected = smaller.get(*tile), whole.get(*tile)
            np.testing.assert_array_equal(found[..., :3], expected[..., :3])
            alpha = found[..., 3] if found.shape[2] == 4 else 255  # dropped where all is opaque
            assert (expected[..., 3] == alpha).all()
