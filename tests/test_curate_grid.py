"""Tile grid: ids, bounds, ground sample distance, coverage of a bbox."""

import math

import numpy as np
import pytest
from pyproj import Transformer

from salib.tiles import grid
from salib.tiles.grid import TileId

GSD_TABLE = {
    18: (4.543, 2.272, 1.136),
    25: (4.330, 2.165, 1.082),
    30: (4.137, 2.069, 1.034),
    35: (3.913, 1.957, 0.978),
    40: (3.660, 1.830, 0.915),
    45: (3.378, 1.689, 0.845),
    49: (3.134, 1.567, 0.784),
}


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_descendants_of_a_tile_are_one_contiguous_hilbert_range(levels):
    tile = TileId(9, 131, 197)
    ids = sorted(child.hilbert for child in tile.children(levels))
    assert ids == list(range(ids[0], ids[0] + 4**levels))
    assert {child.parent(levels) for child in tile.children(levels)} == {tile}


def test_children_come_row_by_row():
    expected = [(10, 262 + east, 394 + south) for south in (0, 1) for east in (0, 1)]
    assert TileId(9, 131, 197).children() == expected


@pytest.mark.parametrize("tile", [TileId(3, 1, 6), TileId(14, 3714, 6291), TileId(17, 13, 90001)])
def test_bounds_cut_web_mercator_from_the_north_west_and_agree_with_pyproj(tile):
    edge = math.pi * 6378137
    side = 2 * edge / 2**tile.z
    west, north = tile.x * side - edge, edge - tile.y * side
    expected = (west, north - side, west + side, north)
    np.testing.assert_allclose(grid.tile_bounds_m(tile), expected, atol=1e-3)
    degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    corners = (*degrees.transform(*expected[:2]), *degrees.transform(*expected[2:]))
    np.testing.assert_allclose(grid.tile_bounds(tile), corners, atol=1e-9)


def test_projection_and_inverse_agree():
    lon, lat = grid.to_lonlat(*grid.to_mercator(-98.25, 38.5))
    assert (lon, lat) == (pytest.approx(-98.25, abs=1e-12), pytest.approx(38.5, abs=1e-12))


@pytest.mark.parametrize("lat", GSD_TABLE)
def test_gsd_is_that_of_the_published_table(lat):
    for zoom, expected in zip((15, 16, 17), GSD_TABLE[lat], strict=True):
        assert grid.gsd_m(lat, zoom) == pytest.approx(expected, abs=6e-4)


def test_a_finer_zoom_halves_gsd():
    assert grid.gsd_m(41.0, 15) == pytest.approx(2 * grid.gsd_m(41.0, 16))


def test_gsd_of_a_tile_is_its_width_on_the_sphere():
    tile = TileId(11, 467, 787)
    west, south, east, north = grid.tile_bounds(tile)
    middle = (grid.to_mercator(0.0, south)[1] + grid.to_mercator(0.0, north)[1]) / 2
    lat = math.atan(math.sinh(middle / grid.EARTH_RADIUS_M))
    width_m = math.radians(east - west) * grid.EARTH_RADIUS_M * math.cos(lat)
    assert grid.tile_gsd_m(tile) == pytest.approx(width_m / 256)


def meets(tile, bbox):
    west, south, east, north = grid.tile_bounds(tile)
    return west < bbox[2] and east > bbox[0] and south < bbox[3] and north > bbox[1]


@pytest.mark.parametrize(
    "bbox", [(-98.31, 38.2, -97.1, 39.17), (2.1, -3.3, 7.9, 1.7), (-180, -90, 180, 90)]
)
def test_tiles_of_a_bbox_are_those_that_meet_it(bbox):
    everything = [TileId(7, x, y) for x in range(128) for y in range(128)]
    expected = {tile for tile in everything if meets(tile, bbox)}
    assert set(grid.tiles_of_bbox(bbox, 7)) == expected


def test_tiles_of_a_tiles_own_bounds_are_that_tile():
    for tile in (TileId(14, 3714, 6291), TileId(15, 8654, 13124), TileId(9, 0, 200)):
        assert grid.tiles_of_bbox(grid.tile_bounds(tile), tile.z) == [tile]


def test_a_bbox_across_the_antimeridian_is_split():
    tiles = grid.tiles_of_bbox((179.0, 51.0, -178.0, 53.0), 6)
    assert {tile.x for tile in tiles} == {0, 63}
    assert grid.split_bbox((170, -2, -170, 3)) == [(170, -2, 180, 3), (-180, -2, -170, 3)]


def test_tiles_come_in_hilbert_order_and_blocks_keep_it():
    tiles = grid.tiles_of_bbox((-98.5, 38.2, -97.9, 38.9), 13)
    ids = [tile.hilbert for tile in tiles]
    assert ids == sorted(ids)
    blocks = grid.blocks_of(tiles[::-1], 2)
    assert [tile for block in blocks.values() for tile in block] == tiles
    assert all(tile.parent(2) == parent for parent, block in blocks.items() for tile in block)


@pytest.mark.parametrize(
    ("bbox", "says"),
    [
        ((1, 2, 3), "got 3 values"),
        ((-181, 0, 5, 5), "longitudes in -180..180"),
        ((0, 10, 5, 5), "south < north"),
        ((0, float("nan"), 5, 5), "south < north"),
        ((5, 0, 5, 5), "west different from east"),
    ],
)
def test_a_malformed_bbox_is_refused_with_its_reason(bbox, says):
    with pytest.raises(ValueError, match="bbox must be") as error:
        grid.tiles_of_bbox(bbox, 5)
    assert says in str(error.value)


def test_a_zoom_outside_the_pyramid_is_refused():
    with pytest.raises(ValueError, match="zoom must be between 0 and 24, got 25"):
        grid.gsd_m(40.0, 25)
