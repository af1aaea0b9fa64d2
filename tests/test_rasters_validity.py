"""Files of others: where they have data, which bands they hold, what their numbers mean."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.shutil import copy

from salib.rasters.bands import told_of
from salib.rasters.pixels import without_data
from salib.rasters.rules import as_stored
from salib.rasters.validity import validity_of

SIZE = 23, 31


def ground(dtype="uint8", bands=3):
    """Numbers that differ by band and pixel, none of them 0 but on the left: left is no ground."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, 100, (bands, *SIZE)).astype(dtype)
    pixels[..., :13] = 0
    return pixels


def write(path, pixels, *, mask=None, outside=False, colours=None, said=None, tags=None, **how):
    """A file of these bands, georeferenced, and a mask within it or beside it."""
    count, height, width = pixels.shape
    how |= {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    how |= {"crs": "EPSG:32614", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not outside),
        rasterio.open(path, "w", driver="GTiff", **how) as file,
    ):
        if colours:
            file.colorinterp = colours
        if said:
            file.descriptions = said
        file.write(pixels)
        file.update_tags(**tags or {})
        if mask is not None:
            file.write_mask(mask)
    return path


def virtual(path, source, values):
    """The file with a no-data value for each band, which a GeoTIFF cannot state."""
    copy(source, path, driver="VRT")
    text = path.read_text()
    for number, value in enumerate(values, start=1):
        head, tail = text.split(f'band="{number}"')
        mark = "" if value is None else f"<NoDataValue>{value}</NoDataValue>"
        text = f'{head}band="{number}"{tail.replace(">", f">{mark}", 1)}'
    path.write_text(text)
    return path


def bad_of(path, *, stated=True):
    """Bands without data and what the mask takes away, as one array."""
    with rasterio.open(path) as file:
        numbers = [n for n, c in enumerate(file.colorinterp, 1) if c != ColorInterp.alpha]
        validity = validity_of(file)
        assert validity.stated == stated  # defaults count in files that state nothing
        bad = without_data(file.read(numbers), validity.values(numbers))
        hidden = validity.hidden(file)
        return bad if hidden is None else bad | hidden


KEPT = np.broadcast_to(np.arange(SIZE[1]) >= 13, SIZE)
OPAQUE = np.where(KEPT, np.uint8(255), np.uint8(0))
FAINT = np.where(KEPT, np.uint8(1), np.uint8(0))


@pytest.mark.parametrize("outside", [False, True])
def test_a_mask_decides_and_neither_black_nor_a_default_does(tmp_path, outside):
    pixels = ground()
    pixels[:, 5, 20] = 0
    path = write(tmp_path / "a.tif", pixels, mask=KEPT, outside=outside)
    assert (tmp_path / "a.tif.msk").exists() == outside
    np.testing.assert_array_equal(bad_of(path), np.array([~KEPT] * 3))


@pytest.mark.parametrize("alpha", [OPAQUE, FAINT])
@pytest.mark.parametrize("bands", [1, 3])
def test_an_alpha_band_decides_and_is_no_band_of_its_own(tmp_path, alpha, bands):
    pixels = np.concatenate([ground(bands=bands), alpha[None]])
    colours = {1: ["gray", "alpha"], 3: ["red", "green", "blue", "alpha"]}[bands]
    colours = [ColorInterp[name] for name in colours]
    path = write(tmp_path / "a.tif", pixels, colours=colours)
    np.testing.assert_array_equal(bad_of(path), np.array([~KEPT] * bands))


