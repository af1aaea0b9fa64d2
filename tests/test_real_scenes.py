"""Scenes and chips as others write them: bands, units, zeros, grids; and what has to be stated."""

import math
import os
import types
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from curate_scenes import texture
from embed_models import PATCH, small_model
from PIL import Image
from pyproj import Geod
from rasterio.enums import ColorInterp

import salib
from salib.config import S2_BANDS
from salib.evaluate import folder_task
from salib.evaluate.tasks.class_folders import read_rgb
from salib.evaluate.tasks.task import iter_split
from salib.mapping import embed_images, embed_scene, open_scene
from salib.mapping.images import open_file
from salib.mapping.scene import on_one_grid
from salib.rasters.bands import named_bands
from salib.rasters.radar import sar_to_8bit

ROWS, COLS = 7 * PATCH, 11 * PATCH
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 431_000, 0, -10, 5_400_000)}
COMMON = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08")
COMMON += ("nir09", "swir16", "swir22")
SHORT = tuple(name.replace("B0", "B") for name in S2_BANDS)
OF_GDAL = tuple(f"{name}, central wavelength {n} nm" for n, name in enumerate(SHORT))
THIRTEEN = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
BLOCKS = {"blockxsize": 16384, "blockysize": 16384}
DN = np.random.default_rng(3).integers(1001, 3400, (13, ROWS, COLS)).astype(np.uint16)


def write(path, pixels, *, names=(), colours=(), scales=(), offsets=(), units=(), mask=None, **how):
    how = UTM | {"driver": "GTiff", "count": len(pixels), "dtype": pixels.dtype} | how
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", height=pixels.shape[1], width=pixels.shape[2], **how) as file,
    ):
        file.write(pixels)
        for field in ("colorinterp", "scales", "offsets", "units"):
            given = {"colorinterp": colours, "scales": scales, "offsets": offsets, "units": units}
            if given[field]:
                setattr(file, field, given[field])
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
        if mask is not None:
            file.write_mask(mask)
    return path


def read(path, sensor, **reading):
    scene = open_scene(path, sensor, **reading)
    return scene.read(0, 0, scene.width, scene.height)


def levels(bands=3, seed=0, low=20):
    found = [texture((ROWS, COLS), seed + n, low=low) for n in range(bands)]
    return np.stack(found).clip(1, 255).astype(np.uint8)


def rgb_of(dn, zero=1000):
    """ESA: 255 is a reflectance of 0.2, 2,000 digital numbers above the zero."""
    picked = dn[[3, 2, 1]].astype(float)
    return np.array(
        [
            [[min(255, max(0, round((v - zero) * 0.1275))) for v in row] for row in band]
            for band in picked
        ]
    )


@pytest.mark.parametrize(
    ("name", "bands", "told"),
    [
        ("m_3211605_ne_11_060_20200415.tif", (1, 2, 3), {}),
        ("x.tif", (1, 2, 3), {"colours": ("red", "green", "blue", "undefined")}),
        ("x.tif", (3, 2, 1), {"colours": ("blue", "green", "red", "alpha")}),
        ("x.tif", (4, 2, 1), {"names": ("Blue", "Green", "NIR", "Red")}),
        ("x.tif", (1, 3, 4), {"names": ("B04", "B08", "B03", "B02")}),
    ],
)
def test_four_bands_of_an_aerial_image_give_red_green_and_blue(name, bands, told, tmp_path):
    pixels = levels(4)
    told |= {"colours": [getattr(ColorInterp, each) for each in told.get("colours", ())]}
    path = write(tmp_path / name, pixels, photometric="MINISBLACK", **told)
    found, valid = read(path, "hires")
    np.testing.assert_array_equal(found, pixels[[n - 1 for n in bands]])
    assert valid.all()


