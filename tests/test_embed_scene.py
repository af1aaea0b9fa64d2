"""Embedding maps: places, windows, interruptions, types, bad input, and search over them."""

import json
import math
import os
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import dask
import distributed
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import torch
from affine import Affine
from curate_scenes import lonlat, texture, utm, write_utm
from embed_models import DIM, PATCH, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from sklearn.metrics.pairwise import cosine_similarity

from salib import build_model, load_model
from salib.config import KINDS
from salib.curate import Engine
from salib.files.artifact import only_writer
from salib.mapping import embed_scene, open_scene, similar
from salib.mapping import vectors as vectors_module
from salib.mapping.geotiff import stretches
from salib.mapping.vectors import embed_window
from salib.model import save_model
from salib.rasters.ground import ground_gsd_m

EPSG, WEST, NORTH, GSD = 32633, 431_000.0, 5_400_000.0, 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "scale_alibi", 3)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def picture(rows, cols, seed=0, bands=3):
    layers = [texture((rows, cols), seed + 10 * band) for band in range(bands)]
    return np.stack(layers).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image():
    return picture(23 * PATCH, 31 * PATCH)


@pytest.fixture(scope="module")
def path(image, tmp_path_factory):
    found = tmp_path_factory.mktemp("scene") / "scene.tif"
    write_utm(found, image, EPSG, WEST, NORTH, GSD)
    return found


def embed(path, folder, out, sensor="lores", *, reading=None, **options):
    chosen = {"window": 11, "overlap": 4, "precision": "float32"}
    return embed_scene(open_scene(path, sensor, **(reading or {})), folder, out, **chosen | options)


def test_a_second_run_for_one_map_is_kept_out_and_the_first_ends_whole(path, folder, tmp_path):
    out, room = tmp_path / "map.tif", tmp_path / ".map.tif.parts"
    with only_writer(room), pytest.raises(OSError, match="Another run is writing"):
        embed(path, folder, out)
    assert not out.exists()
    assert np.isfinite(values(embed(path, folder, out))).all()
    assert list(tmp_path.iterdir()) == [out]


