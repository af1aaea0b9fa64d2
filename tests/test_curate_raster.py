"""Alignment on planted markers, overviews, validity, quantisation, mosaics."""

import numpy as np
import pytest
import rasterio
import shapely
from curate_scenes import (
    BACKGROUND,
    RadarGeometry,
    lonlat,
    make_item,
    spots,
    texture,
    utm,
    utm_footprint,
    write_catalog,
    write_grd,
    write_utm,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.control import GroundControlPoint

from salib.curate.mosaic import mosaic
from salib.curate.search.catalog import Rules, search
from salib.curate.search.sources import find_items
from salib.rasters.radar import sar_to_8bit
from salib.rasters.reader import BlockReader, Span, close_files
from salib.rasters.remote import ReadError, reading
from salib.tiles.grid import tiles_of_bbox

ZONES = {32614: (-98.4, 38.5), 32617: (-78.2, 25.1), 32610: (-125.9, 48.9)}
"""Places in the middle of a zone and near the edges of two, from south to north of the US."""
HALF_WORLD_M = 20037508.342789244


def mercator_pixel(lon, lat, span):
    """Place in a span's image, by the textbook formula, (0, 0) the outer corner."""
    side = 256 * 2.0**span.z
    col = (np.asarray(lon) + 180) / 360 * side - 256 * span.x
    merc = np.log(np.tan(np.pi / 4 + np.radians(lat) / 2))
    return col, (1 - merc / np.pi) / 2 * side - 256 * span.y


def centroid(image, col, row, radius):
    left, top = int(col) - radius, int(row) - radius
    part = image[top : top + 2 * radius + 1, left : left + 2 * radius + 1].astype(float)
    y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    part = part - np.median(part)
    return left + (part * x).sum() / part.sum(), top + (part * y).sum() / part.sum()


def rms_px(image, lon, lat, span, radius):
    cols, rows = mercator_pixel(lon, lat, span)
    inside = np.minimum(cols, rows) > radius + 2
    inside &= (cols < image.shape[1] - radius - 2) & (rows < image.shape[0] - radius - 2)
    places = np.column_stack([cols, rows])[inside]
    assert len(places) >= 9
    found = np.array([centroid(image, *place, radius) for place in places])
    return float(np.sqrt(((found - places) ** 2).sum(axis=1).mean()))


def span_of(lon, lat, zoom):
    """Tiles that hold the places; an origin that is off the block's corner."""
    return Span.around(tiles_of_bbox((min(lon), min(lat), max(lon), max(lat)), zoom))


def lattice(count, size, seed):
    """Fractional pixel places on a jittered lattice that keeps them apart."""
    rng = np.random.default_rng(seed)
    spots_at = (np.arange(count) + 0.5) * size / count
    cols, rows = np.meshgrid(spots_at, spots_at)
    jitter = rng.uniform(-1, 1, (2, count * count))
    return cols.ravel() + jitter[0], rows.ravel() + jitter[1]


@pytest.mark.parametrize("epsg", ZONES)
@pytest.mark.parametrize("zoom", [15, 16, 17])
def test_markers_in_a_utm_scene_come_out_where_they_are(tmp_path, epsg, zoom):
    west, north = (round(value) + 3.7 for value in utm(*ZONES[epsg], epsg))
    cols, rows = lattice(7, 211, seed=zoom)
    image = spots((211, 211), cols, rows, sigma=1.6, peak=200)
    path = tmp_path / "visual.tif"
    write_utm(path, np.round([image] * 3).astype(np.uint8), epsg, west, north, 10)
    lon, lat = lonlat(west + 10 * cols, north - 10 * rows, epsg)
    span = span_of(lon, lat, zoom)
    values, valid = BlockReader(str(path), bands=3, how="cubic").read(span)
    pixel_m = 40075016.7 * np.cos(np.radians(ZONES[epsg][1])) / (256 << zoom)
    radius = int(8 * 10 / pixel_m)
    error = rms_px(np.where(valid, values[..., 1], BACKGROUND), lon, lat, span, radius)
    assert error <= 0.05


@pytest.mark.parametrize("epsg", ZONES)
@pytest.mark.parametrize("zoom", [15, 16, 17])
def test_markers_in_an_aerial_image_come_out_through_its_overviews(tmp_path, epsg, zoom):
    west, north = (round(value) + 0.3 for value in utm(*ZONES[epsg], epsg))
    gsd = 1.0
    size = 1907
    cols, rows = lattice(6, size, seed=zoom)
    image = spots((size, size), cols, rows, sigma=9, peak=200)
    path = tmp_path / "image.tif"
    bands = np.round([image] * 4).astype(np.uint8)
    write_utm(path, bands, epsg, west, north, gsd, overviews=(2, 4, 8))
    lon, lat = lonlat(west + gsd * cols, north - gsd * rows, epsg)
    span = span_of(lon, lat, zoom)
    reader = BlockReader(str(path), bands=3, how="linear")
    values, valid = reader.read(span)
    pixel_m = 40075016.7 * np.cos(np.radians(ZONES[epsg][1])) / (256 << zoom)
    error = rms_px(np.where(valid, values[..., 2], BACKGROUND), lon, lat, span, int(45 / pixel_m))
    assert error <= 0.05


@pytest.mark.parametrize("epsg", ZONES)
@pytest.mark.parametrize("zoom", [15, 16, 17])
def test_markers_in_a_swath_with_control_points_come_out_where_they_are(tmp_path, epsg, zoom):
    geometry = RadarGeometry(epsg, *utm(*ZONES[epsg], epsg), angle_deg=-11, bend=3e-6)
    cols, rows = lattice(7, 223, seed=zoom)
    cols, rows = cols + 400, rows + 300
    image = spots((600, 700), cols, rows, sigma=1.6, peak=900)
    path = tmp_path / "vv.tif"
    write_grd(path, np.round(image), geometry)
    lon, lat = geometry.place(cols, rows)
    span = span_of(lon, lat, zoom)
    reader = BlockReader(str(path), bands=1, how="cubic")
    values, valid = reader.read(span)
    levels = sar_to_8bit(values)[..., 0]
    pixel_m = 40075016.7 * np.cos(np.radians(ZONES[epsg][1])) / (256 << zoom)
    error = rms_px(np.where(valid, levels, levels.min()), lon, lat, span, int(80 / pixel_m))
    assert error <= 0.15
    assert reader.gcp_residual_px < 0.01


@pytest.mark.parametrize(("zoom", "factor"), [(16, 2), (15, 4)])
def test_what_a_tile_can_show_is_kept_and_what_is_finer_averages_out(tmp_path, zoom, factor):
    """Waves of ground, longer and shorter than two pixels of the tile, from 1 m pixels.

    The means of `factor` pixels keep sin(pi f / w) / (f sin(pi / w)) of a wave of w pixels, and
    linear interpolation between them about the square of sin(pi f / w) / (pi f / w).
    """
    west, north = (round(value) for value in utm(*ZONES[32614], 32614))
    ground, lengths = np.arange(2003) + 0.5, (4.5 * factor, 1.15 * factor)
    waves = [100 * np.sin(2 * np.pi * ground / length) for length in lengths]
    bands = np.array([[128 + wave] * 1201 for wave in (*waves, waves[0])]).round().astype(np.uint8)
    path = tmp_path / "image.tif"
    write_utm(path, bands, 32614, west, north, 1, overviews=(2, 4, 8))
    lon, lat = lonlat(west + np.r_[500, 1500], north - np.r_[300, 900], 32614)
    reader = BlockReader(str(path), bands=3, how="linear")
    values, valid = reader.read(
        Span.around(tiles_of_bbox((*lon[:1], lat[1], lon[1], lat[0]), zoom))
    )
    kept = values[valid].std(axis=0)[:2] * np.sqrt(2) / 100
    part = np.pi / np.array(lengths)
    averaged = np.abs(np.sin(factor * part) / (factor * np.sin(part)))
    assert kept[0] == pytest.approx(averaged[0] * np.sinc(1 / 4.5) ** 2, abs=0.1)
    assert kept[1] < averaged[1] + 0.02 < 0.25


def blocks_about(lon, lat, zoom, levels=2):
    """Four blocks about the corner that is nearest, and where on it the edges meet."""
    side = 1 << levels
    tile = tiles_of_bbox((lon, lat, lon + 1e-6, lat + 1e-6), zoom)[0]
    x, y = (side * max(1, round(at / side)) for at in (tile.x, tile.y))
    corners = [(x - side, y - side), (x, y - side), (x - side, y), (x, y)]
    return [Span(zoom, *corner, side, side) for corner in corners]


def read_blocks(reader, blocks):
    """Blocks read one by one, as curate does, and put together."""
    parts = [np.where(valid[..., None], v, BACKGROUND) for v, valid in map(reader.read, blocks)]
    return np.concatenate([np.concatenate(parts[i : i + 2], axis=1) for i in (0, 2)], axis=0)


@pytest.mark.parametrize("epsg", ZONES)
@pytest.mark.parametrize(
    ("sensor", "zoom", "gsd", "bound"),
    [("lores", 15, 10, 0.05), ("hires", 17, 0.5, 0.05), ("radar", 15, 10, 0.15)],
)
def test_markers_on_the_edges_of_blocks_come_out_where_they_are(
    tmp_path, epsg, sensor, zoom, gsd, bound
):
    blocks = blocks_about(*ZONES[epsg], zoom)
    whole = Span(zoom, blocks[0].x, blocks[0].y, 8, 8)
    rng = np.random.default_rng(zoom)
    along, near = 1024 + 200 * np.r_[0, -4:0, 1:5], 1024 + rng.uniform(-2, 2, (2, 9))
    cols, rows = np.r_[along, near[0, 1:]], np.r_[near[1], along[1:]]
    side = 256 * 2.0**zoom
    lon = (whole.x * 256 + cols) / side * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (whole.y * 256 + rows) / side))))
    np.testing.assert_allclose(mercator_pixel(lon, lat, whole), (cols, rows), atol=1e-3)
    east, south = (np.array(part) for part in utm(lon, lat, epsg))
    west, north = east.min() - 301.7, south.max() + 302.3
    if sensor == "radar":
        geometry = RadarGeometry(epsg, west - 3000, north, angle_deg=-11, bend=3e-7)
        at = geometry.pixel(lon, lat)
        path, write, arguments = tmp_path / "vv.tif", write_grd, (geometry,)
    else:
        at = (east - west) / gsd, (north - south) / gsd
        path, write = tmp_path / "image.tif", write_utm
        arguments = (epsg, west, north, gsd)
    shape = int(at[1].max() + 300 / gsd), int(at[0].max() + 300 / gsd)
    image = np.round(spots(shape, *at, sigma=1.6 if gsd == 10 else 12, peak=200)).astype(np.uint8)
    write(path, image if sensor == "radar" else np.array([image] * 3), *arguments)
    bands, how = 1 if sensor == "radar" else 3, "linear" if sensor == "hires" else "cubic"
    reader = BlockReader(str(path), bands=bands, how=how)
    pixel_m = 40075016.7 * np.cos(np.radians(ZONES[epsg][1])) / side
    found = read_blocks(reader, blocks)[..., -1]
    assert rms_px(found, lon, lat, whole, int((80 if gsd == 10 else 30) / pixel_m)) <= bound