STACKS = {
    "numbers": (S2_BANDS, range(12)),
    "short": (SHORT, range(12)),
    "gdal": (OF_GDAL, range(12)),
    "common": (COMMON, range(12)),
    "backwards": (S2_BANDS[::-1], range(12)[::-1]),
    "thirteen": (THIRTEEN, [*range(10), 11, 12]),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("how", ["option", "file", "reflectance"])
def test_a_sentinel_2_stack_is_read_by_its_names_from_numbers_or_reflectance(stack, how, tmp_path):
    names, order = STACKS[stack]
    dn = DN[: len(names)]
    told = {"file": {"scales": (1e-4,) * len(names), "offsets": (-0.1,) * len(names)}}
    given = ((dn.astype(float) - 1000) / 1e4).astype(np.float32) if how == "reflectance" else dn
    path = write(tmp_path / "s2.tif", given, names=names, **told.get(how, {}))
    stated = {"offset_dn": -1000} if how == "option" else {}
    twelve = dn[list(order)]
    found, valid = read(path, "lores", **stated)
    assert np.abs(found.astype(int) - rgb_of(twelve)).max() <= (how == "reflectance")
    assert valid.all()
    found, _ = read(path, "s2", **stated)
    np.testing.assert_array_equal(found, twelve - 1000)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B4", "B3", "B2"), ["", "", ""]),  # Landsat 5: near infrared, red, green
        (("B04", "B03", "B02"), ["B04", "B03", "B02"]),
        (("b01", "b02", "b03", "b04", "b05", "b06", "b07"), [""] * 7),  # MODIS
        (("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B10", "B11"), [""] * 9),  # Landsat 8
        (("B2", "B3", "B4", "B8", "B8A"), ["B02", "B03", "B04", "B08", "B8A"]),
        (("Gamma0_VV_db", "Gamma0_VH_db"), ["VV", "VH"]),
        (("Band 4", "Band 3", "Band 2"), ["", "", ""]),
        (("red", "Green ", "blue (B02)"), ["B04", "B03", "B02"]),
    ],
)
def test_a_band_is_known_by_a_name_of_one_meaning(names, expected):
    assert named_bands(names) == expected


def test_row_20_scale_and_offset_of_a_file_move_its_zero(tmp_path):
    dn = np.full((3, ROWS, COLS), 1500, np.uint16)
    told = {"scales": (1e-4,) * 3, "offsets": (-0.1,) * 3}
    path = write(tmp_path / "s2.tif", dn, **told)
    for reading in ({"level_255": 2000}, {}):
        assert (read(path, "lores", **reading)[0] == 64).all()
    assert (read(path, "lores", level_255=2000, offset_dn=0)[0] == 191).all()
    assert "from 1000 on" in open_scene(path, "lores").says


@pytest.mark.parametrize("sensor", ["lores", "s2"])
def test_a_zero_of_digital_numbers_is_no_data_and_the_least_reflectance_is(sensor, tmp_path):
    dn = np.maximum(DN[:12], 1500)
    dn[:, 0, 0], dn[3, 0, 1], dn[:, 0, 2] = 0, 0, 990
    found, valid = read(write(tmp_path / "s2.tif", dn, names=S2_BANDS), sensor, offset_dn=-1000)
    assert valid[0].tolist()[:4] == [False, False, True, True]
    assert (found[:, 0, 2] == (0 if sensor == "lores" else 1)).all()


POWER = np.exp(np.random.default_rng(5).normal(-3, 1, (2, ROWS, COLS))).astype(np.float32)
RADAR = np.minimum(np.floor(np.floor(526 * np.sqrt(POWER.astype(float))) * 0.256), 255)
IN_UNITS = {
    "power": POWER,
    "amplitude": np.sqrt(POWER),
    "db": 10 * np.log10(POWER),
    "dn": np.float32(526) * np.sqrt(POWER),
}


