"""Tiles from files of others: every band by its own mask, value, scale, colour and grid."""

import re
import shutil

import numpy as np
import pytest
import rasterio
import shapely
from curate_scenes import make_item, utm
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.shutil import copy
from rasterio.warp import transform as reproject

from salib.curate.mosaic import mosaic
from salib.curate.search.catalog import Rules, search
from salib.rasters.georeference import fit_gcps
from salib.rasters.reader import BlockReader, Span, close_files
from salib.rasters.remote import reading
from salib.tiles.grid import tiles_of_bbox

SIDE, LON, LAT, EPSG = 64, -98.4, 38.5, 32614
WEST, NORTH = (round(value) for value in utm(LON, LAT, EPSG))
PLACE = rasterio.Affine(10, 0, WEST, 0, -10, NORTH)


@pytest.fixture(autouse=True)
def closed():
    """No file of another test stays open."""
    close_files()
    yield
    close_files()


def write(path, pixels, *, place=PLACE, crs=f"EPSG:{EPSG}", mask=None, said=None, **how):
    """A file of these bands; `said` are attributes of the dataset, `overviews` come first."""
    count, height, width = pixels.shape
    overviews, driver = how.pop("overviews", ()), how.pop("driver", "GTiff")
    how |= {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    how |= (
        {"driver": driver} | ({"crs": crs} if crs else {}) | ({"transform": place} if place else {})
    )
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **how) as file:
        for name, value in (said or {}).items():
            setattr(file, name, value)
        file.write(pixels)
        if overviews:
            file.build_overviews(overviews, Resampling.average)
        if mask is not None:
            file.write_mask(mask)
    return path


def span_of(path, zoom=14):
    with rasterio.open(path) as file:
        bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    return Span.around(tiles_of_bbox(bounds, zoom))


def rendered(sensor, paths, span=None):
    """What curation makes of these files: a mosaic of one scene."""
    names = {"radar": ("vv", "vh"), "lores": ("visual",), "hires": ("image",)}.get(sensor, paths)
    assets = dict(zip(names, paths, strict=True))
    _, item = make_item(sensor, "a", shapely.box(-99, 38, -98, 39), "2022-06-11", assets, 1.0)
    item.collection_id = {"radar": "sentinel-1-grd", "hires": "naip"}.get(sensor, "sentinel-2-l2a")
    return mosaic(search([item], sensor), span or span_of(paths[0]))


def levels(image):
    """Values that are seen, by band."""
    return [np.unique(band).tolist() for band in image.image[image.source == 0].T]


def share(image):
    """Part of the file's ground that is seen."""
    pixel_m = 40075016.7 * np.cos(np.radians(LAT)) / (256 << 14)
    return (image.source == 0).sum() * (pixel_m / 10) ** 2 / SIDE**2


def half(*colour, dtype=np.uint8):
    """Black in the west, this colour in the east."""
    pixels = np.zeros((len(colour), SIDE, SIDE), dtype)
    pixels[:, :, SIDE // 2 :] = np.reshape(colour, (-1, 1, 1))
    return pixels


EAST = half(1)[0] > 0
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]


@pytest.mark.parametrize("sensor", ["lores", "hires"])
@pytest.mark.parametrize("overviews", [(), (2,)])
@pytest.mark.parametrize("within", ["mask", "alpha", "beside"])
def test_a_mask_or_alpha_band_takes_its_pixels_away(tmp_path, sensor, overviews, within):
    pixels, path = half(90, 91, 92), tmp_path / "a.tif"
    if within == "alpha":
        pixels = np.concatenate([pixels, half(255)])
        write(path, pixels, overviews=overviews, said={"colorinterp": RGBA})
    else:
        write(path, pixels, overviews=overviews, mask=EAST if within == "mask" else None)
    if within == "beside":
        write(tmp_path / "m.tif", np.where(EAST, 255, 0).astype(np.uint8)[None])
        with rasterio.open(tmp_path / "m.tif", "r+") as file:
            file.update_tags(INTERNAL_MASK_FLAGS_1="2")
        shutil.copy(tmp_path / "m.tif", tmp_path / "a.tif.msk")
    for zoom in (14, 13, 12):
        image = rendered(sensor, [path], span_of(path, zoom))
        seen = levels(image)
        if zoom == 14 or within != "mask" or not overviews:
            assert seen == [[90], [91], [92], [255]], zoom
        assert min(seen[0]) > 40  # overviews that were made before the mask have mixed pixels
    assert share(rendered(sensor, [path])) == pytest.approx(0.5, abs=0.05)


