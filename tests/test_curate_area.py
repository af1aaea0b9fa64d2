"""Areas: GeoJSON in, tiles out; named sets of about the paper's size."""

import json
import math

import pytest
import shapely
from pyproj import Transformer

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


def test_what_is_beside_the_polygons_does_not_count(tmp_path):
    place = feature(TRIANGLE)
    empty = feature(TRIANGLE) | {"geometry": None}
    ring = [[x, y, 120.5] for x, y in TRIANGLE.exterior.coords]
    solid = {"type": "Polygon", "coordinates": [ring]}
    mixed = [solid, {"type": "Point", "coordinates": [1, 2]}]
    for value in (
        {"type": "FeatureCollection", "features": [empty, place]},
        {"type": "FeatureCollection", "features": [place, empty], "crs": None},
        {"type": "GeometryCollection", "geometries": mixed},
        place | {"properties": None, "geometry": solid},
    ):
        found = read_area(written(tmp_path, value))
        assert found.equals(TRIANGLE)
        assert not found.has_z


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:EPSG::32614", "EPSG:32614"])
def test_a_file_in_a_projected_system_is_read_in_it(tmp_path, name):
    system = {"type": "name", "properties": {"name": name}}
    move = Transformer.from_crs("EPSG:4326", name, always_xy=True).transform
    drawn = shapely.transform(TRIANGLE, move, interleaved=False)
    value = {"type": "FeatureCollection", "features": [feature(drawn)], "crs": system}
    assert read_area(written(tmp_path, value)).equals_exact(TRIANGLE, 1e-9)


@pytest.mark.parametrize("zoom", [14, 20])
def test_an_area_of_too_many_tiles_is_refused_with_their_number(zoom):
    count = {14: "267,5", 20: "1,095,"}[zoom]
    with pytest.raises(ValueError, match=f"2,000,000 tiles of zoom {zoom}, got about {count}"):
        tiles_of_area(area_of((-180, -85, 180, 85)), zoom)
    assert tiles_of_area(
        shapely.MultiPolygon([TRIANGLE.buffer(0.01), shapely.box(9, 9, 9.1, 9.1)]), 9
    )


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
        ("null", "must be GeoJSON"),
        ("[]", "must be GeoJSON"),
        ("[" * 100_000, "must be GeoJSON"),
        ("", "must be GeoJSON"),
        ({"type": "Polygon", "coordinates": [[["1", "2"], ["3", "4"], ["5", "6"]]]}, "GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 0], [1, 0], [1, 1], [NaN, 0]]]}', "GeoJSON"),
        ({"type": "Feature", "properties": {}, "geometry": None}, "must hold a polygon"),
        (shapely.geometry.mapping(shapely.box(38, -99, 39, -98)), "longitude first"),
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