@pytest.mark.parametrize("unit", IN_UNITS)
@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("told", ["option", "tag"])
def test_radar_of_every_unit_gives_the_levels_of_curation(unit, files, told, tmp_path):
    spelt = {"db": "dB", "power": "linear", "amplitude": "Amplitude", "dn": "DN"}[unit]
    tags = {"units": (spelt,) * (2 // files)} if told == "tag" else {}
    parts = np.split(IN_UNITS[unit].astype(np.float32), files)
    names = ["s1.tif"] if files == 1 else ["s1a-iw-vv-x.tif", "s1a-iw-vh-x.tif"]
    paths = [str(write(tmp_path / n, p, **tags)) for n, p in zip(names, parts, strict=True)]
    for order in (paths, paths[::-1]):  # the names tell which is which
        stated = {"unit": unit} if told == "option" else {}
        found, valid = read(",".join(order), "radar", **stated)
        assert np.abs(found - RADAR).max() <= 1  # on a step of the floor
        assert (found != RADAR).mean() < 0.01
        assert valid.all()


def test_amplitudes_of_16_bits_need_no_unit_and_0_is_no_data(tmp_path):
    dn = (IN_UNITS["dn"] + 1).astype(np.uint16)
    dn[:, :3, :5] = 0
    found, valid = read(write(tmp_path / "grd.tif", dn), "radar")
    np.testing.assert_array_equal(found, sar_to_8bit(dn))
    assert (~valid).sum() == 15


REFUSED = {
    "decibels as power": (IN_UNITS["db"], {}, "radar", {"unit": "power"}, "--unit db"),
    "decibels as amplitude": (IN_UNITS["db"], {}, "radar", {"unit": "amplitude"}, "--unit db"),
    "decibels by a wrong tag": (
        IN_UNITS["db"],
        {"units": ("power",) * 2},
        "radar",
        {},
        "--unit db",
    ),
    "decibels with a range": (IN_UNITS["db"], {}, "radar", {"level_255": 9}, "--unit db"),
    "floats of no unit": (POWER, {}, "radar", {}, "--unit power, amplitude, db or dn"),
    "a unit of none": (POWER, {"units": ("sigma",) * 2}, "radar", {}, "--unit power"),
    "units that differ": (POWER, {"units": ("dB", "power")}, "radar", {}, "--unit power"),
    "16 bits with a sign": (POWER.astype(np.int16), {}, "radar", {}, "--unit power"),
    "a unit of light": (POWER, {}, "radar", {"unit": "reflectance"}, "unit must be one of power"),
    "an offset of radar": (POWER, {}, "radar", {"offset_dn": 0, "unit": "dn"}, "reflectance alone"),
    "other polarisations": (
        POWER,
        {"names": ("HH", "HV")},
        "radar",
        {"unit": "db"},
        "HH, HV: name",
    ),
    "complex": (POWER.astype(np.complex64), {}, "radar", {"unit": "dn"}, "real numbers"),
    "an untold zero": (
        DN[:12],
        {"names": S2_BANDS},
        "lores",
        {},
        "--offset-dn -1000 .* or 0 before",
    ),
    "an untold zero of s2": (DN[:12], {}, "s2", {}, "--offset-dn -1000"),
    "an untold zero of int16": (DN[:12].astype(np.int16), {}, "s2", {}, "--offset-dn"),
    "a range, no zero": (DN[:12], {"names": S2_BANDS}, "lores", {"level_255": 9}, "--offset-dn"),
    "numbers in floats": (DN[:12].astype(np.float32), {"names": S2_BANDS}, "s2", {}, "--unit dn"),
    "numbers as light": (
        *(DN[:12].astype(np.float64), {"names": S2_BANDS}),
        *("lores", {"unit": "reflectance"}, "average, got"),
    ),
    "integers as light": (DN[:12], {}, "s2", {"unit": "reflectance"}, "unit must be dn"),
    "wrapped reflectance": (
        *(np.full((12, ROWS, COLS), 64_500, np.uint16), {"names": S2_BANDS}),
        *("lores", {"offset_dn": 0}, "below 2 on average"),
    ),
    "wrapped reflectance of s2": (
        *(np.full((12, ROWS, COLS), 64_500, np.uint16), {}),
        *("s2", {"offset_dn": 0}, "below 2 on average"),
    ),
    "levels as s2": (np.ones((12, ROWS, COLS), np.uint8), {}, "s2", {}, "got uint8"),
    "unnamed stack": (DN[:12], {}, "lores", {"offset_dn": 0}, "got 12: name them .*--bands"),
    "thirteen unnamed": (DN, {}, "s2", {"offset_dn": 0}, "must have 12 bands .*got 13"),
    "no blue": (DN[:3], {"names": ("B04", "B03", "B08")}, "lores", {}, "B04, B03, B08: name"),
    "red twice": (levels(), {"names": ("red", "red", "blue")}, "hires", {}, "name them"),
    "landsat": (DN[:3], {"names": ("B4", "B3", "B2")}, "lores", {"offset_dn": 0}, "name them"),
    "16 bits": (DN[:3], {}, "lores", {}, "8-bit levels, got uint16 .*--level-255"),
    "16 bits of aerial": (DN[:3], {}, "hires", {}, "--level-255"),
    "8 bits with a scale": (levels(), {"scales": (0.5,) * 3}, "hires", {}, "--level-255"),
    "a unit of levels": (levels(), {}, "lores", {"unit": "dn"}, "unit must not be given for 8-bit"),
    "two bands": (levels(2), {}, "lores", {}, "must have 3 bands .*got 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_reading_that_would_be_guessed_is_refused_with_its_option(case, tmp_path):
    pixels, told, sensor, stated, says = REFUSED[case]
    path = write(tmp_path / "bad.tif", pixels, **told)
    with pytest.raises(ValueError, match=says) as error:
        read(path, sensor, **stated)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sensor", ["lores", "hires"])
@pytest.mark.parametrize("how", ["mask", "alpha", "nodata", "nothing"])
def test_rows_1_and_19_black_is_no_data_where_the_file_or_the_product_says_so(
    sensor, how, tmp_path
):
    pixels = levels()
    pixels[:, :, : COLS // 2] = 0
    seen = np.where(pixels.any(axis=0), 255, 0).astype(np.uint8)
    told = {"mask": {"mask": seen}, "nodata": {"nodata": 0}}.get(how, {})
    given = np.concatenate([pixels, seen[None]]) if how == "alpha" else pixels
    told |= {"alpha": "YES"} if how == "alpha" else {}
    path = write(tmp_path / "x.tif", given, photometric="RGB", **told)
    scene = open_scene(path, sensor)
    _, valid = scene.read(0, 0, COLS, ROWS)
    ground = sensor == "hires" and how == "nothing"
    np.testing.assert_array_equal(valid, (seen > 0) | ground)
    assert ("black counts as ground" in scene.says) == ground


def test_near_infrared_that_is_taken_for_opacity_hides_nothing_on_any_grid(tmp_path):
    pixels = levels(4)
    pixels[3] = np.arange(COLS) % 7 * 20
    how = {"photometric": "RGB", "alpha": "YES"}
    path = write(tmp_path / "m_3211605_ne_11_060_20200415.tif", pixels, **how)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    scene = open_scene(path, "hires")
    plain = open_scene(write(tmp_path / "rgb.tif", pixels[:3]), "hires")
    for one, other in zip(scene.read(0, 0, COLS, ROWS), plain.read(0, 0, COLS, ROWS), strict=True):
        np.testing.assert_array_equal(one, other)
    grid = open_scene(write(tmp_path / "grid.tif", levels(2)[:, :20, :24]), "radar")
    order = ("radar", "hires")
    seen = [
        on_one_grid({"radar": grid, "hires": each}, order)[1].read(0, 0, 24, 20)
        for each in (scene, plain)
    ]
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 14, 0, -1e-4, 60.0), 5.57),
        ("EPSG:4326", Affine(1e-4, 0, -61, 0, -1e-4, -33.0), 9.34),
        ("EPSG:4326", Affine(1e-4, 0, 20.0, 0, -1e-4, 85.0), 0.978),
        ("EPSG:32616", Affine(25.93, 0, 601_135, 0, -29.64, 3_430_446), 25.93),
    ],
)
def test_a_scene_without_square_pixels_is_resampled_and_says_to_what(
    crs, transform, metres, tmp_path
):
    high, wide = 120, 160
    pixels = np.full((3, high, wide), 60, np.uint8)
    row, col = 70, 45
    pixels[:, row : row + 6, col : col + 6] = 250
    path = write(tmp_path / "s.tif", pixels, crs=crs, transform=transform)
    scene = open_scene(path, "lores")
    middle = scene.width / 2, scene.height / 2
    assert scene.gsd_at(*middle) == pytest.approx(metres, rel=4e-3)
    assert "resampled to EPSG:32" in scene.says
    found, valid = scene.read(0, 0, scene.width, scene.height)
    assert 0.2 < valid.mean() <= 1
    bright = np.argwhere((found[0] > 155) & valid).mean(axis=0)
    lon, lat = scene.lonlat_at(bright[1] + 0.5, bright[0] + 0.5)
    there = transform * (col + 3, row + 3)
    if crs != "EPSG:4326":
        there = rasterio.warp.transform(crs, "EPSG:4326", *[[x] for x in there])
        there = [side[0] for side in there]
    assert Geod(ellps="WGS84").inv(lon, lat, *there)[2] < metres
    assert not open_scene(path, "lores", gsd_m=5).warped


def test_a_scene_too_wide_for_utm_or_across_180_degrees_is_refused(tmp_path):
    path = write(
        tmp_path / "w.tif", levels(), crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 50)
    )
    with pytest.raises(ValueError, match="less than 30 degrees wide"):
        open_scene(path, "lores")
    place = {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 179.999, 0, -1e-4, 60.0)}
    with pytest.raises(ValueError, match="one side of 180 degrees"):
        open_scene(write(tmp_path / "x.tif", levels(), **place), "lores")