def test_black_that_nothing_hides_is_ground_for_an_aerial_image_and_none_for_sentinel_2(tmp_path):
    path = write(tmp_path / "a.tif", half(90, 91, 92))
    assert share(rendered("hires", [path])) == pytest.approx(1, abs=0.04)
    assert share(rendered("lores", [path])) == pytest.approx(0.5, abs=0.05)


def test_near_infrared_of_water_that_is_marked_as_opacity_is_seen(tmp_path):
    infrared = np.random.default_rng(1).integers(1, 200, (1, SIDE, SIDE)).astype(np.uint8)
    infrared[:, :, :9] = 0
    path = write(tmp_path / "a.tif", np.concatenate([half(90, 91, 92), infrared]), overviews=(2,))
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    assert share(rendered("hires", [path])) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("value", [-9999, 32767])
@pytest.mark.parametrize("how", ["cubic", "linear"])
def test_a_value_of_no_data_does_not_leak_into_its_neighbours(tmp_path, value, how):
    pixels = np.full((1, SIDE, SIDE), 700, np.int16)
    pixels[:, 20:30, 20:30] = value
    path = write(tmp_path / "a.tif", pixels, nodata=value)
    values, valid = BlockReader(str(path), bands=1, how=how).read(span_of(path))
    assert np.unique(values[valid]).tolist() == [700]
    assert valid.any()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
@pytest.mark.parametrize("how", ["cubic", "linear", "nearest"])
def test_every_type_of_number_is_read(tmp_path, dtype, how):
    path = write(tmp_path / "a.tif", np.full((1, SIDE, SIDE), 77, dtype), nodata=0)
    values, valid = BlockReader(str(path), bands=1, how=how).read(span_of(path))
    np.testing.assert_allclose(values[valid], 77, rtol=1e-6)
    assert valid.any()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_overview_may_state_another_value_of_no_data(tmp_path):
    path = write(
        tmp_path / "a.tif", np.where(EAST, 90, 7)[None].repeat(3, 0).astype(np.uint8), nodata=7
    )
    small = np.where(EAST[::2, ::2], 90, 255)[None].repeat(3, 0).astype(np.uint8)
    write(tmp_path / "o.tif", small, crs=None, place=None, nodata=255)
    (tmp_path / "o.tif").rename(tmp_path / "a.tif.ovr")
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2]
    for zoom in (14, 13):
        reader = BlockReader(str(path), bands=3, how="linear")
        values, valid = reader.read(span_of(path, zoom))
        assert np.unique(values[valid]).tolist() == [90]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("blue", "green", "red"), (2, 1, 0)),
        (("nir", "red", "green", "blue"), (1, 2, 3)),
        (("red", "green", "blue", "nir"), (0, 1, 2)),
        (("alpha", "blue", "green", "red"), (3, 2, 1)),
        (("gray", "undefined", "undefined", "undefined"), (0, 1, 2)),
    ],
)
def test_red_green_and_blue_are_taken_by_their_colours(tmp_path, names, order):
    path = coloured(tmp_path / "a.tif", names)
    for sensor in ("lores", "hires"):
        shown = levels(rendered(sensor, [path]))
        assert shown[:3] == [[50 + 9 * number] for number in order]