def test_a_window_that_was_emptied_is_embedded_again(path, folder, tmp_path, monkeypatch):
    whole = values(embed(path, folder, tmp_path / "whole.tif"))
    out = tmp_path / "map.tif"
    with monkeypatch.context() as patch:
        patch.setattr("salib.mapping.run.write_geotiff", lambda *each: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            embed(path, folder, out)
    window = sorted((tmp_path / ".map.tif.parts").rglob("*.safetensors"))[1]
    window.write_bytes(b"")
    np.testing.assert_array_equal(values(embed(path, folder, out)), whole)


def test_a_scene_that_its_alpha_band_hides_is_refused(path, image, folder, tmp_path, monkeypatch):
    hidden, out, said = tmp_path / "hidden.tif", tmp_path / "map.tif", []
    for corner in (0, 255):
        alpha = np.zeros(image.shape[1:], np.uint8)
        alpha[:PATCH, :PATCH] = corner
        write_utm(hidden, [*image, alpha], EPSG, WEST, NORTH, GSD, overviews=())
        with rasterio.open(hidden, "r+") as file:
            file.colorinterp = [*file.colorinterp[:3], rasterio.enums.ColorInterp.alpha]
        if not corner:
            with pytest.raises(ValueError, match="scene must have a patch with data"):
                embed(hidden, folder, out, reading={"bands": [1, 2, 3]})
            assert list(tmp_path.iterdir()) == [hidden]
            with monkeypatch.context() as patch:  # windows of another scene wait for this map
                patch.setattr("salib.mapping.run.write_geotiff", lambda *each: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    embed(path, folder, out)
            windows = set(tmp_path.rglob("*.safetensors"))
            with pytest.raises(ValueError, match="scene must have a patch with data"):
                embed(hidden, folder, out, reading={"bands": [1, 2, 3]})
            assert windows
            assert set(tmp_path.rglob("*.safetensors")) == windows
    embed(hidden, folder, out, reading={"bands": [1, 2, 3]}, report=said.append)
    assert any("% of the map has no data" in line for line in said)


def values(path):
    """Vectors of a map, dimensions last, with the file's own scales and nodata."""
    with rasterio.open(path) as file:
        found = file.read(masked=True).astype(np.float64).filled(np.nan)
        return (found * np.array(file.scales)[:, None, None]).transpose(1, 2, 0)


def tags(path):
    with rasterio.open(path) as file:
        return file.tags()


def whole_scene(model, image, gsd_m, sensor="lores"):
    rows, cols = image.shape[1] // PATCH, image.shape[2] // PATCH
    levels = torch.from_numpy(image[None, :, : rows * PATCH, : cols * PATCH].copy())
    return model.embed(levels, sensor, gsd_m, tokens=True)[0].reshape(rows, cols, -1).numpy()


@given(patches=st.integers(1, 400), window=st.integers(2, 40), overlap=st.integers(1, 39))
@settings(max_examples=200, deadline=None, database=None)
def test_windows_cover_every_patch_and_share_what_is_asked(patches, window, overlap):
    overlap = min(overlap, window - 1)
    found = stretches(patches, window, overlap)
    assert {patch for s in found for patch in range(s.start, s.stop)} == set(range(patches))
    assert all(s.stop - s.start == min(window, patches) for s in found)
    assert all(a.stop - b.start >= overlap for a, b in pairwise(found))
    fewest = 1 + max(0, math.ceil((patches - window) / (window - overlap)))
    assert len(found) == fewest


def test_windows_that_share_a_patch_are_averaged_more_by_the_one_with_it_in_its_middle(
    folder, model, path, image, tmp_path
):
    reading = {"gsd_m": GSD}
    out = values(embed(path, folder, tmp_path / "map.tif", reading=reading))
    for row, col in ((0, 0), (7, 9), (11, 20), (22, 30)):
        total = weight = 0.0
        for r, c in product(stretches(23, 11, 4), stretches(31, 11, 4)):
            if r.start <= row < r.stop and c.start <= col < c.stop:
                down, across = row - r.start + 0.5, col - c.start + 0.5
                count = (min(down, 11 - down) * min(across, 11 - across)) ** 3
                box = image[:, r.start * PATCH : r.stop * PATCH, c.start * PATCH : c.stop * PATCH]
                seen = whole_scene(model, box, GSD)[row - r.start, col - c.start]
                total, weight = total + count * seen.astype(float), weight + count
        np.testing.assert_allclose(out[row, col], total / weight, rtol=1e-6)


def test_a_scene_of_one_window_is_what_the_model_gives(folder, model, path, image, tmp_path):
    out = embed(path, folder, tmp_path / "map.tif", window=40, reading={"gsd_m": 7.5})
    expected = whole_scene(model, image, 7.5)
    assert (values(out) == expected).all()
    with torch.autocast("cpu", torch.bfloat16):
        half = whole_scene(model, image, 7.5)
    assert (half != expected).any()
    options = {"window": 40, "precision": "bf16", "reading": {"gsd_m": 7.5}}
    assert (values(embed(path, folder, tmp_path / "half.tif", **options)) == half).all()


def test_more_overlap_comes_nearer_to_the_answer_of_a_single_window(tmp_path, model):
    """Where attention is local: heads that attend everywhere see a window however it lies."""
    strong = build_model(replace(model.config, slopes=(1.0, 1.5, 2.0)), 3).eval()
    with torch.no_grad():
        for name, weights in strong.named_parameters():
            if "attention" in name and weights.ndim == 2:
                weights.mul_(3)
    save_model(strong, tmp_path / "strong")
    image = picture(31 * PATCH, 37 * PATCH, 5)
    write_utm(tmp_path / "s.tif", image, EPSG, WEST, NORTH, GSD, overviews=())
    whole, off = whole_scene(strong, image, GSD), []
    for overlap in (1, 5, 8):
        options = {"overlap": overlap, "reading": {"gsd_m": GSD}}
        out = embed(tmp_path / "s.tif", tmp_path / "strong", tmp_path / f"{overlap}.tif", **options)
        off.append(np.abs(values(out) - whole).mean())
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.5 * off[0]


def test_a_marker_is_found_at_its_coordinates(folder, tmp_path):
    """Also on a grid that is turned, and where the last pixels fill no patch."""
    row, col = 13, 6
    image = np.full((3, 21 * PATCH + 3, 17 * PATCH + 1), 90, np.uint8)
    image[:, row * PATCH : (row + 1) * PATCH, col * PATCH : (col + 1) * PATCH] = 240
    turned = Affine.translation(WEST, NORTH) * Affine.rotation(30) * Affine.scale(GSD, -GSD)
    for transform in (Affine(GSD, 0, WEST, 0, -GSD, NORTH), turned):
        name = tmp_path / f"{transform.b:.0f}"
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": f"EPSG:{EPSG}"}
        profile |= {"height": image.shape[1], "width": image.shape[2], "transform": transform}
        with rasterio.open(name.with_suffix(".png.tif"), "w", **profile) as file:
            file.write(image)
        out = embed(name.with_suffix(".png.tif"), folder, name.with_suffix(".tif"))
        vectors = values(out)
        far = np.abs(vectors - np.median(vectors, axis=(0, 1))).sum(axis=2)
        with rasterio.open(out) as file:
            assert file.shape == (21, 17)
            assert file.count == DIM
            assert file.crs == rasterio.crs.CRS.from_epsg(EPSG)
            found = file.xy(*np.unravel_index(far.argmax(), far.shape))
        truth = transform * ((col + 0.5) * PATCH, (row + 0.5) * PATCH)
        assert found == pytest.approx(truth, abs=1e-6)


def test_the_map_says_what_it_was_made_of(folder, path, tmp_path):
    said = tags(embed(path, folder, tmp_path / "a.tif", reading={"attribution": "Photos by A"}))
    assert said["sensor"] == "lores"
    assert (said["patch_px"], said["window_px"], said["overlap_px"]) == ("4", "44", "16")
    assert said["attribution"] == "Photos by A"
    assert said["procedural"] == "false"
    assert float(said["gsd_m"]) == pytest.approx(GSD, rel=1e-3)
    assert str(tmp_path) not in json.dumps(said)
    other = build_model(load_model(folder).config, 4)
    save_model(other, tmp_path / "other")
    assert (
        tags(embed(path, tmp_path / "other", tmp_path / "b.tif"))["model_sha256"]
        != (said["model_sha256"])
    )


def test_a_scene_whose_stac_item_or_tag_calls_it_procedural_stays_so(folder, image, tmp_path):
    write_utm(tmp_path / "image.tif", image, EPSG, WEST, NORTH, GSD)
    item = {"properties": {"platform": "procedural"}, "assets": {"image": {"href": "./other.tif"}}}
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert not open_scene(tmp_path / "image.tif", "lores").procedural
    item["assets"]["image"]["href"] = "./image.tif"
    (tmp_path / "item.json").write_text(json.dumps(item))
    said = tags(embed(tmp_path / "image.tif", folder, tmp_path / "map.tif"))
    assert said["procedural"] == "true"
    assert said["attribution"].startswith("Procedural")
    (tmp_path / "item.json").unlink()
    with rasterio.open(tmp_path / "image.tif", "r+") as file:
        file.update_tags(PROCEDURAL="true")
    assert open_scene(tmp_path / "image.tif", "lores").procedural


@pytest.mark.parametrize(
    ("crs", "lat"),
    [("EPSG:3857", 60.0), ("EPSG:32633", 48.0), ("EPSG:4326", 3.0), ("EPSG:2263", 40.7)],
)
def test_metres_a_pixel_are_those_of_the_ground(crs, lat):
    lon = -74.0 if crs == "EPSG:2263" else 14.0
    project = rasterio.warp.transform("EPSG:4326", crs, [lon], [lat])
    x, y = (side[0] for side in project)
    unit = 1e-4 if crs == "EPSG:4326" else 10.0
    found = ground_gsd_m(crs, Affine(unit, 0, x, 0, -unit, y), col=0, row=0)
    simple = {
        "EPSG:3857": 10 * math.cos(math.radians(lat)),
        "EPSG:32633": 10.0,
        "EPSG:4326": 1e-4 * 111_320 * math.cos(math.radians(lat)) ** 0.5,
        "EPSG:2263": 10 * 0.3048006,
    }[crs]
    assert found == pytest.approx(simple, rel=7e-3)
    (lons, lats) = rasterio.warp.transform(crs, "EPSG:4326", [x, x + 8 * unit], [y, y])
    east = Geod(ellps="WGS84").line_length(lons, lats) / 8
    assert found == pytest.approx(east, rel=4e-3)


def test_each_window_gets_its_own_metres_a_pixel(folder, model, tmp_path):
    """Web Mercator over four degrees of latitude: a patch at the top covers less ground."""
    image = picture(31 * PATCH, 9 * PATCH)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:3857"}
    y, size = 8_400_000.0, 6000.0
    profile |= {"height": image.shape[1], "width": image.shape[2]}
    with rasterio.open(
        tmp_path / "s.tif", "w", **profile, transform=Affine(size, 0, 0, 0, -size, y)
    ) as file:
        file.write(image)
    options = {"window": 9, "overlap": 2}
    out = embed(tmp_path / "s.tif", folder, tmp_path / "map.tif", **options)
    found = values(out)
    windows = stretches(31, 9, 2)
    for before, s, after in zip([None, *windows], windows, [*windows[1:], None], strict=False):
        alone = range(before.stop if before else 0, after.start if after else 31)
        middle = y - (s.start + s.stop) / 2 * PATCH * size
        lat = rasterio.warp.transform("EPSG:3857", "EPSG:4326", [0], [middle])[1][0]
        window = image[:, s.start * PATCH : s.stop * PATCH]
        near = whole_scene(model, window, size * math.cos(math.radians(lat)))
        wrong = whole_scene(model, window, size)
        kept = slice(alone.start - s.start, alone.stop - s.start)
        off = np.abs(found[alone.start : alone.stop] - near[kept]).mean()
        assert off < 0.05 * np.abs(found[alone.start : alone.stop] - wrong[kept]).mean()
    least, most = map(float, tags(out)["gsd_m_range"].split())
    assert least < 0.95 * most


def test_pixels_without_data_reach_no_vector(folder, model, image, tmp_path):
    """Patches mostly without data are NaN, and what lies in the file there does not matter."""
    holes = np.zeros(image.shape[1:], bool)
    holes[: 5 * PATCH, 2 * PATCH : 9 * PATCH] = True
    holes[9 * PATCH : 9 * PATCH + 1, 9 * PATCH : 12 * PATCH] = True  # a quarter of three patches
    found = []
    for fill in (0, 200):
        pixels = np.where(holes, fill, np.maximum(image, 1)).astype(np.uint8)
        alpha = np.where(holes, 0, 255).astype(np.uint8)
        where = tmp_path / f"{fill}.tif"
        write_utm(where, [*pixels, alpha], EPSG, WEST, NORTH, GSD, overviews=())
        with rasterio.open(where, "r+") as file:
            file.colorinterp = [*file.colorinterp[:3], rasterio.enums.ColorInterp.alpha]
        found.append(values(embed(where, folder, tmp_path / f"map{fill}.tif")))
    empty = np.isnan(found[0])
    assert empty.any(axis=2).tolist() == empty.all(axis=2).tolist()
    expected = np.zeros(empty.shape[:2], bool)
    expected[:5, 2:9] = True
    assert (empty[..., 0] == expected).all()
    np.testing.assert_array_equal(found[0], found[1])
    levels, valid = open_scene(tmp_path / "0.tif", "lores").read(0, 0, 8 * PATCH, 8 * PATCH)
    alone = embed_window(model, {"lores": (levels, valid)}, {"lores": GSD})
    right = model.embed(torch.from_numpy(levels[None, :, 5 * PATCH :]), "lores", GSD, tokens=True)
    assert np.abs(alone[5:].reshape(-1, DIM) - right[0].numpy()).mean() < 0.1
    assert np.isnan(embed_window(model, {"lores": (levels, ~valid & False)}, {"lores": GSD})).all()


def test_values_become_levels_by_the_stated_stretch_and_radar_as_in_curation(
    folder, model, image, tmp_path
):
    numbers = image.astype(np.uint16) * 10
    write_utm(tmp_path / "dn.tif", numbers[[2, 0, 1]], EPSG, WEST, NORTH, GSD)
    reading = {"level_255": 2550, "bands": (2, 3, 1), "gsd_m": GSD}
    out = embed(tmp_path / "dn.tif", folder, tmp_path / "a.tif", window=50, reading=reading)
    assert (values(out) == whole_scene(model, image, GSD)).all()
    floats = np.where(image == image[:, :1, :1], np.nan, image / 255.0).astype(np.float32)
    write_utm(tmp_path / "f.tif", floats, EPSG, WEST, NORTH, GSD)
    levels, valid = open_scene(tmp_path / "f.tif", "lores", level_255=1).read(0, 0, 31, 23)
    assert (valid == np.isfinite(floats[:, :23, :31]).all(axis=0)).all()
    assert (levels[:, valid] == image[:, :23, :31][:, valid]).all()
    amplitude = np.stack([picture(40, 40, 5, 1)[0], picture(40, 40, 6, 1)[0]]).astype(np.uint16) * 7
    write_utm(tmp_path / "sar.tif", amplitude, EPSG, WEST, NORTH, GSD)
    radar = np.minimum(amplitude.astype(int) * 256 // 1000, 255).astype(np.uint8)
    write_utm(tmp_path / "db.tif", -amplitude.astype(np.float32), EPSG, WEST, NORTH, GSD)
    with pytest.raises(ValueError, match=r"16-bit amplitudes, got float32.*--unit"):
        open_scene(tmp_path / "db.tif", "radar")
    out = embed(tmp_path / "sar.tif", folder, tmp_path / "b.tif", "radar", reading={"gsd_m": GSD})
    assert (values(out) == whole_scene(model, radar, GSD, "radar")).all()


def test_smaller_types_keep_vectors_within_their_step(folder, image, tmp_path):
    alpha = np.full(image.shape[1:], 255, np.uint8)
    alpha[: 2 * PATCH, : 3 * PATCH] = 0
    write_utm(tmp_path / "s.tif", [*image, alpha], EPSG, WEST, NORTH, GSD, overviews=())
    found = {}
    for kind in ("float32", "float16", "int8"):
        options = {"dtype": kind, "reading": {"bands": (1, 2, 3)}}
        found[kind] = embed(tmp_path / "s.tif", folder, tmp_path / f"{kind}.tif", **options)
    exact = values(found["float32"])
    np.testing.assert_array_equal(values(found["float16"]), exact.astype(np.float16))
    with rasterio.open(found["int8"]) as file:
        steps, stored = np.array(file.scales), file.read()
    assert (np.abs(values(found["int8"]) - exact) <= 0.501 * steps)[np.isfinite(exact)].all()
    assert (np.isnan(values(found["int8"])) == np.isnan(exact)).all()
    assert (np.abs(stored.astype(int) * (stored != -128)).max(axis=(1, 2)) == 127).all()


def test_workers_processes_and_dask_change_no_byte(folder, path, tmp_path):
    one = embed(path, folder, tmp_path / "one.tif").read_bytes()
    two = embed(path, folder, tmp_path / "two.tif", engine=Engine(workers=2))
    assert two.read_bytes() == one
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        how = Engine(name="dask", scheduler=cluster.scheduler_address)
        assert embed(path, folder, tmp_path / "dask.tif", engine=how).read_bytes() == one


MOMENTS = ("between windows", "while putting together")


@pytest.fixture(scope="module")
def killed(folder, path, tmp_path_factory):
    """Two runs that were killed: in the midst of the fourth window, and of the second block."""
    root = tmp_path_factory.mktemp("killed")
    script = """
import os, sys
from salib.mapping import embed_scene, geotiff, open_scene, run
def work(job, real=run.embed_job, done=[]):
    if len(done) == 3:
        job.path.with_suffix(".part").write_bytes(b"half")
        os.kill(os.getpid(), 9)
    done.append(real(job))
def read(*given, real=geotiff.WindowFiles.read, done=[]):
    done.append(given)
    return real(*given) if len(done) < 2 else os.kill(os.getpid(), 9)
for number in (0, 1):
    if not os.fork():
        if number:
            geotiff.BLOCK, geotiff.WindowFiles.read = 16, read
        else:
            run.embed_job = work
        embed_scene(open_scene(sys.argv[1], "lores"), sys.argv[2], f"{sys.argv[3]}/{number}.tif",
                    window=11, overlap=4, precision="float32")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -9, number
"""
    subprocess.run([sys.executable, "-c", script, str(path), str(folder), str(root)], check=True)
    return root


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    moment, killed, folder, path, tmp_path, monkeypatch
):
    number = MOMENTS.index(moment)
    out = killed / f"{number}.tif"
    assert not out.exists()
    computed, work, said = [], vectors_module.embed_job, []
    monkeypatch.setattr("salib.mapping.run.embed_job", lambda j: computed.append(j) or work(j))
    resumed = embed(path, folder, out, report=said.append).read_bytes()
    windows = len(stretches(23, 11, 4)) * len(stretches(31, 11, 4))
    there = (3, windows)[number]
    assert len(computed) == windows - there
    assert f"{there} done earlier" in said[0]
    assert not list(killed.glob(f".{number}*"))
    assert resumed == embed(path, folder, tmp_path / "quiet.tif").read_bytes()
    computed.clear()
    embed(path, folder, out, report=said.append)
    assert computed == []
    assert said[-1].startswith("kept")


def test_memory_does_not_grow_with_the_scene(folder, tmp_path, monkeypatch):
    """The largest read is a window, and Python's own memory stays for four times the scene."""
    peaks, sides = [], set()
    for side in (32, 64):
        where = tmp_path / f"{side}.tif"
        write_utm(where, picture(side * PATCH, side * PATCH), EPSG, WEST, NORTH, GSD, overviews=())
        scene = open_scene(where, "lores")
        taken = type(scene).read
        monkeypatch.setattr(
            type(scene), "read", lambda s, *box, take=taken: sides.add(box[2:]) or take(s, *box)
        )
        options = {"window": 16, "overlap": 4, "precision": "float32"}
        tracemalloc.start()
        embed_scene(scene, folder, tmp_path / f"map{side}.tif", **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        monkeypatch.undo()
    assert sides == {(16 * PATCH, 16 * PATCH)}
    assert peaks[1] < 1.3 * peaks[0]


def write(where, pixels, **place):
    profile = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(where, "w", driver="GTiff", dtype=pixels.dtype, **profile, **place) as file:
        file.write(pixels)


def on_grid(x=WEST, y=NORTH, across=GSD, down=GSD, crs=f"EPSG:{EPSG}"):
    return {"crs": crs, "transform": Affine(across, 0, x, 0, -down, y)}


def with_points():
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 8) for c in (0, 8)]
    return {"crs": "EPSG:4326", "gcps": points}


PLAIN = picture(40, 40)


@pytest.mark.parametrize(
    ("pixels", "place", "reading", "options", "says"),
    [
        (PLAIN, with_points(), {}, {}, "ground control points only; warp it"),
        (PLAIN[:2], on_grid(), {}, {}, "must have 3 bands .* got 2: name them .* --bands"),
        (np.concatenate([PLAIN] * 4), on_grid(), {}, {}, "must have 3 bands .* got 12"),
        (PLAIN, on_grid(), {"bands": (1, 2)}, {}, "got --bands 1,2: name one for each"),
        (PLAIN, on_grid(), {"bands": (1, 2, 4)}, {}, r"bands must lie in 1\.\.3"),
        (PLAIN.astype(np.uint16), on_grid(), {}, {}, "8-bit levels, got uint16 .*--level-255"),
        (
            PLAIN.astype(np.complex64),
            on_grid(),
            {"level_255": 9},
            {},
            "real numbers .*got complex64",
        ),
        (PLAIN, on_grid(), {"level_255": 0}, {}, "level_255 must be positive"),
        (PLAIN, on_grid(), {"gsd_m": math.nan}, {}, "gsd_m must be positive"),
        (
            PLAIN,
            on_grid(1e9, 1e9, crs="EPSG:3035"),
            {},
            {},
            "coordinates must be a point on the Earth",
        ),
        (PLAIN[:, :3], on_grid(), {}, {}, "must hold a patch of 4 px, got 40 x 3 px"),
        (PLAIN, on_grid(), {}, {"overlap": 0}, "overlap must be at least 1 .*, got 0"),
        (
            PLAIN,
            on_grid(),
            {},
            {"overlap": 11},
            "overlap must be .*below window=11 patches, got 11",
        ),
        (PLAIN, on_grid(), {}, {"window": 1, "overlap": None}, "below window=1 patches, got 1"),
        (PLAIN, on_grid(), {}, {"dtype": "int16"}, "dtype must be one of float32, float16, int8"),
        (PLAIN, on_grid(), {}, {"precision": "half"}, "precision must be one of"),
        (PLAIN, on_grid(), {}, {"device": "tpu"}, "device must be cpu, cuda or auto"),
        (PLAIN, on_grid(), {}, {"engine": Engine(name="threads")}, "processes or dask"),
        (PLAIN, on_grid(), {}, {"name": "map.zarr"}, r"out must end in \.tif .*GDAL converts"),
        (PLAIN, on_grid(), {}, {"name": "taken.tif"}, "out must not exist or be a map .*delete it"),
    ],
)
def test_bad_input_gets_one_clear_error_and_leaves_nothing(
    pixels, place, reading, options, says, folder, tmp_path
):
    write(tmp_path / "bad.tif", pixels, **place)
    (tmp_path / "taken.tif").write_text("something else")
    out = tmp_path / options.pop("name", "map.tif")
    with pytest.raises(ValueError, match=says) as error:
        embed(tmp_path / "bad.tif", folder, out, reading=reading, **options)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tif", "taken.tif"}
    assert (tmp_path / "taken.tif").read_text() == "something else"


def test_a_file_without_coordinates_is_told_so(folder, tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write(tmp_path / "bare.tif", PLAIN)
    with pytest.raises(ValueError, match=r"georeferenced, got no CRS .*write to a \.parquet"):
        embed(tmp_path / "bare.tif", folder, tmp_path / "map.tif")
    with pytest.raises(ValueError, match=r"Could not read .*none\.tif"):
        embed(tmp_path / "none.tif", folder, tmp_path / "map.tif")


def test_a_model_without_the_sensor_or_a_scheduler_out_of_reach_is_told(
    folder, path, tmp_path, model
):
    croma = build_model(replace(model.config, **KINDS["croma"]), 0)
    save_model(croma, tmp_path / "croma")
    with pytest.raises(ValueError, match="one of the model's, radar, lores, got 'hires'"):
        embed(path, tmp_path / "croma", tmp_path / "map.tif", "hires")
    with pytest.raises(ValueError, match="model folder must hold"):
        embed(path, tmp_path / "none", tmp_path / "map.tif")
    how = Engine(name="dask", scheduler="tcp://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(ValueError, match="Could not reach the Dask scheduler tcp://127"),
    ):
        embed(path, folder, tmp_path / "map.tif", engine=how)


@pytest.fixture(scope="module")
def a_map(folder, tmp_path_factory):
    """A scene with the same picture in two places, without data in a corner, and its map."""
    where = tmp_path_factory.mktemp("map")
    image = picture(37 * PATCH, 45 * PATCH, 8)
    same = np.s_[:, 4 * PATCH : 12 * PATCH, 5 * PATCH : 13 * PATCH]
    image[:, 20 * PATCH : 28 * PATCH, 30 * PATCH : 38 * PATCH] = image[same]
    image = np.maximum(image, 1)
    image[:, : 2 * PATCH, : 2 * PATCH] = 0
    write_utm(where / "s.tif", image, EPSG, WEST, NORTH, GSD, nodata=0)
    return embed(where / "s.tif", folder, where / "map.tif"), where


def test_similar_patches_are_found_with_their_coordinates(a_map):
    path, _ = a_map
    side = GSD * PATCH
    lon, lat = lonlat(WEST + 9.3 * side, NORTH - 8.6 * side, EPSG)
    _, found = similar(path, (lon, lat), top=5, apart=6)
    best = found.iloc[0]
    assert (best["row"], best["col"]) == (8, 9)
    assert best["similarity"] == pytest.approx(1, abs=1e-5)
    second = found.iloc[1]
    assert (second["row"], second["col"]) == (24, 34)
    x, y = utm(second["lon"], second["lat"], EPSG)
    assert (x, y) == pytest.approx((WEST + 34.5 * side, NORTH - 24.5 * side), abs=1e-3)
    places = found[["row", "col"]].to_numpy()
    apart = np.abs(places[:, None] - places[None]).max(axis=2)
    assert (apart[~np.eye(5, dtype=bool)] >= 6).all()
    assert found["similarity"].is_monotonic_decreasing


def test_the_score_is_the_cosine_of_every_patch(a_map):
    path, _ = a_map
    vectors = values(path)
    query = vectors[11, 7]
    flat = vectors.reshape(-1, DIM)
    good = np.isfinite(flat).all(axis=1)
    expected = np.full(len(flat), np.nan)
    expected[good] = cosine_similarity(flat[good], query[None])[:, 0]
    score, places = similar(path, query, top=4000)
    np.testing.assert_allclose(score.ravel(), expected, atol=1e-5)
    assert np.isnan(score[:2, :2]).all()
    assert len(places) == good.sum()


def test_scores_of_an_int8_map_are_those_of_the_vectors(a_map, folder):
    path, where = a_map
    small = embed(where / "s.tif", folder, where / "int8.tif", dtype="int8")
    query = values(path)[11, 7]
    off = similar(small, query)[0] - similar(path, query)[0]
    assert np.nanmax(np.abs(off)) < 0.01
    assert np.isnan(similar(small, query)[0][:2, :2]).all()


@pytest.mark.parametrize(
    ("query", "options", "says"),
    [
        ((0.0, 0.0), {}, r"within the map, .* degrees, got \(0.0, 0.0\)"),
        (lonlat(WEST + 5, NORTH - 5, EPSG), {}, "where the map has data"),
        (np.ones(7), {}, r"vector of 24 numbers, got shape \(7,\)"),
        (np.zeros(DIM), {}, "not zero"),
        (np.ones(DIM), {"top": 0}, "top and apart must be at least 1"),
    ],
)
def test_a_wrong_query_is_refused(query, options, says, a_map):
    with pytest.raises(ValueError, match=says):
        similar(a_map[0], query, **options)


def test_a_map_that_gdal_has_copied_or_added_to_is_searched_as_before(a_map, tmp_path):
    path, _ = a_map
    query = np.arange(DIM) - 3.5
    expected, _ = similar(path, query)
    shutil.copy(path, tmp_path / "more.tif")
    with rasterio.open(tmp_path / "more.tif", "r+") as file:
        file.update_tags(note="shown in QGIS")
        file.build_overviews([2])
    rasterio.shutil.copy(path, tmp_path / "copy.tif", driver="GTiff")
    for name in ("more.tif", "copy.tif"):
        np.testing.assert_array_equal(similar(tmp_path / name, query)[0], expected)


def test_a_map_must_be_one(tmp_path):
    with pytest.raises(ValueError, match="embeddings must be a map by"):
        similar(tmp_path / "none.tif", np.ones(3))


@pytest.mark.real
def test_a_real_scene_is_embedded_at_its_ten_metres(folder, model, tmp_path):
    root = os.environ.get("SALIB_DATA_DIR")
    scenes = sorted(Path(root or "").glob("aligned/terramesh/*/S2RGB.tif")) if root else []
    if not scenes:
        pytest.skip("SALIB_DATA_DIR holds no aligned/terramesh")
    out = embed(scenes[0], folder, tmp_path / "map.tif", window=32)
    with rasterio.open(scenes[0]) as scene, rasterio.open(out) as made:
        assert made.crs == scene.crs
        assert made.bounds == pytest.approx(scene.bounds)
        assert float(made.tags()["gsd_m"]) == pytest.approx(10, rel=2e-3)
        near = whole_scene(model, scene.read(), 10.0)
    assert np.abs(values(out) - near).mean() < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(folder, path, tmp_path):
    here = values(embed(path, folder, tmp_path / "cpu.tif", device="cpu"))
    there = values(embed(path, folder, tmp_path / "gpu.tif", device="cuda"))
    np.testing.assert_allclose(there, here, atol=1e-3)


def test_a_scene_reduces_to_the_mean_of_its_pixels_and_tells_where_they_lie(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32614"}
    place = from_origin(500_000, 4_000_000, 10, 10)
    with rasterio.open(path, "w", height=40, width=60, transform=place, **profile) as file:
        file.write(levels)
    scene = open_scene(path, "lores")
    expected = levels.reshape(3, 4, 10, 6, 10).mean((2, 4))
    assert np.abs(scene.reduced(4, 6) - expected).max() <= 1
    lon, lat = scene.lonlat_at(0, 0)
    assert lon == pytest.approx(-99, abs=1e-6)  # the middle of UTM zone 14
    assert lat == pytest.approx(36.14, abs=0.01)