def test_files_of_one_scene_must_share_a_grid(tmp_path):
    first = write(tmp_path / "vv.tif", POWER[:1])
    other = write(tmp_path / "vh.tif", POWER[1:, :-1])
    with pytest.raises(ValueError, match="must lie on one grid"):
        open_scene(f"{first},{other}", "radar", unit="power")
    with pytest.raises(ValueError, match=r"Could not read .*none\.tif"):
        open_scene(f"{first},{tmp_path / 'none.tif'}", "radar", unit="power")
    comma = write(tmp_path / "a,b.tif", levels())
    assert open_scene(comma, "lores").href == str(comma)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "m", 3)


@pytest.mark.parametrize("how", ["/vsizip/{0}/s.tif", "zip://{0}!s.tif", "GTIFF_RAW:{0}"])
def test_row_3s_scenes_within_archives_and_by_driver_are_opened(how, model, tmp_path):
    path = write(tmp_path / "s.tif", levels())
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(path, "s.tif")
    name = how.format(tmp_path / ("s.tif" if "RAW" in how else "z.zip"))
    np.testing.assert_array_equal(read(name, "lores")[0], levels())
    if "vsizip" in how:
        assert embed_scene(open_scene(name, "lores"), model, tmp_path / "map.tif").exists()
    with pytest.raises(ValueError, match="Could not read"):
        open_scene(name.replace("s.tif", "none.tif"), "lores")