def test_numbers_of_bands_that_other_satellites_have_too_leave_the_word_to_colours(tmp_path):
    path = write(tmp_path / "a.tif", half(90, 91, 92), said={"descriptions": ("B4", "B3", "B2")})
    assert levels(rendered("lores", [path]))[:3] == [[90], [91], [92]]


def coloured(path, names):
    """Bands of 50, 59, 68 and so on of these colours, some of which a GeoTIFF cannot state."""
    pixels = np.stack([np.full((SIDE, SIDE), 50 + 9 * n, np.uint8) for n in range(len(names))])
    source = write(path.with_suffix(".src"), pixels, photometric="MINISBLACK", alpha="NO")
    copy(source, path, driver="VRT")
    head, *bands = re.sub(r"\s*<ColorInterp>.*</ColorInterp>", "", path.read_text()).split('band="')
    for name, band in zip(names, bands, strict=True):
        mark = f"<ColorInterp>{name}</ColorInterp>"
        head += 'band="' + band.replace(">", f">{mark}", 1)
    path.write_text(head)
    return path


@pytest.mark.parametrize("space", ["CMYK", "CIELAB"])
def test_colours_that_gdal_converts_are_seen_as_it_converts_them(tmp_path, space):
    path = write(
        tmp_path / "a.tif",
        np.full((4 if space == "CMYK" else 3, SIDE, SIDE), 99, np.uint8),
        photometric=space,
    )
    with rasterio.open(path) as file:
        expected = file.read((1, 2, 3))[:, 0, 0].tolist()
    assert levels(rendered("hires", [path]))[:3] == [[level] for level in expected]


def palette(path):
    write(path, half(3), photometric="PALETTE")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {3: (9, 99, 199, 255)})


REFUSED = {
    "palette": (palette, r"3 bands .*, got 1 \(palette\): expand it"),
    "grey": (lambda p: write(p, half(9)), r"3 bands .*, got 1: "),
    "grey and alpha": (
        lambda p: write(
            p, half(9, 255), said={"colorinterp": [ColorInterp.gray, ColorInterp.alpha]}
        ),
        r"3 bands .*, got 1 \(gray, alpha\)",
    ),
    "cmyk": (
        lambda p: coloured(p, ("cyan", "magenta", "yellow", "black")),
        r"\(red, green, blue\) .*got 4 \(cyan, magenta, yellow, black\)",
    ),
    "false colour": (lambda p: coloured(p, ("nir", "red", "green")), r"got 3 \(nir, red, green\)"),
    "16 bits": (
        lambda p: write(p, half(1, 2, 3, dtype=np.uint16)),
        "must hold 8-bit levels, got uint16",
    ),
    "floats": (
        lambda p: write(p, half(1, 2, 3, dtype=np.float32)),
        "must hold 8-bit levels, got float32",
    ),
    "complex": (
        lambda p: write(p, half(1, 2, 3, dtype=np.complex64)),
        "8-bit levels, got complex64",
    ),
    "scaled": (
        lambda p: write(p, half(1, 2, 3), said={"scales": (0.5,) * 3, "offsets": (1,) * 3}),
        "8-bit levels, got uint8 with a scale of 0.5, offset 1",
    ),
    "no place": (lambda p: write(p, half(1, 2, 3), crs=None, place=None), "no CRS and no control"),
    "no transform": (lambda p: write(p, half(1, 2, 3), place=None), "a CRS without a transform"),
    "flat pixels": (
        lambda p: write(p, half(1, 2, 3), place=rasterio.Affine(10, 0, WEST, 20, 0, NORTH)),
        "a CRS without a transform that gives pixels an area",
    ),
    "points without a CRS": (
        lambda p: write(
            p, half(1, 2, 3), crs=None, place=None, said={"gcps": (POINTS, rasterio.CRS())}
        ),
        "control points without a CRS",
    ),
    "points on a line": (
        lambda p: write(
            p,
            half(1, 2, 3),
            crs=None,
            place=None,
            said={"gcps": (POINTS[:4], rasterio.CRS.from_epsg(4326))},
        ),
        "determine no plane",
    ),
}
POINTS = [
    GroundControlPoint(row=row, col=col, x=LON + col * 1e-4, y=LAT - row * 1e-4)
    for row in (0, 21, 42, 63)
    for col in (0, 21, 42, 63)
]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_shows_no_colour_or_place_is_refused_by_name(tmp_path, case):
    path = tmp_path / "a.tif"
    make, words = REFUSED[case]
    make(path)
    with pytest.raises(ValueError, match=words) as told:
        rendered("hires", [path], Span(14, 3713, 6318, 1, 1))
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