@pytest.mark.parametrize("epsg", ZONES)
def test_nearest_takes_the_pixel_of_the_file_that_holds_the_centre(tmp_path, epsg):
    west, north = (round(value) + 3.3 for value in utm(*ZONES[epsg], epsg))
    bands = np.array([texture((331, 307), band) for band in range(3)]).astype(np.uint8)
    path = tmp_path / "visual.tif"
    write_utm(path, bands, epsg, west, north, 10)
    corners = lonlat(west + np.r_[-400, 3500], north + np.r_[300, -3600], epsg)
    span = span_of(*corners, 15)
    values, valid = BlockReader(str(path), bands=3, how="nearest").read(span)
    side = 256 * 2.0**span.z
    x, y = (np.arange(256 * n) + 0.5 for n in (span.cols, span.rows))
    lon = (span.x * 256 + x) / side * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (span.y * 256 + y) / side))))
    east, south = utm(*(part.ravel() for part in np.meshgrid(lon, lat)), epsg)
    col, row = (east - west) / 10, (north - south) / 10
    clear = (abs(col - np.round(col)) > 0.01) & (abs(row - np.round(row)) > 0.01)
    inside = (col > 0) & (col < 307) & (row > 0) & (row < 331)
    assert (clear & inside).mean() > 0.3
    np.testing.assert_array_equal(valid.ravel()[clear], inside[clear])
    taken = bands[:, row[clear & inside].astype(int), col[clear & inside].astype(int)]
    np.testing.assert_array_equal(values.reshape(-1, 3)[clear & inside], taken.T)