def test_chips_are_read_by_the_rule_of_scenes(model, tmp_path):
    """A stack as a chip equals its true colour as a picture; a chip half empty its other half."""
    stack = write(tmp_path / "s2.tif", DN[:12], names=S2_BANDS)
    colour = write(tmp_path / "rgb.tif", rgb_of(DN).astype(np.uint8))
    reading = {"lores": {"offset_dn": -1000}}
    embed_images({"lores": [stack]}, model, tmp_path / "a.parquet", reading=reading)
    embed_images({"lores": [colour]}, model, tmp_path / "b.parquet", gsd_m={"lores": 10})
    one, other = (pd.read_parquet(tmp_path / f"{n}.parquet").embedding[0] for n in "ab")
    np.testing.assert_allclose(one, other, atol=2e-2)
    half = levels()
    half[:, :, 4 * PATCH :] = 0
    write(tmp_path / "half.tif", half, nodata=0)
    write(tmp_path / "none.tif", 0 * half, nodata=0)
    write(tmp_path / "cut.tif", half[:, :, : 4 * PATCH])
    for name in ("half", "cut"):
        files = {"lores": [tmp_path / f"{name}.tif"]}
        embed_images(files, model, tmp_path / f"{name}.parquet", gsd_m={"lores": 10})
    one, other = (pd.read_parquet(tmp_path / f"{n}.parquet").embedding[0] for n in ("half", "cut"))
    assert np.abs(one - other).max() < 0.2 * np.abs(other).max()
    with pytest.raises(ValueError, match=r"patch with data, got none in .*none\.tif"):
        embed_images({"lores": [tmp_path / "none.tif"]}, model, tmp_path / "n.parquet")