ROTATED = PLACE * rasterio.Affine.rotation(30)
SOUTH_UP = rasterio.Affine(10, 0, WEST, 0, 10, NORTH - 10 * SIDE)
EAST_WEST = rasterio.Affine(-10, 0, WEST + 10 * SIDE, 0, -10, NORTH)
SHEARED = PLACE * rasterio.Affine.shear(10, 5)


@pytest.mark.parametrize("place", [PLACE, ROTATED, SOUTH_UP, EAST_WEST, SHEARED])
@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_any_grid_lies_where_its_transform_says(tmp_path, place, overviews):
    """Each pixel of the file holds its own column and row."""
    row, col = np.mgrid[:SIDE, :SIDE]
    pixels = np.stack([col, row]).astype(np.uint16) + 100
    path = write(tmp_path / "a.tif", pixels, place=place, overviews=overviews)
    centre = place * (SIDE / 2, SIDE / 2)
    lon, lat = (at[0] for at in reproject(f"EPSG:{EPSG}", "EPSG:4326", *([at] for at in centre)))
    for zoom in (16, 14, 13):
        span = Span.around(tiles_of_bbox((lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01), zoom))
        values, valid = BlockReader(str(path), bands=2, how="linear").read(span)
        y, x = np.nonzero(valid)
        side = 256 * 2.0**zoom
        at_lon = (span.x * 256 + x + 0.5) / side * 360 - 180
        at_lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (span.y * 256 + y + 0.5) / side))))
        inside = np.array(~place * np.array(utm(at_lon, at_lat, EPSG))) - 0.5
        assert len(x) > 300
        np.testing.assert_allclose(values[valid].T - 100.0, inside, atol=0.8 if zoom > 13 else 1.3)
        pixel_m = 40075016.7 * np.cos(np.radians(lat)) / side
        assert valid.sum() * (pixel_m / 10) ** 2 == pytest.approx(
            SIDE**2 * abs(place.determinant) / 100, rel=0.12
        )


def gcp_scene(path, points, crs, value=None):
    row, col = np.mgrid[:SIDE, :SIDE]
    pixels = np.stack([col, row]).astype(np.uint16) + 100
    return write(
        path,
        pixels,
        crs=None,
        place=None,
        said={"gcps": (points, rasterio.CRS.from_user_input(crs))},
    )


def points_of(place, lattice, wrap=False, epsg=4326):
    """Control points of an affine grid in degrees or metres."""
    points = []
    for row, col in lattice:
        x, y = place * (col, row)
        x = (x + 180) % 360 - 180 if wrap else x
        points.append(GroundControlPoint(row=row, col=col, x=x, y=y))
    return points


GRID = [(row, col) for row in (0, 20, 40, 64) for col in (0, 20, 40, 64)]
NINE = [(row, col) for row in (0, 32, 64) for col in (0, 32, 64)]
CORNERS = [(0, 0), (0, 64), (64, 0), (64, 64)]
ROWS = [(row, col) for row in (0, 64) for col in range(0, 65, 8)]
DEGREES = rasterio.Affine(1e-4, 1e-5, LON, 2e-5, -1e-4, LAT)
EDGE = round(utm(180, 38.5, 32660)[0])
ACROSS = rasterio.Affine(1e-4, 0, 179.997, 0, -1e-4, LAT)


