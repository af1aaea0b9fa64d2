"""Several sensors of one ground: maps of scenes on different grids, and tables of images."""

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.warp
import torch
from affine import Affine
from curate_scenes import texture
from embed_models import DIM, PATCH, small_model

from salib import build_model, config, load_model
from salib.cli.app import main
from salib.config import KINDS
from salib.curate import Engine
from salib.files.artifact import RECIPES
from salib.mapping import embed_images, embed_scene, open_scene
from salib.mapping import run as run_module
from salib.mapping import vectors as vectors_module
from salib.mapping.scene import on_one_grid
from salib.mapping.vectors import embed_window
from salib.model import save_model
from salib.model.precision import instructions

CRS, WEST, NORTH, GSD = "EPSG:32633", 431_000.0, 5_400_000.0, 10.0
ROWS, COLS = 11, 13
BANDS = {"radar": 2, "lores": 3, "hires": 3}
FACTOR = {"radar": 1, "lores": 1, "hires": 2}
SENSORS = tuple(BANDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "scale_alibi", 5)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def picture(sensor, seed, rows=ROWS * PATCH, cols=COLS * PATCH):
    shape = rows * FACTOR[sensor], cols * FACTOR[sensor]
    layers = [texture(shape, seed + 10 * band) for band in range(BANDS[sensor])]
    return np.stack(layers).clip(1, 250).astype(np.uint8)