def test_chips_that_need_a_word_ask_for_it(tmp_path):
    stack = write(tmp_path / "s2.tif", DN[:12], names=S2_BANDS)
    with pytest.raises(ValueError, match="--offset-dn"):
        open_file(stack, "lores", gsd_m=10)
    radar = write(tmp_path / "db.tif", IN_UNITS["db"].astype(np.float32))
    with pytest.raises(ValueError, match="--unit"):
        open_file(radar, "radar")
    found, _ = open_file(radar, "radar", unit="db").read(PATCH)
    assert np.abs(found - RADAR).max() <= 1
    Image.fromarray(levels().transpose(1, 2, 0)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="offset_dn must not be given for 8-bit levels"):
        open_file(tmp_path / "x.png", "lores", gsd_m=10, offset_dn=0)


SPARSE = BLOCKS | {"sparse_ok": True, "tiled": True, "count": 3, "dtype": "uint8", "bigtiff": "yes"}


@pytest.mark.parametrize("kind", ["png", "jpg", "sparse tif", "bomb"])
def test_images_without_bound_are_refused_by_their_header(kind, tmp_path):
    path, side = tmp_path / f"big.{kind[-3:]}", 8192
    if kind == "sparse tif":
        side = 1_000_000
        rasterio.open(path, "w", driver="GTiff", height=side, width=side, **UTM, **SPARSE).close()
    elif kind == "bomb":
        path = tmp_path / "bomb.png"
        Image.new("1", (20_000, 20_000)).save(path)
    else:
        Image.new("1" if kind == "png" else "L", (side, side)).save(path)
    for look in (lambda: open_file(path, "lores", gsd_m=1).read(1), lambda: read_rgb(path)):
        with pytest.raises(ValueError, match=r"at most .* px|smaller image|exceeds limit"):
            look()


def test_a_map_that_no_disk_holds_is_refused_before_its_windows_are_listed(model, tmp_path):
    size = {"height": 1_000_000, "width": 1_000_000}
    path = tmp_path / "huge.tif"
    rasterio.open(path, "w", driver="GTiff", **size, **UTM, **SPARSE).close()
    with pytest.raises(ValueError, match=r"at most .* windows"):
        embed_scene(open_scene(path, "lores"), model, tmp_path / "map.tif")
    assert not list(tmp_path.glob("*map*"))


def test_row_16_colours_of_16_bits_in_folders_and_zips_are_refused(tmp_path):
    path = write(tmp_path / "deep.tif", DN[:3])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(path, "a/deep.tif")
    for each in (path, zipfile.Path(tmp_path / "z.zip", "a/deep.tif")):
        with pytest.raises(
            ValueError, match=r"deep.tif must hold 8-bit levels, got uint16.*--level-255"
        ):
            read_rgb(each)


@pytest.mark.parametrize("how", ["naip", "stack", "hidden"])
def test_folders_for_evaluation_follow_the_same_rule(how, tmp_path):
    if how == "naip":
        pixels = levels(4)
        path = write(tmp_path / "m_3211605_ne_11_060_20200415.tif", pixels, photometric="RGB")
        np.testing.assert_array_equal(read_rgb(path), pixels[:3].transpose(1, 2, 0))
    elif how == "stack":
        light = ((DN[:12].astype(float) - 1000) / 1e4).astype(np.float32)
        path = write(tmp_path / "s2.tif", light, names=S2_BANDS)
        assert np.abs(read_rgb(path).transpose(2, 0, 1) - rgb_of(DN)).max() <= 1
    else:
        path = write(tmp_path / "x.tif", levels(), mask=np.eye(ROWS, COLS, dtype=np.uint8) * 255)
        with pytest.raises(ValueError, match="must be opaque"):
            read_rgb(path)