@pytest.mark.parametrize("lattice", [GRID, NINE, CORNERS, ROWS], ids=["16", "9", "4", "2 rows"])
@pytest.mark.parametrize("kind", ["degrees", "metres", "across 180", "east of 180", "0 to 360"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_place_a_scene_in_any_coordinates(tmp_path, lattice, kind):
    crs = f"EPSG:{EPSG}" if kind == "metres" else "EPSG:4326"
    place = {"metres": PLACE, "degrees": DEGREES}.get(kind, ACROSS)
    if kind == "0 to 360":
        place = rasterio.Affine.translation(360, 0) * DEGREES
    path = gcp_scene(tmp_path / "a.tif", points_of(place, lattice, wrap=kind == "across 180"), crs)
    reader = BlockReader(str(path), bands=2, how="linear")
    assert reader.gcp_residual_px < 1e-3
    col, row = np.array([5.0, 31, 60]), np.array([7.0, 33, 58])
    x, y = (np.array(each) for each in place * (col, row))
    lon, lat = reproject(crs, "EPSG:4326", x, y) if kind == "metres" else (x, y)
    lon = (np.array(lon) + 180) % 360 - 180
    np.testing.assert_allclose(reader.model(lon, np.array(lat)), (col, row), atol=0.01)


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:4326", ACROSS),
        ("EPSG:4326", rasterio.Affine.translation(-360, 0) * ACROSS),
        ("EPSG:3857", rasterio.Affine(10, 0, 20037508.34 - 320, 0, -10, 4.65e6)),
        ("EPSG:3857", rasterio.Affine(10, 0, -20037508.34 - 320, 0, -10, 4.65e6)),
        ("EPSG:32660", rasterio.Affine(10, 0, EDGE - 320, 0, -10, 4265000)),
    ],
)
def test_a_scene_lies_on_both_sides_of_180_degrees(tmp_path, crs, place):
    pixels = np.full((3, SIDE, SIDE), 90, np.uint8)
    path = write(tmp_path / "a.tif", pixels, crs=crs, place=place)
    reader = BlockReader(str(path), bands=3, how="linear")
    lon, lat = reproject(crs, "EPSG:4326", *([at] for at in place * (SIDE / 2, SIDE / 2)))
    assert abs(abs((lon[0] + 180) % 360 - 180) - 180) < 0.02
    zoom = 16
    row = tiles_of_bbox((0, lat[0], 1e-6, lat[0] + 1e-6), zoom)[0].y
    seen = [reader.read(Span(zoom, x, row - 2, 3, 5))[1].any() for x in (0, (1 << zoom) - 3)]
    assert seen == [True, True]
    assert not reader.read(Span(zoom, 1 << 15, row - 2, 3, 5))[1].any()


def test_points_that_are_not_numbers_are_refused():
    bad = [GroundControlPoint(row=r, col=c, x=np.nan, y=r) for r, c in GRID]
    with pytest.raises(ValueError, match="not finite"):
        fit_gcps(bad)


