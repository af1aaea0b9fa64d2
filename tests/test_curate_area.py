"""Areas: GeoJSON in, tiles out; named sets of about the paper's size."""

import json
import math

import pytest
import shapely

from salib.curate.area import area_of, read_area, tiles_of_area
from salib.tiles.grid import TileId, tile_bounds

TRIANGLE = shapely.Polygon([(-98.4, 38.2), (-97.9, 38.3), (-98.1, 38.7)])


def written(folder, value):
    path = folder / "place.geojson"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(geometry)}


def test_geometry_feature_and_collection_are_one_area(tmp_path):
    bare = shapely.geometry.mapping(TRIANGLE)
    collection = {"type": "FeatureCollection", "features": [feature(TRIANGLE)]}
    for value in (bare, feature(TRIANGLE), collection):
        assert read_area(written(tmp_path, value)).equals(TRIANGLE)


def test_tiles_are_those_that_a_loop_over_the_pyramid_finds():
    west, _, east, _ = TRIANGLE.bounds
    side = 1 << 12
    cols = range(math.floor((west + 180) / 360 * side), math.ceil((east + 180) / 360 * side))
    rows = range(1500, 1600)
    boxes = {(12, x, y): shapely.box(*tile_bounds(TileId(12, x, y))) for x in cols for y in rows}
    touching = {place for place, box in boxes.items() if box.intersection(TRIANGLE).area > 1e-12}
    assert set(map(tuple, tiles_of_area(TRIANGLE, 12))) == touching


def test_an_area_across_the_antimeridian_has_tiles_on_both_sides():
    tiles = tiles_of_area(area_of((179.9, 51.0, -179.9, 51.2)), 10)
    assert {tile.x for tile in tiles} == {0, (1 << 10) - 1}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "must be GeoJSON"),
        ({"type": "FeatureCollection", "features": []}, "must hold a polygon"),
        (shapely.geometry.mapping(shapely.Point(1, 2)), "must hold a polygon"),
        (
            shapely.geometry.mapping(shapely.Polygon([(0, 0), (3, 3), (3, 0), (0, 1)])),
            "must hold valid polygons, got Self-intersection",
        ),
        (shapely.geometry.mapping(shapely.box(170, 50, 190, 52)), "split at the antimeridian"),
        (shapely.geometry.mapping(shapely.box(-179, 50, 179, 52)), "split at the antimeridian"),
        (shapely.geometry.mapping(shapely.box(500000, 4e6, 510000, 4.1e6)), "must be in degrees"),
    ],
)
def test_what_is_no_area_is_refused(tmp_path, value, says):
    with pytest.raises(ValueError, match=says):
        read_area(written(tmp_path, value))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="area must be a GeoJSON file"):
        read_area(tmp_path / "none.geojson")