@pytest.mark.parametrize(
    ("names", "reading", "right"),
    [
        (S2_BANDS, {"offset_dn": -1000}, rgb_of(DN)),
        (S2_BANDS, {"unit": "dn", "offset_dn": 0}, rgb_of(DN, zero=0)),
        ((), {"level_255": 4000, "bands": (3, 2, 1)}, np.rint(DN[2::-1] * (255 / 4000))),
    ],
)
def test_what_files_in_folders_do_not_tell_is_stated(names, reading, right, tmp_path):
    for split in ("train", "valid", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            write(tmp_path / split / label / f"{split}{label}.tif", DN[:12], names=names)
    task = folder_task(tmp_path, gsd_m=10.0, reading=reading)
    image, _ = next(iter_split(task, "test"))
    np.testing.assert_array_equal(image.transpose(2, 0, 1), right)
    plain = write(tmp_path / "x.tif", levels())
    with pytest.raises(ValueError, match="must not be given for 8-bit levels"):
        read_rgb(plain, unit="dn")


class DataArray:
    """As much of xarray.DataArray as is looked at."""

    def __init__(self, values, dims, coords, attrs, rio=None):
        self.values, self.dims, self.attrs = values, tuple(dims), attrs
        self.coords = {
            name: types.SimpleNamespace(values=np.asarray(value), attrs={})
            if not hasattr(value, "attrs")
            else value
            for name, value in coords.items()
        }
        if rio is not None:
            self.rio = rio

    def __getitem__(self, name):
        return self.coords[name].values

    def transpose(self, *dims):
        order = [self.dims.index(name) for name in dims]
        return self._with(self.values.transpose(order), dims, self.coords)

    def isel(self, cut):
        ((name, part),) = cut.items()
        place = [slice(None)] * self.values.ndim
        place[self.dims.index(name)] = part
        moved = types.SimpleNamespace(values=self.coords[name].values[part], attrs={})
        return self._with(self.values[tuple(place)], self.dims, self.coords | {name: moved})

    def _with(self, values, dims, coords):
        return DataArray(values, dims, coords, self.attrs, getattr(self, "rio", None))


def places():
    x = 431_005 + 10.0 * np.arange(COLS)
    return {"x": x, "y": 5_399_995 - 10.0 * np.arange(ROWS)}


def test_arrays_are_read_by_the_rule_of_files(tmp_path):
    path = write(tmp_path / "s2.tif", DN[:12], names=S2_BANDS)
    for sensor in ("lores", "s2"):
        expected, _ = read(path, sensor, offset_dn=-1000)
        made = salib.pixels(DN[:12], sensor, names=S2_BANDS, offset_dn=-1000)
        np.testing.assert_array_equal(made.values.numpy(), expected)
        assert made.gsd_m is None
        assert made.valid.all()
    made = salib.pixels(IN_UNITS["db"], "radar", unit="db", gsd_m=10)
    assert np.abs(made.values.numpy() - RADAR).max() <= 1
    assert made.gsd_m == 10


def test_a_data_array_tells_its_bands_scale_place_and_lack_of_data():
    order = [3, 1, 2, 0, *range(4, 12)]
    dn = DN[:12].copy()
    dn[:, 2, 3] = 0
    rio = types.SimpleNamespace(nodata=0, crs="EPSG:32633")
    attrs = {"scale_factor": 1e-4, "add_offset": -0.1}
    names = [S2_BANDS[n] for n in order]
    array = DataArray(
        dn[order].transpose(1, 2, 0)[::-1],  # south up, bands last
        ("y", "x", "band"),
        places() | {"y": places()["y"][::-1], "band": names},
        attrs,
        rio,
    )
    made = salib.pixels(array, "lores")
    expected = rgb_of(dn)
    valid = made.valid.numpy()
    assert np.argwhere(~valid).tolist() == [[2, 3]]
    np.testing.assert_array_equal(made.values.numpy()[:, valid], expected[:, valid])
    assert made.gsd_m == pytest.approx(10, rel=1e-3)
    stacked = DataArray(
        DN[:3].astype(float), ("band", "y", "x"), {"epsg": 32633, **places()}, {"long_name": "x"}
    )
    made = salib.pixels(stacked, "lores", level_255=3000)
    assert made.gsd_m == pytest.approx(10, rel=1e-3)
    db = DataArray(
        IN_UNITS["db"],
        ("band", "y", "x"),
        places() | {"band": ["vv", "vh"]},
        {"units": "dB", "_FillValue": math.nan},
    )
    assert np.abs(salib.pixels(db, "radar").values.numpy() - RADAR).max() <= 1


@pytest.mark.parametrize(
    ("values", "sensor", "options", "says"),
    [
        (DN[:12], "lores", {"names": S2_BANDS}, "--offset-dn"),
        (DN[:12], "lores", {"names": S2_BANDS[:3]}, "names must be one for each of 12"),
        (DN[0], "lores", {}, "must have 3 bands"),
        (DN[0, 0], "lores", {}, "values must be .bands, height, width."),
        (DN[:3], "lidar", {}, "sensor must be one of"),
        (POWER, "radar", {}, "--unit"),
        (POWER, "radar", {"unit": "power", "gsd_m": -1}, "gsd_m must be positive"),
        (POWER.astype("U"), "radar", {"unit": "power"}, "real numbers"),
        (DataArray(DN[None], ("time", "band", "y", "x"), {}, {}), "s2", {}, "choose one time"),
    ],
)
def test_arrays_that_do_not_tell_are_refused(values, sensor, options, says):
    with pytest.raises(ValueError, match=says):
        salib.pixels(values, sensor, **options)


@pytest.mark.real
def test_a_true_sentinel_2_chip_read_three_ways_gives_the_levels_of_its_true_colour_image(tmp_path):
    root = Path(os.environ.get("SALIB_DATA_DIR", "")) / "aligned/terramesh/637U_59R_1_3"
    if not root.is_dir():
        pytest.skip("SALIB_DATA_DIR holds no aligned/terramesh")
    with rasterio.open(root / "S2L2A.tif") as file, rasterio.open(root / "S2RGB.tif") as colour:
        dn, place = file.read(), {"crs": file.crs, "transform": file.transform}
        true = colour.read().astype(int)
    names, told = {"names": S2_BANDS}, {"scales": (1e-4,) * 12, "offsets": (-0.1,) * 12}
    numbers = (dn + 1000).astype(np.uint16)
    light = (dn / 1e4).astype(np.float32)
    paths = [
        write(tmp_path / "dn.tif", numbers, **names, **told, **place),
        write(tmp_path / "light.tif", light, **names, **place),
    ]
    for path in paths:
        found, valid = read(path, "lores")
        assert valid.mean() > 0.99
        assert np.abs(found.astype(int) - true)[:, valid].max() <= 1
    found, _ = read(write(tmp_path / "whole.tif", dn, **names, **place), "lores", offset_dn=0)
    assert np.abs(found.astype(int) - true).max() <= 1


@pytest.mark.real
def test_true_naip_files_give_their_colours(tmp_path):
    root = Path(os.environ.get("SALIB_DATA_DIR", "")) / "aligned/naip_only"
    paths = sorted(root.glob("*.tif"))
    if not paths:
        pytest.skip("SALIB_DATA_DIR holds no aligned/naip_only")
    for path in paths:
        scene = open_scene(path, "hires")
        assert scene.bands == (1, 2, 3)
        found, valid = scene.read(0, 0, scene.width, scene.height)
        assert valid.all()
        if scene.warped:
            continue
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(found, file.read([1, 2, 3]))