@pytest.mark.parametrize("zoom", [13, 12, 11])
@pytest.mark.parametrize("stripes", ["fine", "coarse"])
def test_pixels_are_averaged_where_overviews_are_missing(tmp_path, zoom, stripes):
    """Stripes that the tile cannot show average to grey, as GDAL's own overviews do."""
    size = 1024
    pixels = np.zeros((3, size, size), np.uint8)
    pixels[:, :, (np.arange(size) // 1) % 2 == 0] = 200
    if stripes == "coarse":
        pixels[:, :, : size // 2], pixels[:, :, size // 2 :] = 50, 150
    bare = write(tmp_path / "bare.tif", pixels)
    full = write(tmp_path / "full.tif", pixels, overviews=(2, 4, 8, 16))
    span = span_of(bare, zoom)
    one, seen = BlockReader(str(bare), bands=3, how="linear").read(span)
    two, known = BlockReader(str(full), bands=3, how="linear").read(span)
    assert (seen == known).mean() > 0.99
    both = seen & known
    assert np.abs(one[both].astype(int) - two[both]).mean() < 1.5
    if stripes == "fine" and zoom < 13:
        assert np.abs(one[both].astype(int) - 100).max() <= 1


def test_damaged_overviews_end_in_a_line(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 256, 256)).astype(np.uint8)
    path = write(tmp_path / "a.tif", pixels, compress="deflate", tiled=True, overviews=(2, 4))
    data = bytearray(path.read_bytes())
    with rasterio.open(path, OVERVIEW_LEVEL=0) as file:
        assert file.shape == (128, 128)
    data[-30_000:-2_000] = bytes(28_000)  # overviews lie behind the full image
    path.write_bytes(data)
    assert BlockReader(str(path), bands=3, how="linear").read(span_of(path, 15))[1].any()
    span = span_of(path, 12)
    with pytest.raises(ValueError, match=f"Could not read {path}: .*Get it again") as told:
        BlockReader(str(path), bands=3, how="linear").read(span)
    assert "See previous" not in str(told.value)


@pytest.mark.parametrize("layout", ["one tile", "one strip", "bands apart"])
def test_blocks_that_exceed_the_cache_are_read(tmp_path, monkeypatch, layout):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 1024, 1024)).astype(np.uint8)
    how = {"tiled": True, "blockxsize": 1024, "blockysize": 1024}
    if layout == "one strip":
        how = {"blockysize": 1024}
    how |= {"interleave": "band"} if layout == "bands apart" else {}
    path = write(tmp_path / "a.tif", pixels, **how)
    span = Span.around(
        [
            span_tile
            for span_tile in tiles_of_bbox((LON + 0.01, LAT - 0.02, LON + 0.02, LAT - 0.01), 15)
        ]
    )
    expected = BlockReader(str(path), bands=3, how="linear").read(span)
    close_files()
    monkeypatch.setattr("salib.rasters.remote.CACHE_MB", 1)
    with reading([str(path)], requester_pays=False):
        found = BlockReader(str(path), bands=3, how="linear").read(span)
        close_files()
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert expected[1].all()


def test_a_big_tiff_and_a_jpeg_2000_give_the_same_tiles(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 257, 201)).astype(np.uint8)
    plain = write(tmp_path / "a.tif", pixels)
    big = write(tmp_path / "b.tif", pixels, BIGTIFF="YES")
    assert big.read_bytes()[2] == 43
    paths = [plain, big]
    with rasterio.Env() as env:
        if "JP2OpenJPEG" in env.drivers():
            lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
            paths.append(write(tmp_path / "c.jp2", pixels, driver="JP2OpenJPEG", **lossless))
    shown = [rendered("lores", [path], span_of(plain)).image for path in paths]
    for image in shown[1:]:
        np.testing.assert_array_equal(image, shown[0])