@pytest.mark.parametrize("size", [SIZE, (301, 211)])
@pytest.mark.parametrize("overviews", [[], [2, 4]])
@pytest.mark.parametrize("described", [None, "NIR", "Near InfraRed"])
def test_near_infrared_that_gdal_marks_as_opacity_hides_nothing(
    tmp_path, size, overviews, described
):
    pixels = np.random.default_rng(5).integers(0, 256, (4, *size)).astype(np.uint8)
    pixels[3, : size[0] // 3] = 0  # water
    if described:
        pixels[3] = 0
    path = write(tmp_path / "a.tif", pixels, said=described and ("a", "b", "c", described))
    with rasterio.open(path, "r+") as file:
        file.build_overviews(overviews)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
        assert not validity_of(file).stated
        assert validity_of(file).hidden(file) is None


@pytest.mark.parametrize("within", ["alpha", "mask"])
def test_a_no_data_value_counts_besides_an_alpha_band_or_a_mask(tmp_path, within):
    pixels, hidden = ground(), np.ones(SIZE, bool)
    hidden[:7] = False
    if within == "alpha":
        pixels = np.concatenate([pixels, np.where(hidden, 255, 9).astype(np.uint8)[None]])
        pixels[3, :7] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0, mask=hidden if within == "mask" else None)
    np.testing.assert_array_equal(bad_of(path), (pixels[:3] == 0) | ~hidden)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0),
        ("uint8", 255),
        ("int8", -128),
        ("uint16", 65535),
        ("int16", -9999),
        ("int32", -(2**31)),
        ("uint32", 2**32 - 1),
        ("float32", -9999),
        ("float32", -3.4028234663852886e38),
        ("float32", 0.1),
        ("float32", np.nan),
        ("float64", -1e300),
        ("float64", np.inf),
    ],
)
def test_a_value_of_any_type_stands_for_no_data(tmp_path, dtype, nodata):
    pixels = ground(dtype)
    pixels[pixels == 0] = nodata
    path = write(tmp_path / "a.tif", pixels, nodata=nodata)
    np.testing.assert_array_equal(bad_of(path), np.array([~KEPT] * 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_no_number_is_no_data_whatever_the_file_states(tmp_path, value):
    pixels = ground("float32")
    pixels[pixels == 0] = value
    for name, how in (("none", {}), ("other", {"nodata": -9999})):
        path = write(tmp_path / f"{name}.tif", pixels, **how)
        np.testing.assert_array_equal(bad_of(path, stated=bool(how)), np.array([~KEPT] * 3))


def test_each_band_has_its_own_value_and_one_may_have_none(tmp_path):
    pixels = ground("int16")
    source = write(tmp_path / "a.tif", pixels)
    path = virtual(tmp_path / "a.vrt", source, [7, None, -9999])
    expected = np.array([pixels[0] == 7, np.zeros(SIZE, bool), pixels[2] == -9999])
    assert expected[0].any()
    np.testing.assert_array_equal(bad_of(path), expected)


def test_one_value_of_all_bands_together_hides_no_pixel_that_has_it_in_one_band(tmp_path):
    pixels = ground()
    pixels[0, :, 20] = 0
    path = write(tmp_path / "a.tif", pixels, tags={"NODATA_VALUES": "0 0 0"})
    np.testing.assert_array_equal(bad_of(path), np.array([~KEPT] * 3))


@pytest.mark.parametrize("nodata", [-9999, 256, 1e38, "nan"])
def test_a_value_that_the_type_cannot_hold_hides_nothing(tmp_path, nodata):
    pixels = ground()
    path = virtual(tmp_path / "a.vrt", write(tmp_path / "a.tif", pixels), [nodata] * 3)
    assert not bad_of(path, stated=False).any()


@pytest.mark.parametrize("absent", [None, 0, 50])
@pytest.mark.parametrize("stated", [False, True])
def test_a_default_counts_in_a_file_that_states_nothing(tmp_path, absent, stated):
    pixels = ground()
    pixels[:, 9, 20] = 50
    path = write(tmp_path / "a.tif", pixels, **({"nodata": 255} if stated else {}))
    with rasterio.open(path) as file:
        validity, rule = validity_of(file), replace(as_stored(told_of(file, "a"), 3), absent=absent)
    assert validity.stated == stated
    found = rule.valid(pixels, validity.values(rule.bands), stated=validity.stated)
    np.testing.assert_array_equal(found, stated | (pixels != absent).any(axis=0))