def test_a_span_read_alone_equals_its_part_of_a_larger_span(tmp_path):
    west, north = utm(*ZONES[32614], 32614)
    path = tmp_path / "visual.tif"
    bands = np.array([texture((500, 400), band) for band in range(3)]).astype(np.uint8)
    write_utm(path, bands, 32614, west, north, 10)
    tiles = tiles_of_bbox((-98.39, 38.47, -98.36, 38.49), 14)
    reader = BlockReader(str(path), bands=3, how="cubic")
    span = Span.around(tiles)
    whole, _ = reader.read(span)
    for tile in tiles[:3]:
        part, _ = reader.read(Span.around([tile]))
        top, left = (tile.y - span.y) * 256, (tile.x - span.x) * 256
        difference = np.abs(part - whole[top : top + 256, left : left + 256].astype(int))
        assert np.mean(difference > 1) < 1e-3


def test_blocks_of_a_kept_file_are_decoded_once(tmp_path):
    west, north = utm(*ZONES[32614], 32614)
    path = tmp_path / "visual.tif"
    write_utm(
        path, texture((600, 500), 0).astype(np.uint8)[None].repeat(3, 0), 32614, west, north, 10
    )
    span = Span.around(tiles_of_bbox((-98.39, 38.47, -98.37, 38.48), 14))
    with reading([str(path)], requester_pays=False):
        try:
            before = BlockReader(str(path), bands=3, how="linear").read(span)[0]
            with path.open("r+b") as file:
                file.seek(path.stat().st_size // 8)
                file.write(bytes(path.stat().st_size // 2))
            after = BlockReader(str(path), bands=3, how="linear").read(span)[0]
        finally:
            close_files()
        np.testing.assert_array_equal(after, before)
        with pytest.raises(ReadError):
            BlockReader(str(path), bands=3, how="linear").read(span)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "wrong", ["must have 3 bands, got 1", "georeferenced", "determine no plane"]
)
def test_an_error_names_the_file_without_the_token_that_opens_it(tmp_path, monkeypatch, wrong):
    path = tmp_path / "grey.tif"
    grey = np.ones((1, 300, 200), np.uint8)
    if "bands" in wrong:
        write_utm(path, grey, 32614, *utm(*ZONES[32614], 32614), 10)
    else:
        points = [GroundControlPoint(0, 0, 5e5, 4e6)] if "plane" in wrong else []
        shape = {"width": 200, "height": 300, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", **shape) as file:
            file.write(grey)
            if points:
                file.gcps = points, rasterio.CRS.from_epsg(32614)
    (tmp_path / "grey.tif?secret").write_bytes(path.read_bytes())
    monkeypatch.setattr("salib.rasters.remote.location", lambda href: f"{href}?secret")
    with pytest.raises(ValueError, match=wrong) as told:
        BlockReader(str(path), bands=3 if "bands" in wrong else 1, how="linear")
    assert str(path) in str(told.value)
    assert "secret" not in str(told.value)


def test_outside_the_scene_and_on_nodata_nothing_is_valid(tmp_path):
    west, north = utm(*ZONES[32614], 32614)
    path = tmp_path / "visual.tif"
    bands = np.full((3, 300, 300), 90, np.uint8)
    bands[:, 100:200, 100:200] = 0
    write_utm(path, bands, 32614, west, north, 10, nodata=0)
    span = span_of(
        *np.array(lonlat(west + np.r_[-900, 3900], north + np.r_[900, -3900], 32614)), 14
    )
    values, valid = BlockReader(str(path), bands=3, how="linear").read(span)
    assert set(np.unique(values[valid])) == {90}
    pixel_m = 40075016.7 * np.cos(np.radians(38.5)) / (256 << 14)
    assert valid.sum() * (pixel_m / 10) ** 2 == pytest.approx(8e4, rel=0.03)
    far, none = BlockReader(str(path), bands=3, how="linear").read(Span(14, 3000, 6000, 1, 2))
    assert far.shape == (512, 256, 3)
    assert not none.any()


def test_radar_is_valid_where_both_polarisations_are(tmp_path):
    geometry = RadarGeometry(32614, *utm(*ZONES[32614], 32614), angle_deg=0, bend=0)
    vv, vh = np.full((2, 300, 310), 500)
    vv[:, :100] = 0
    vh[200:] = 0
    paths = {name: tmp_path / f"{name}.tif" for name in ("vv", "vh")}
    for name, dn in (("vv", vv), ("vh", vh)):
        write_grd(paths[name], dn, geometry)
    lon, lat = geometry.place([0, 310], [0, 300])
    area = shapely.box(min(lon), min(lat), max(lon), max(lat))
    _, item = make_item("radar", "a", area, "2022-06-11", paths)
    item.collection_id = "sentinel-1-grd"
    valid = mosaic(search([item], "radar"), span_of(lon, lat, 14)).source == 0
    pixel_m = 40075016.7 * np.cos(np.radians(38.5)) / (256 << 14)
    assert valid.sum() * (pixel_m / 10) ** 2 == pytest.approx(210 * 200, rel=0.03)


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 5))))
def test_quantisation_is_floor_of_256_over_1000_saturated_or_wrapped(dn):
    exact = [[int(value) * 256 // 1000 for value in row] for row in dn]
    expected = np.minimum(exact, 255)
    np.testing.assert_array_equal(sar_to_8bit(dn), expected)
    clipped = np.where(dn > 1000, 1.0, dn / 1000)
    wrapped = (clipped * 256).astype(np.int64) % 256
    np.testing.assert_array_equal(sar_to_8bit(dn, quant="released"), wrapped)


def test_quantisation_over_all_numbers_is_monotone_and_saturates_or_wraps_to_black():
    dn = np.arange(1 << 16, dtype=np.uint16)
    paper, released = sar_to_8bit(dn), sar_to_8bit(dn, quant="released")
    assert (np.diff(paper.astype(int)) >= 0).all()
    assert paper[0] == 0
    assert (paper[999:] == 255).all()
    assert (released[1000:] == 0).all()
    np.testing.assert_array_equal(paper[:1000], released[:1000])


def two_lores_scenes(folder):
    """Left scene of level 50, right one of level 200, the clearer one right; they overlap."""
    west, north = utm(*ZONES[32614], 32614)
    items = []
    for name, shift, level, cloud in (("left", 0, 50, 8.0), ("right", 2000, 200, 1.0)):
        path = folder / f"{name}.tif"
        bands = np.full((3, 300, 300), level, np.uint8)
        write_utm(path, bands, 32614, west + shift, north, 10, nodata=0)
        area = utm_footprint(32614, west + shift, north, 3000, 3000)
        items.append(make_item("lores", name, area, "2022-06-11", {"visual": path}, cloud))
    return search(find_items(write_catalog(folder, items), Rules(), None), "lores")


def test_a_mosaic_takes_each_pixel_from_the_best_scene_that_has_it(tmp_path):
    scenes = two_lores_scenes(tmp_path)
    assert [scene.id for scene in scenes] == ["right", "left"]
    west, south, east, north = scenes[1].footprint.union(scenes[0].footprint).bounds
    image = mosaic(scenes, Span.around(tiles_of_bbox((west, south, east, north), 14)))
    for number, level in enumerate((200, 50)):
        assert set(np.unique(image.image[image.source == number][:, :3])) == {level}
    assert not image.image[image.source < 0].any()
    assert (image.image[image.source >= 0][:, 3] == 255).all()
    pixel_m = 40075016.7 * np.cos(np.radians(38.5)) / (256 << 14)
    counts = [(image.source == number).sum() * (pixel_m / 10) ** 2 for number in (0, 1)]
    assert counts == pytest.approx([300 * 300, 200 * 300], rel=0.03)


def test_vv_is_green_and_vh_is_blue_and_true_colour_keeps_its_order(tmp_path):
    west, north = utm(*ZONES[32614], 32614)
    geometry = RadarGeometry(32614, west, north, angle_deg=0, bend=0)
    paths = {name: tmp_path / f"{name}.tif" for name in ("vv", "vh", "visual", "image")}
    for name, dn in (("vv", 700), ("vh", 300)):
        write_grd(paths[name], np.full((300, 310), dn), geometry)
    for name, colour in (("visual", (23, 101, 211)), ("image", (31, 103, 199, 7))):
        bands = np.array([np.full((300, 300), level, np.uint8) for level in colour])
        write_utm(paths[name], bands, 32614, west, north, 10)
    area = utm_footprint(32614, west, north, 3000, 3000)
    items = [
        make_item("radar", "a", area, "2022-06-11", {"vh": paths["vh"], "vv": paths["vv"]}),
        make_item("lores", "b", area, "2022-06-11", {"visual": paths["visual"]}, 1.0),
        make_item("hires", "c", area, "2022-06-11", {"image": paths["image"]}),
    ]
    found = find_items(write_catalog(tmp_path, items), Rules(), None)
    span = Span.around(tiles_of_bbox(area.bounds, 14))
    colours = {
        "radar": [0, 700 * 256 // 1000, 300 * 256 // 1000],
        "lores": [23, 101, 211],
        "hires": [31, 103, 199],
    }
    for sensor, colour in colours.items():
        image = mosaic(search(found, sensor), span)
        shown = np.unique(image.image[image.source == 0], axis=0)
        assert shown.tolist() == [[*colour, 255]]


def test_black_of_a_file_that_names_no_nodata_does_not_hide_the_scene_below(tmp_path):
    scenes = two_lores_scenes(tmp_path)
    half = np.full((3, 300, 300), 200, np.uint8)
    half[:, :, :150] = 0
    west, north = utm(*ZONES[32614], 32614)
    write_utm(tmp_path / "right.tif", half, 32614, west + 2000, north, 10, nodata=None)
    ground = scenes[0].footprint.union(scenes[1].footprint)
    image = mosaic(scenes, Span.around(tiles_of_bbox(ground.bounds, 14)))
    shown = image.image[image.image[..., 3] == 255]
    assert shown[:, :3].min() >= 45
    pixel_m = 40075016.7 * np.cos(np.radians(38.5)) / (256 << 14)
    counts = [(image.source == number).sum() * (pixel_m / 10) ** 2 for number in (0, 1)]
    assert counts == pytest.approx([150 * 300, 300 * 300], rel=0.03)


def test_a_file_that_is_no_raster_is_refused(tmp_path):
    path = tmp_path / "visual.tif"
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"Could not read .*supported file format"):
        BlockReader(str(path), bands=3, how="cubic")


def test_too_few_bands_are_refused(tmp_path):
    path = tmp_path / "grey.tif"
    write_utm(path, np.ones((1, 64, 64), np.uint8), 32614, 5e5, 4e6, 10)
    with pytest.raises(ValueError, match="must have 3 bands, got 1"):
        BlockReader(str(path), bands=3, how="cubic")