@pytest.mark.parametrize(
    ("tags", "offset", "expected"),
    [
        ({}, None, 1500),
        ({}, "05.09", 500),
        ({"scales": (1e-4,)}, None, 1500),
        ({"scales": (1e-4,)}, "05.09", 500),
        ({"scales": (1e-4,), "offsets": (-0.1,)}, None, 500),
        ({"scales": (1e-4,), "offsets": (-0.1,)}, "05.09", 500),
        ({"offsets": (-1000.0,)}, "05.09", 500),
        ({"scales": (2e-4,)}, None, 3000),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
def test_an_offset_counts_once_be_it_of_the_file_or_of_its_item(
    tmp_path, tags, offset, expected, dtype
):
    path = write(tmp_path / "a.tif", np.full((1, SIDE, SIDE), 1500, dtype), said=tags)
    assert set(np.concatenate(levels(s2_scene(path, offset)))) == {expected}


def s2_scene(path, baseline=None, scl=None, zoom=14, **stated):
    """A mosaic of twelve bands that are one file."""
    from salib.config.sensors import S2_BANDS

    assets = dict.fromkeys(S2_BANDS, path) | ({"SCL": scl} if scl else {})
    _, item = make_item("s2", "wrapped", shapely.box(-99, 38, -98, 39), "2022-06-11", assets, 1.0)
    item.collection_id = "sentinel-2-l2a"
    if baseline:
        item.properties["s2:processing_baseline"] = baseline
    rules = Rules(sensors=("radar", "s2"), offset_dn=None if baseline else 0, **stated)
    return mosaic(search([item], "s2", rules), span_of(path, zoom))


@pytest.mark.parametrize(
    ("value", "dtype", "tags", "words"),
    [
        (1500, "float32", {}, "a.tif must hold reflectance below 2 .* state --unit dn"),
        (150, "uint8", {}, "must hold 16-bit integers or floats, got uint8"),
        (
            1500,
            "uint16",
            {"offsets": (-0.1,)},
            "must scale to reflectance, got a scale of 1 and an",
        ),
        (1500, "uint16", {"scales": (10.0,)}, "must scale to reflectance, got a scale of 10"),
        (64_700, "uint16", {}, "a.tif must hold reflectance below 2 .* values below 0"),
    ],
)
def test_numbers_that_are_no_reflectance_are_refused(tmp_path, value, dtype, tags, words):
    path = write(tmp_path / "a.tif", np.full((1, SIDE, SIDE), value, dtype), said=tags)
    with pytest.raises(ValueError, match=words):
        s2_scene(path)


def test_pixels_that_the_scene_classification_calls_empty_are_not_seen(tmp_path):
    path = write(tmp_path / "a.tif", np.full((1, SIDE, SIDE), 1500, np.uint16))
    scl = write(tmp_path / "scl.tif", half(4), nodata=0)
    assert share(s2_scene(path, scl=scl)) == pytest.approx(0.5, abs=0.05)
    empty = write(tmp_path / "none.tif", half(0), nodata=0)
    with pytest.raises(ValueError, match=r"none.tif must classify .* got class 0"):
        s2_scene(path, scl=empty, zoom=16)


def radar_of(tmp_path, pixels, unit=None, said=None, units=None, **how):
    paths = [write(tmp_path / f"{n}.tif", pixels, said=said, **how) for n in ("vv", "vh")]
    assets = {"vv": paths[0], "vh": paths[1]}
    _, item = make_item("radar", "a", shapely.box(-99, 38, -98, 39), "2022-06-11", assets)
    item.collection_id = "sentinel-1-grd"
    for asset in item.assets.values():
        if unit:
            asset.extra_fields["raster:bands"] = [{"unit": unit}]
    return mosaic(search([item], "radar", Rules(units=units)), span_of(paths[0]))


def constant(value, dtype="float32"):
    return np.full((1, SIDE, SIDE), value, dtype)


LEVEL_OF_MINUS_10_DB = int(526 * 10 ** (-10 / 20)) * 256 // 1000


@pytest.mark.parametrize(
    ("value", "dtype", "unit", "said"),
    [
        (-10, "float32", "dB", None),
        (-10, "float64", "db", None),
        (-10, "int16", "dB", None),
        (-10, "float32", None, {"units": ("dB",)}),
        (-1000, "int16", "dB", {"scales": (0.01,)}),
        (-1000, "int16", None, {"scales": (0.01,), "units": ("decibel",)}),
        (20, "uint8", "dB", {"scales": (0.5,), "offsets": (-20.0,)}),
        (0.1, "float32", None, None),
        (0.1, "float32", "1", None),
        (1000, "uint16", None, {"scales": (1e-4,)}),
    ],
)
def test_backscatter_has_one_level_whatever_its_unit(tmp_path, value, dtype, unit, said):
    seen = levels(radar_of(tmp_path, constant(value, dtype), unit, said))
    assert seen[1] == seen[2] == [LEVEL_OF_MINUS_10_DB]


@pytest.mark.parametrize(
    ("value", "dtype", "unit", "tag"),
    [
        (-10, "float32", "db", None),
        (-10, "int16", "db", "power"),
        (10**-0.5, "float32", "amplitude", None),
        (0.1, "float64", "power", "dB"),
        (526 * 10**-0.5, "float32", "dn", None),
    ],
)
def test_a_stated_unit_of_backscatter_counts_before_that_of_item_and_file(
    tmp_path, value, dtype, unit, tag
):
    said = {"units": (tag,)} if tag else None
    seen = levels(radar_of(tmp_path, constant(value, dtype), tag, said, {"radar": unit}))
    assert seen[1] == seen[2] == [LEVEL_OF_MINUS_10_DB]


@pytest.mark.parametrize(
    ("value", "units", "baseline"),
    [(0.05, None, "05.09"), (0.05, {"s2": "reflectance"}, None), (1500, {"s2": "dn"}, "05.09")],
)
def test_reflectance_in_floats_is_read_and_numbers_in_them_by_their_unit(
    tmp_path, value, units, baseline
):
    path = write(tmp_path / "a.tif", constant(value))
    assert set(np.concatenate(levels(s2_scene(path, baseline, units=units)))) == {500}


@pytest.mark.parametrize(
    ("units", "says"),
    [
        ({"radar": "volts"}, "unit must be one of power, amplitude, db, dn for radar, got 'volts'"),
        ({"lores": "dn"}, "units must be of radar or s2 .* got 'lores'"),
        ({"s2": "dn"}, "units must be of radar or s2 among .* got 's2'"),
    ],
)
def test_a_unit_that_no_pixel_has_is_refused(units, says):
    with pytest.raises(ValueError, match=says):
        Rules(units=units)


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (-10, "float32", "of 0 or more, got power of -10: if these are decibels, state --unit db"),
        (-10, "float64", "if these are decibels"),
        (-10, "int16", "if these are decibels"),
        (300, "float32", "a power below 10 .* got 300: .*, state --unit amplitude or dn"),
        (90, "uint8", "must hold 16-bit integers or floats, got uint8"),
        (1 + 1j, "complex64", "real numbers of one type, got complex64"),
    ],
)
def test_backscatter_without_its_unit_is_refused_where_it_would_be_guessed(
    tmp_path, value, dtype, words
):
    with pytest.raises(ValueError, match=words) as told:
        radar_of(tmp_path, constant(value, dtype))
    assert str(tmp_path / "vv.tif") in str(told.value)


@pytest.mark.parametrize("nodata", [-9999, -32768, np.nan, 0])
def test_a_value_of_no_data_is_no_decibel(tmp_path, nodata):
    pixels = constant(0.1)
    pixels[:, :, :20] = nodata
    seen = radar_of(tmp_path, pixels, nodata=nodata)
    assert levels(seen)[1] == [LEVEL_OF_MINUS_10_DB]
    assert share(seen) < 0.75


@pytest.mark.parametrize(
    ("mode", "keys"), [("EW", ("hh", "hv")), ("EW", ("vv", "vh")), ("IW", ("hh", "hv"))]
)
def test_radar_of_another_mode_or_polarisation_is_refused_by_name(mode, keys):
    assets = dict.fromkeys(keys, "/nowhere.tif")
    _, item = make_item("radar", "a", shapely.box(-99, 38, -98, 39), "2022-06-11", assets)
    item.collection_id, item.properties["sar:instrument_mode"] = "sentinel-1-grd", mode
    with pytest.raises(
        ValueError, match=r"0 of them usable.* no scene of both VV and VH in IW mode"
    ):
        search([item], "radar")