def write(path, pixels, transform, crs=CRS, **profile):
    profile |= {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(pixels)
    return path


def grid(gsd=GSD, east=0.0, south=0.0):
    return Affine(gsd, 0, WEST + east, 0, -gsd, NORTH - south)


@pytest.fixture(scope="module")
def images():
    return {name: picture(name, seed) for seed, name in enumerate(SENSORS)}


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    """Scenes whose grids agree, the lores one of more ground than the radar one."""
    root = tmp_path_factory.mktemp("scenes")
    wide = picture("lores", 77, ROWS * PATCH + 12, COLS * PATCH + 20)
    wide[:, 5 : 5 + ROWS * PATCH, 7 : 7 + COLS * PATCH] = images["lores"]
    return {
        "radar": write(root / "radar.tif", images["radar"], grid()),
        "lores": write(root / "lores.tif", wide, grid(east=-7 * GSD, south=-5 * GSD)),
        "hires": write(root / "hires.tif", images["hires"], grid(GSD / 2)),
    }


def opened(paths, **reading):
    return {name: open_scene(path, name, **reading.get(name, {})) for name, path in paths.items()}


def embed(paths, folder, out, *, reading=None, **options):
    chosen = {"window": 40, "precision": "float32", "device": "cpu"} | options
    reading = {"radar": {"gsd_m": GSD}} if reading is None else reading
    return embed_scene(opened(paths, **reading), folder, out, **chosen)


def values(path):
    with rasterio.open(path) as file:
        return file.read().transpose(1, 2, 0)


def tags(path):
    with rasterio.open(path) as file:
        return file.tags()


def whole(model, images, gsd=GSD):
    rows, cols = (side // PATCH for side in images["radar"].shape[1:])
    batch = {name: torch.from_numpy(image[None].copy()) for name, image in images.items()}
    metres = {name: gsd / FACTOR[name] for name in images}
    return model.embed(batch, gsd_m=metres, tokens=True).x[0].reshape(rows, cols, -1).numpy()


@pytest.mark.parametrize("names", [SENSORS, SENSORS[:2]])
def test_a_map_of_one_window_is_what_the_model_gives(names, images, paths, folder, model, tmp_path):
    chosen = {name: paths[name] for name in reversed(names)}  # the order does not matter
    out = embed(chosen, folder, tmp_path / "map.tif")
    expected = whole(model, {name: images[name] for name in names})
    np.testing.assert_allclose(values(out), expected, atol=1e-6)
    with rasterio.open(out) as file, rasterio.open(paths["radar"]) as radar:
        assert file.crs == radar.crs
        assert file.bounds == radar.bounds
    said = tags(out)
    assert said["sensor"] == "+".join(names)
    assert said["scene"] == "+".join(f"{name}.tif" for name in names)
    assert said["recipe"] == str(RECIPES["embed"])
    assert said["precision"] == "float32"
    assert said["instructions"] == instructions(torch.device("cpu"))
    model.attention_used.clear()
    whole(model, {name: images[name] for name in names})
    assert set(said["attention"].split(",")) == model.attention_used


def test_a_model_trained_with_holes_maps_what_sensors_there_are(
    images, paths, folder, model, tmp_path
):
    chosen = {name: paths[name] for name in ("radar", "hires")}
    with pytest.raises(ValueError, match=r"got radar, hires without lores: .*sensor_dropout"):
        embed(chosen, folder, tmp_path / "none.tif")
    partial = build_model(replace(model.config, partial=True), 5).eval()
    partial.load_state_dict(model.state_dict())
    out = embed(chosen, save_model(partial, tmp_path / "partial"), tmp_path / "map.tif")
    expected = whole(partial, {name: images[name] for name in chosen})
    np.testing.assert_allclose(values(out), expected, atol=1e-6)
    assert not np.allclose(expected, whole(model, images), atol=1e-3)


def test_every_window_covers_one_ground_in_all_sensors(images, paths, folder, model, tmp_path):
    """Corners belong to one window alone, and the windows differ in what they see."""
    options = {"window": 7, "overlap": 2}
    found = values(embed(paths, folder, tmp_path / "map.tif", **options))
    for top, left, corner in ((0, 0, (0, 0)), (ROWS - 7, COLS - 7, (-1, -1))):
        cut = {
            name: image[:, n * top * PATCH :, n * left * PATCH :][:, : n * 28, : n * 28]
            for name, image, n in ((name, images[name], FACTOR[name]) for name in SENSORS)
        }
        np.testing.assert_allclose(found[corner], whole(model, cut)[corner], atol=1e-6)


def test_the_metres_told_are_those_of_the_ground_by_sensor(paths, folder, tmp_path, monkeypatch):
    told, real = [], vectors_module.embed_window
    monkeypatch.setattr(
        vectors_module,
        "embed_window",
        lambda m, v, gsd_m, **o: told.append(gsd_m) or real(m, v, gsd_m, **o),
    )
    embed(paths, folder, tmp_path / "map.tif", reading={})
    (metres,) = told
    measured = opened(paths)["radar"].gsd_at(COLS * PATCH / 2, ROWS * PATCH / 2)
    assert metres == {n: pytest.approx(measured / FACTOR[n], rel=1e-9) for n in SENSORS}


TURNED = Affine.translation(WEST + 100, NORTH - 60) * Affine.rotation(-31)
TURNED *= Affine.scale(9, -9) * Affine.translation(-30, -29)
GRIDS = {
    "next zone": ("EPSG:32634", 10.7),
    "web mercator": ("EPSG:3857", 17.0),
    "degrees": ("EPSG:4326", 1.1e-4),
    "much finer": (CRS, 0.7),
    "somewhat finer": ("EPSG:32634", 6.1),
    "finer by half": ("EPSG:32634", 4.7),
    "much coarser": (CRS, 23.0),
    "shifted": (CRS, 10.0),
    "turned": (CRS, TURNED),
}
LEVELS_PER_PX = 10.87
WIDE, HIGH = 5 * PATCH, 3 * PATCH


def ramps(crs, size):
    """A scene that covers the ground of 20 x 12 px, whose levels tell the place of each pixel."""
    corners = [WEST - 90, WEST + WIDE * GSD + 90], [NORTH + 90, NORTH - HIGH * GSD - 90]
    if isinstance(size, Affine):
        transform, rows, cols = size, 61, 59
    else:
        box = (corners[0][0], corners[1][1], corners[0][1], corners[1][0])
        west, south, east, north = rasterio.warp.transform_bounds(CRS, crs, *box)
        transform = Affine(size, 0, west + 0.37 * size, 0, -size, north - 0.41 * size)
        rows, cols = int((north - south) / size), int((east - west) / size)
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x = transform.a * col + transform.b * row + transform.c
    y = transform.d * col + transform.e * row + transform.f
    x, y = (
        np.reshape(side, col.shape)
        for side in rasterio.warp.transform(crs, CRS, x.ravel(), y.ravel())
    )
    east, south = (x - WEST) / GSD, (NORTH - y) / GSD
    levels = np.stack([15 + LEVELS_PER_PX * east, 15 + LEVELS_PER_PX * south, 0 * east + 9])
    return levels.clip(0, 255).round().astype(np.uint8), transform


@pytest.mark.parametrize("sensor", ["lores", "hires"])
@pytest.mark.parametrize("name", GRIDS)
def test_scenes_on_other_grids_land_on_their_ground(name, sensor, tmp_path):
    """To a tenth of a pixel; single pixels to a level more, which rounding may take."""
    crs = GRIDS[name][0]
    paths = {"radar": write(tmp_path / "r.tif", picture("radar", 0, HIGH, WIDE), grid())}
    for each in ("lores", "hires"):
        paths[each] = write(tmp_path / f"{each}.tif", *ramps(*GRIDS[name]), crs)
    views = on_one_grid(opened(paths), SENSORS)
    view, n = views[SENSORS.index(sensor)], FACTOR[sensor]
    left, top, width, height = 3, 2, 16, 9
    levels, valid = view.read(left, top, width, height)
    assert levels.shape == (3, height * n, width * n)
    assert valid.all()
    for axis, start, count in ((0, left, width), (1, top, height)):
        line = 15 + LEVELS_PER_PX * (start + (np.arange(count * n) + 0.5) / n)
        off = levels[axis] - (line[None, :] if axis == 0 else line[:, None])
        tenth = 0.1 * LEVELS_PER_PX / n
        assert abs(off.mean()) < 0.5 * tenth
        assert np.abs(off).max() < tenth + 1
    assert (levels[2] == 9).all()


def test_a_hole_takes_the_nearest_pixels_and_dims_none_beside_it(tmp_path):
    paths = {"radar": write(tmp_path / "r.tif", picture("radar", 0), grid())}
    pixels = np.full((3, ROWS * PATCH, COLS * PATCH), 119, np.uint8)
    pixels[:, 10:17, 20:31] = 0
    off = grid(east=0.37 * GSD, south=-0.41 * GSD)
    paths["lores"] = write(tmp_path / "l.tif", pixels, off, nodata=0)
    _, view = on_one_grid(opened(paths), SENSORS)
    levels, valid = view.read(5, 5, 37, 29)
    expected = np.ones((29, 37), bool)
    expected[5:12, 15:26] = False
    np.testing.assert_array_equal(valid, expected)
    assert (levels[:, valid] == 119).all()


def test_ground_beyond_a_scene_has_no_data(tmp_path):
    """A scene that ends in the midst of the radar scene, also where both lie on one grid."""
    paths = {"radar": write(tmp_path / "r.tif", picture("radar", 0), grid())}
    half = picture("lores", 1)[:, : 5 * PATCH, : 6 * PATCH]
    paths["lores"] = write(tmp_path / "l.tif", half, grid(east=10 * GSD, south=-3 * GSD))
    _, view = on_one_grid(opened(paths), SENSORS)
    levels, valid = view.read(0, 0, COLS * PATCH, ROWS * PATCH)
    expected = np.zeros((ROWS * PATCH, COLS * PATCH), bool)
    expected[: 5 * PATCH - 3, 10 : 10 + 6 * PATCH] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(levels[:, valid], half[:, 3:].reshape(3, -1))


def test_a_lores_scene_elsewhere_makes_another_map(images, paths, folder, tmp_path):
    right = values(embed(paths, folder, tmp_path / "map.tif"))
    with rasterio.open(paths["lores"]) as file:
        pixels, transform = file.read(), file.transform
    moved = write(tmp_path / "moved.tif", pixels, Affine.translation(GSD, 0) * transform)
    wrong = values(embed(paths | {"lores": moved}, folder, tmp_path / "moved_map.tif"))
    assert np.abs(wrong - right).max() > 1e-3


def test_pixels_without_data_blank_their_patches_and_reach_no_vector(paths, folder, tmp_path):
    """Whatever lies there in the file; a patch needs data of all sensors."""
    holes = {"radar": np.s_[1:3, 2:5], "lores": np.s_[4:6, 1:2], "hires": np.s_[8:10, 7:11]}
    expected = np.zeros((ROWS, COLS), bool)
    for hole in holes.values():
        expected[hole] = True
    found = []
    for fill in (0, 251):
        chosen = {}
        for name, (rows, cols) in holes.items():
            side = PATCH * FACTOR[name]
            pixels = picture(name, 31)
            here = np.s_[rows.start * side : rows.stop * side, cols.start * side : cols.stop * side]
            pixels[:, *here] = fill
            place = grid(GSD / FACTOR[name])
            chosen[name] = write(tmp_path / f"{name}{fill}.tif", pixels, place, nodata=fill)
        found.append(values(embed(chosen, folder, tmp_path / f"map{fill}.tif")))
    np.testing.assert_array_equal(np.isnan(found[0]), np.repeat(expected[..., None], DIM, 2))
    np.testing.assert_array_equal(found[0], found[1])
    plain = {n: write(tmp_path / f"{n}.tif", picture(n, 31), grid(GSD / FACTOR[n])) for n in holes}
    full = values(embed(plain, folder, tmp_path / "full.tif"))
    assert np.isfinite(full).all()
    assert np.nanmax(np.abs(found[0] - full)) > 1e-4


def test_encoders_are_shown_only_patches_with_data(images, model):
    """As if each image ended where its data end: south for radar, east for the others."""
    ends = {"radar": (ROWS - 2, COLS), "lores": (ROWS, COLS - 3), "hires": (ROWS, COLS - 5)}
    views, encoded, metres = {}, {}, {name: GSD / FACTOR[name] for name in SENSORS}
    for name, (rows, cols) in ends.items():
        side = PATCH * FACTOR[name]
        valid = np.zeros(images[name].shape[1:], bool)
        valid[: rows * side, : cols * side] = True
        views[name] = images[name], valid
        cut = torch.from_numpy(images[name][None, :, : rows * side, : cols * side].copy())
        pixels = model.encoder(name).standardise[name](cut.float())
        with torch.no_grad():
            tokens = model.tokenize(name, pixels, torch.tensor([metres[name]]))
            encoded[name] = model.encode(name, tokens)
    with torch.no_grad():
        expected = model.fuse(encoded).x[0].reshape(ROWS - 2, COLS, DIM).numpy()
    found = embed_window(model, views, metres)
    np.testing.assert_allclose(found[: ROWS - 2, : COLS - 5], expected[:, : COLS - 5], atol=1e-5)
    assert np.isnan(found[ROWS - 2 :]).all()
    assert np.isnan(found[:, COLS - 5 :]).all()


def test_workers_and_interruptions_change_no_byte(paths, folder, tmp_path, monkeypatch):
    options = {"window": 7, "overlap": 2}
    one = embed(paths, folder, tmp_path / "one.tif", **options).read_bytes()
    two = embed(paths, folder, tmp_path / "two.tif", engine=Engine(workers=2), **options)
    assert two.read_bytes() == one
    with monkeypatch.context() as patch:
        patch.setattr("salib.mapping.run.embed_job", stop_after(3))
        with pytest.raises(ZeroDivisionError):
            embed(paths, folder, tmp_path / "late.tif", **options)
    said = []
    late = embed(paths, folder, tmp_path / "late.tif", report=said.append, **options)
    assert "3 done earlier" in said[0]
    assert late.read_bytes() == one


def stop_after(count):
    work, done = vectors_module.embed_job, []
    return lambda job: done.append(work(job)) if len(done) < count else 1 / 0


def test_an_edit_of_the_code_costs_no_window_and_no_map(paths, folder, tmp_path, monkeypatch):
    options = {"window": 7, "overlap": 2}
    out, said = tmp_path / "map.tif", []
    with monkeypatch.context() as patch:
        patch.setattr("salib.mapping.run.embed_job", stop_after(3))
        with pytest.raises(ZeroDivisionError):
            embed(paths, folder, out, **options)
    monkeypatch.setattr(run_module, "source_digest", lambda *_: "edited")
    embed(paths, folder, out, report=said.append, **options)
    assert "3 done earlier" in said[0]
    assert tags(out)["source"] == "edited"
    embed(paths, folder, out, report=said.append, **options)
    assert said[-1] == f"kept: {out} was made from the same scene and model"
    monkeypatch.setattr(run_module, "source_digest", lambda *_: "edited again")
    embed(paths, folder, out, report=said.append, **options)
    assert said[-1].startswith(f"kept: {out}")
    assert "the code has changed" in said[-1]
    monkeypatch.setitem(RECIPES, "embed", RECIPES["embed"] + 1)
    with pytest.raises(ValueError, match="be made from the same"):
        embed(paths, folder, out, **options)


def test_a_map_of_something_else_is_replaced_only_when_asked_to(paths, folder, tmp_path):
    out = tmp_path / "map.tif"
    embed({"radar": paths["radar"]}, folder, out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"be made from the same, got .* --overwrite"):
        embed(paths, folder, out)
    assert out.read_bytes() == before
    embed(paths, folder, out, overwrite=True)
    assert tags(out)["sensor"] == "radar+lores+hires"
    for other in (paths["lores"], paths["lores"].parent):
        with pytest.raises(ValueError, match="out must"):
            embed({"radar": paths["radar"]}, folder, other, overwrite=True)
    assert paths["lores"].is_file()
    assert sorted(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("names", "change", "says"),
    [
        ((), {}, "one sensor or more, got an empty mapping"),
        (("radar", "hires"), {}, "got radar, hires without lores"),
        (("lores", "hires"), {}, "got lores, hires without radar"),
        (SENSORS, {"model": "croma"}, "one of the model's, radar, lores, got 'hires'"),
        (SENSORS, {"lores": {"gsd_m": 10.0}}, "gsd_m must be stated for radar alone"),
        (("radar", "lores"), {"far": 5e5}, "scenes must overlap, got lores .*far.tif on other"),
        (("radar", "lores"), {"far": 1.5 * GSD * COLS * PATCH}, "scenes must overlap"),
        (("radar", "lores"), {"swap": True}, "by their own sensor, got 'lores' as radar"),
    ],
)
def test_scenes_that_do_not_go_together_get_one_line(
    names, change, says, paths, model, folder, tmp_path
):
    if "model" in change:
        folder = tmp_path / "croma"
        save_model(build_model(replace(model.config, **KINDS["croma"]), 0), folder)
    chosen = {name: paths[name] for name in names}
    if "far" in change:
        place = grid(east=change["far"])
        chosen["lores"] = write(tmp_path / "far.tif", picture("lores", 0), place)
    scenes = opened(chosen, lores=change.get("lores", {}))
    if "swap" in change:
        scenes = {"radar": scenes["lores"], "lores": scenes["radar"]}
    with pytest.raises(ValueError, match=says) as error:
        embed_scene(scenes, folder, tmp_path / "map.tif")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*map.tif*"))


def test_scenes_that_share_ground_but_no_data_are_told(paths, folder, tmp_path):
    blank = write(tmp_path / "blank.tif", 0 * picture("lores", 0), grid(), nodata=0)
    with pytest.raises(ValueError, match=r"patch with data, got none in .*radar.tif with .*blank"):
        embed({"radar": paths["radar"], "lores": blank}, folder, tmp_path / "map.tif")


def test_twelve_bands_of_16_bits_are_embedded_as_they_are(images, model, tmp_path):
    """Alone and with radar: values go in untouched, and 0 in any band is no data."""
    bands, size = len(config.S2_BANDS), (ROWS * PATCH, COLS * PATCH)
    pixels = np.random.default_rng(7).integers(1, 12_000, (bands, *size), dtype=np.uint16)
    pixels[5, 2 * PATCH : 4 * PATCH, 3 * PATCH : 5 * PATCH] = 0
    levels = tuple(
        config.BandStats(mean=(mean,) * count, std=(mean / 2,) * count)
        for mean, count in ((120.0, 2), (6000.0, bands))
    )
    made = replace(model.config, sensors=("radar", "s2"), band_stats=levels)
    twelve = build_model(made, 3).eval()
    folder = save_model(twelve, tmp_path / "twelve")
    paths = {"s2": write(tmp_path / "s2.tif", pixels, grid())}
    alone = values(
        embed(
            paths, folder, tmp_path / "s2_map.tif", reading={"s2": {"gsd_m": GSD, "offset_dn": 0}}
        )
    )
    blank = np.zeros((ROWS, COLS), bool)
    blank[2:4, 3:5] = True
    np.testing.assert_array_equal(np.isnan(alone).any(axis=2), blank)
    view = {"s2": (pixels, pixels.all(axis=0))}
    expected = embed_window(twelve, view, {"s2": GSD})
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    paths["radar"] = write(tmp_path / "radar.tif", images["radar"], grid())
    reading = {"radar": {"gsd_m": GSD}, "s2": {"offset_dn": 0}}
    joint = values(embed(paths, folder, tmp_path / "joint.tif", reading=reading))
    both = {"radar": (images["radar"], np.ones(size, bool))} | view
    expected = embed_window(twelve, both, {"radar": GSD, "s2": GSD})
    np.testing.assert_allclose(joint, expected, atol=1e-6)
    half = open_scene(paths["s2"], "s2", offset_dn=0).reduced(ROWS, COLS)
    assert (half.shape, half.dtype) == ((bands, ROWS, COLS), np.uint16)


@pytest.mark.parametrize(
    ("pixels", "reading", "says"),
    [
        (np.ones((12, 8, 8), np.uint16), {}, "--offset-dn -1000"),
        (np.ones((12, 8, 8), np.uint8), {}, "digital numbers for s2, got uint8"),
        (np.ones((11, 8, 8), np.uint16), {}, "must have 12 bands .*got 11"),
        (np.ones((12, 8, 8), np.uint16), {"level_255": 9.0}, "level_255 must not be given for s2"),
    ],
)
def test_other_values_than_reflectance_of_16_bits_are_refused(pixels, reading, says, tmp_path):
    path = write(tmp_path / "s2.tif", pixels, grid())
    with pytest.raises(ValueError, match=says):
        open_scene(path, "s2", **reading)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(paths, chips, folder, tmp_path):
    here = values(embed(paths, folder, tmp_path / "cpu.tif"))
    there = values(embed(paths, folder, tmp_path / "gpu.tif", device="cuda"))
    np.testing.assert_allclose(there, here, atol=1e-3)
    metres = {"radar": 10.0, "lores": 10.0, "hires": 5.0}
    cpu, gpu = (
        np.stack(
            pd.read_parquet(
                embed_images(chips, folder, tmp_path / f"{d}.parquet", gsd_m=metres, device=d)
            ).embedding
        )
        for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(gpu, cpu, atol=1e-3)


SIZES = [(3, 5), (7, 2), (3, 5), (3, 5), (7, 2)]
"""Of the chips, rows and columns of radar patches."""


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Five grounds in two sizes, a picture of each sensor; radar's VV is green and VH blue."""
    root, found = tmp_path_factory.mktemp("chips"), {name: [] for name in SENSORS}
    for number, (rows, cols) in enumerate(SIZES):
        for name in SENSORS:
            pixels = picture(name, 50 + number, rows * PATCH, cols * PATCH)
            if name == "radar":
                pixels = np.concatenate([0 * pixels[:1], pixels])
            found[name].append(str(root / f"{name}{number}.png"))
            cv2.imwrite(found[name][-1], pixels[::-1].transpose(1, 2, 0))
    return found


def chip(name, number):
    rows, cols = SIZES[number]
    return torch.from_numpy(picture(name, 50 + number, rows * PATCH, cols * PATCH))[None]


def run(arguments, monkeypatch, capsys):
    """Exit code and lines of standard error of the command line."""
    monkeypatch.setattr(sys, "argv", ["salib", "embed", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err.strip().splitlines()


def options_of(files):
    return [word for name, paths in files.items() for path in paths for word in (f"--{name}", path)]


def test_images_of_one_ground_become_rows_in_order(
    chips, folder, model, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "joint.parquet"
    metres = {"radar": 10.0, "lores": 10.0, "hires": 5.0}
    stated = [word for n, value in metres.items() for word in ("--gsd-m", f"{n}={value}")]
    arguments = [*options_of(chips), *stated, "--model", folder, "--out", out]
    assert run(arguments, monkeypatch, capsys) == (0, [])
    rows = pd.read_parquet(out)
    for number, row in enumerate(rows.to_dict("records")):
        alone = model.embed({name: chip(name, number) for name in SENSORS}, gsd_m=metres)[0]
        np.testing.assert_allclose(row["embedding"], alone, atol=1e-5)
        assert [row[f"image_{name}"] for name in SENSORS] == [chips[n][number] for n in SENSORS]
        assert row["gsd_m_hires"] == 5.0
    assert set(rows.sensor) == {"radar+lores+hires"}


def test_images_of_one_sensor_go_in_batches_and_keep_their_order(
    chips, folder, model, tmp_path, monkeypatch
):
    expected = np.stack([model.embed(chip("hires", n), "hires", 0.6)[0] for n in range(5)])
    sizes, real = [], type(model).embed
    monkeypatch.setattr(
        type(model), "embed", lambda s, v, **o: sizes.append(len(v["hires"])) or real(s, v, **o)
    )
    files = {"hires": chips["hires"]}
    for most, parts in ((256, [1, 1, 2, 1]), (1, [1] * 5)):
        out = tmp_path / f"{most}.parquet"
        monkeypatch.setattr("salib.mapping.images.BATCH", most)
        rows = pd.read_parquet(embed_images(files, folder, out, gsd_m={"hires": 0.6}))
        assert sizes == parts
        sizes.clear()
        np.testing.assert_allclose(np.stack(rows.embedding), expected, atol=1e-5)
        assert list(rows.columns) == ["image", "sensor", "gsd_m", "embedding"]
        assert list(rows.image) == chips["hires"]


def test_options_by_sensor_reach_their_scene(images, paths, folder, tmp_path, monkeypatch, capsys):
    """Radar bands in the other order, a fourth band of hires, and reflectances of lores."""
    swapped = write(tmp_path / "vh_vv.tif", images["radar"][::-1], grid())
    numbers = write(tmp_path / "dn.tif", images["lores"].astype(np.uint16) * 10, grid())
    four = np.concatenate([images["hires"], images["hires"][:1] // 2])
    rgbn = write(tmp_path / "rgbn.tif", four, grid(GSD / 2), photometric="MINISBLACK")
    out, files = tmp_path / "map.tif", {"radar": swapped, "lores": numbers, "hires": rgbn}
    arguments = [word for name, path in files.items() for word in (f"--{name}", path)]
    arguments += ["--bands", "radar=2,1", "--bands", "hires=1,2,3", "--level-255", "lores=2550"]
    arguments += ["--gsd-m", "radar=10", "--precision", "float32", "--device", "cpu"]
    arguments += ["--window", 40, "--model", folder, "--out", out]
    code, _ = run(arguments, monkeypatch, capsys)
    assert code == 0
    same = embed(paths, folder, tmp_path / "same.tif")
    np.testing.assert_allclose(values(out), values(same), atol=1e-6)
    assert tags(out)["bands"] == "2,1+1,2,3+1,2,3"
    assert "tmp" not in json.dumps(tags(out))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--radar R --hires H --gsd-m radar=10 --gsd-m hires=5", "without lores"),
        ("--lores L --hires H --gsd-m lores=10 --gsd-m hires=5", "without radar"),
        ("--radar R --lores L --gsd-m radar=10 --gsd-m lores=5", "must show the same ground"),
        ("--radar R --lores L --gsd-m radar=10", "gsd_m must be given for PNG, JPEG, WebP and"),
        ("--radar R --lores L --gsd-m 10", "once for one of radar, lores, such as radar=10"),
        ("--radar R --lores L --gsd-m hires=10", "once for one of radar, lores, such as"),
        ("--radar R --lores L --gsd-m radar=x", "gsd_m must be a number such as 10, got 'x'"),
        ("--radar R --lores L --gsd-m radar=-1 --gsd-m lores=1", "must be positive metres"),
        ("--radar R --radar R --lores L", "as many of each sensor, got 2 of radar, 1 of lores"),
        ("--radar R --lores none.png --gsd-m radar=8", "must be an image file, got none.png"),
        ("L --radar R --gsd-m 10", "or by --radar, --lores and --hires, got both"),
        ("--radar R --lores L --sensor lores", "or by --radar, --lores and --hires, got both"),
        ("--gsd-m 10", "or by --radar, --lores and --hires, got none"),
        ("L --gsd-m 10 --device tpu", "device must be cpu, cuda or auto, got 'tpu'"),
        (
            "--radar R --lores L --hires H --gsd-m radar=8 --gsd-m lores=8 --gsd-m hires=4 -C",
            "sensor must be one of the model's, radar, lores, got 'hires'",
        ),
    ],
)
def test_a_wrong_command_prints_one_line_and_writes_nothing(
    words, says, chips, folder, model, tmp_path, monkeypatch, capsys
):
    if words.endswith(" -C"):
        words, folder = words.removesuffix(" -C"), tmp_path / "croma"
        save_model(build_model(replace(model.config, **KINDS["croma"]), 0), folder)
    files = {"R": chips["radar"][0], "L": chips["lores"][0], "H": chips["hires"][0]}
    arguments = [files.get(word, word) for word in words.split()]
    out = tmp_path / "o.parquet"
    code, lines = run([*arguments, "--model", folder, "--out", out], monkeypatch, capsys)
    assert (code, len(lines)) == (2, 1)
    assert says in lines[0]
    assert not out.exists()


def test_a_joint_map_takes_one_scene_per_sensor(paths, folder, tmp_path, monkeypatch, capsys):
    files = {"radar": [paths["radar"]] * 2, "lores": [paths["lores"]] * 2}
    arguments = [*options_of(files), "--model", folder, "--out", tmp_path / "map.tif"]
    code, lines = run(arguments, monkeypatch, capsys)
    assert (code, len(lines)) == (2, 1)
    assert "must be one scene for a map, got 2" in lines[0]
