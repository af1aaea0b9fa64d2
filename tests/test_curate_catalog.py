"""Search in a static catalogue, choice of assets, smallest cover."""

import datetime as dt
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pystac
import pytest
import shapely
import stac_geoparquet.arrow
from curate_scenes import make_item, write_catalog
from hypothesis import given, settings
from hypothesis import strategies as st

from salib.config import SENSOR_NAMES
from salib.curate.area import area_of, covered_fraction
from salib.curate.plan import cover, tile_points
from salib.curate.search import catalog as cat
from salib.curate.search.scenes import check_files
from salib.curate.search.sources import find_items, items_digest
from salib.tiles.grid import TileId, tile_bounds, tiles_of_bbox

WHOLE = shapely.box(-99, 38, -97, 39)


def lores(name, day="2022-06-11", cloud=3.0, area=WHOLE, asset="visual"):
    return make_item("lores", name, area, day, {asset: "/scenes/" + name + ".tif"}, cloud)


def searched(folder, items, **options):
    bbox = options.pop("bbox", None)
    area = None if bbox is None else area_of(bbox)
    found = cat.search(opened(folder, items), "lores", cat.Rules(**options), area)
    return [scene.id for scene in found]


def opened(folder, items):
    return find_items(write_catalog(folder, items), cat.Rules(), None)


def test_scenes_come_clearest_first_then_newest_then_by_id(tmp_path):
    items = [
        lores("d", cloud=2.0, day="2022-06-01"),
        lores("c", cloud=2.0, day="2022-07-01"),
        lores("b", cloud=2.0, day="2022-06-01"),
        lores("a", cloud=9.0, day="2023-06-01"),
        lores("e", cloud=0.5, day="2021-06-01"),
    ]
    assert searched(tmp_path, items) == ["e", "c", "b", "d", "a"]
    assert searched(tmp_path / "again", items[::-1]) == ["e", "c", "b", "d", "a"]


def test_cloudy_unstated_foreign_and_unusable_items_are_left_out(tmp_path):
    items = [
        lores("clear"),
        lores("cloudy", cloud=10.1),
        lores("unstated", cloud=None),
        lores("unusable", asset="thumbnail"),
        make_item("hires", "aerial", WHOLE, "2022-06-11", {"visual": "/scenes/x.tif"}),
    ]
    assert searched(tmp_path, items) == ["clear"]
    assert searched(tmp_path, items, max_cloud=20.0) == ["clear", "cloudy"]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (None, {"may", "june", "july"}),
        ("2022-06-11", {"june"}),
        ("2022-05-02/2022-06-11", {"may", "june"}),
        ("2022-06-12/..", {"july"}),
        ("../2022-06-10", {"may"}),
        ("2022-06", {"june"}),
        ("2022-05/2022-06", {"may", "june"}),
        ("2022", {"may", "june", "july"}),
        ("2022-06-11T00:00:00Z/2022-07-11T00:00:00Z", {"june", "july"}),
    ],
)
def test_dates_hold_both_ends_as_whole_days(tmp_path, dates, expected):
    days = {"may": "2022-05-02", "june": "2022-06-11", "july": "2022-07-11"}
    items = [lores(name, day=day) for name, day in days.items()]
    assert set(searched(tmp_path, items, dates=dates)) == expected


@pytest.mark.parametrize("dates", ["June", "2022-06-11/2022-06-10", "2022-13-01/.."])
def test_malformed_dates_are_refused(dates):
    with pytest.raises(ValueError, match="dates must"):
        cat.parse_dates(dates)


@pytest.mark.parametrize("month", range(1, 13))
def test_a_month_ends_a_microsecond_before_the_next(month):
    _, last = cat.parse_dates(f"2024-{month:02d}")
    after, _ = cat.parse_dates(f"{2024 + month // 12}-{month % 12 + 1:02d}-01")
    assert after - last == dt.timedelta(microseconds=1)


def test_one_day_ends_before_the_next_begins():
    first, last = cat.parse_dates("2022-06-11")
    assert first == dt.datetime(2022, 6, 11, tzinfo=dt.UTC)
    assert dt.timedelta(days=1) - dt.timedelta(seconds=1) < last - first < dt.timedelta(days=1)


def test_a_bbox_across_the_antimeridian_finds_both_sides(tmp_path):
    items = [
        lores("west", area=shapely.box(178, 50, 179.5, 52)),
        lores("east", area=shapely.box(-179.9, 50, -179, 52)),
        lores("far", area=shapely.box(-20, 50, -19, 52)),
    ]
    assert set(searched(tmp_path, items, bbox=(179, 51, -179.5, 51.5))) == {"west", "east"}


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (
            {"bbox": (0, 0, 1, 1)},
            "has 2, 2 of them usable, 0 of those in the area",
        ),
        ({"dates": "2020-01-01"}, "2 of those in the area, 0 of those in dates 2020-01-01"),
        ({"max_cloud": 1.0}, r"2 of those in dates None, none with at most 1\.0 % cloud"),
    ],
)
def test_an_empty_search_says_what_took_the_scenes_away(tmp_path, options, counts):
    with pytest.raises(ValueError, match=r"sentinel-2-l2a .*search must find a scene") as error:
        searched(tmp_path, [lores("a"), lores("b", cloud=4.0)], **options)
    assert error.match(counts)


def test_items_are_read_from_a_table_and_from_a_collection_as_from_a_catalogue(tmp_path):
    items = [lores("a"), make_item("hires", "b", WHOLE, "2022-06-11", {"image": "/scenes/b.tif"})]
    expected = {
        sensor: cat.search(opened(tmp_path, items), sensor) for sensor in ("lores", "hires")
    }
    found = opened(tmp_path, items)
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(found)
    stac_geoparquet.arrow.to_parquet(table, tmp_path / "items.parquet")
    pystac.ItemCollection(found).save_object(str(tmp_path / "items.json"))
    for name in ("items.parquet", "items.json"):
        again = find_items(tmp_path / name, cat.Rules(), None)
        assert {sensor: cat.search(again, sensor) for sensor in expected} == expected


def test_a_missing_file_is_refused_before_any_work(tmp_path):
    scenes = cat.search(opened(tmp_path, [lores("a")]), "lores")
    with pytest.raises(ValueError, match="asset of a must exist, got no file"):
        check_files(scenes)


def test_the_digest_sees_items_and_files_and_not_the_place(tmp_path):
    def digest(folder, level, name="a"):
        folder.mkdir()
        (folder / "x.tif").write_bytes(bytes([level]) * 9973)
        item = make_item("lores", name, WHOLE, "2022-06-11", {"visual": folder / "x.tif"}, 1.0)
        return items_digest(opened(folder, [item]))

    first = digest(tmp_path / "1", 7)
    assert digest(tmp_path / "2", 7) == first
    assert digest(tmp_path / "3", 8) != first
    assert digest(tmp_path / "4", 7, name="b") != first


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Could not parse bucket:UserWarning")
def test_real_items_parse_and_give_their_assets():
    if "SALIB_DATA_DIR" not in os.environ:
        pytest.skip("SALIB_DATA_DIR is not set")
    folder = Path(os.environ["SALIB_DATA_DIR"]) / "stac_items"
    rtc = cat.Rules(sar="rtc")
    scenes, refused = [], []
    for path in sorted(folder.glob("*/*.json")):
        item = pystac.Item.from_file(str(path))
        item.collection_id = path.parent.name
        rules = rtc if path.parent.name == "sentinel-1-rtc" else cat.Rules()
        sensor = next(n for n in SENSOR_NAMES if item.collection_id in rules.collections(n))
        scene = cat.scene_of(item, sensor)
        scenes.append(scene) if scene else refused.append(item.properties["sar:polarizations"])
    assert len(scenes) + len(refused) == 81
    hrefs = [href.lower() for scene in scenes for href in scene.hrefs]
    assert all(href.endswith((".tif", ".tiff", ".jp2")) for href in hrefs)
    assert all("VV" not in polarizations for polarizations in refused)
    assert len(refused) == 2


def test_a_scene_is_procedural_where_its_platform_says_so(tmp_path):
    made_up, seen = lores("made-up"), lores("seen", cloud=4.0)
    seen[1].properties["platform"] = "sentinel-2a"
    scenes = cat.search(opened(tmp_path, [made_up, seen]), "lores")
    assert [scene.procedural for scene in scenes] == [True, False]


def brute(inside):
    """Smallest set, then smallest sum of row numbers, by trying all."""
    everything = inside.any(axis=0)
    best = None
    for taken in itertools.product([False, True], repeat=len(inside)):
        rows = np.flatnonzero(taken)
        if (inside[rows].any(axis=0) == everything).all():
            rank = (len(rows), rows.sum())
            best = min(best, rank) if best else rank
    return best


def test_a_cover_of_many_scenes_is_found_in_order_and_leaves_what_none_has(tmp_path):
    rng = np.random.default_rng(11)
    items = [lores("base", area=shapely.box(-98.9, 38.1, -98.2, 38.7), cloud=1.0)]
    for number in range(120):
        west, south = rng.uniform(-98.9, -98.0), rng.uniform(38.1, 38.6)
        area = shapely.box(west, south, west + 0.3, south + 0.2)
        items.append(lores(f"s{number}", area=area, cloud=float(rng.uniform(1.5, 9))))
    scenes = cat.search(opened(tmp_path, items), "lores")
    tiles = tiles_of_bbox((-98.8, 38.2, -98.3, 38.6), 12)
    outside = TileId(12, 0, 1500)
    found = cover(scenes, [*tiles, outside])
    assert [scene.id for scene in found] == ["base"]
    assert cover(scenes, [*tiles, outside]) == found


def scene_on(ground, name):
    kind = {"sensor": "hires", "hrefs": ("/x.tif",), "procedural": True}
    when = dt.datetime(2022, 6, 11, tzinfo=dt.UTC)
    return cat.Scene(id=name, datetime=when, cloud=0.0, footprint=ground, **kind)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_the_cover_is_as_small_as_the_best_of_all_subsets(seed, count):
    rng = np.random.default_rng(seed)
    boxes = []
    for shift in rng.choice((0.0, 3.0), count):  # two places without a scene in common
        west, south = -99 + shift + rng.uniform(0, 0.4), 38 + rng.uniform(0, 0.4)
        boxes.append(shapely.box(west, south, west + 0.4, south + 0.4))
    scenes = [scene_on(box, str(n)) for n, box in enumerate(boxes)]
    tiles = [t for x in (-99, -96) for t in tiles_of_bbox((x, 38, x + 0.9, 38.9), 9)]
    inside = np.array([shapely.contains_xy(box, tile_points(tiles)) for box in boxes])
    chosen = [int(scene.id) for scene in cover(scenes, tiles)]
    assert (inside[chosen].any(axis=0) == inside.any(axis=0)).all()
    assert (len(chosen), sum(chosen)) == brute(inside)


def test_of_covers_of_equal_size_the_one_of_better_scenes_is_taken():
    halves = [
        (-99, 38, -98.5, 39),
        (-98.5, 38, -98, 39),
        (-99, 38.5, -98, 39),
        (-99, 38, -98, 38.5),
    ]
    tiles = tiles_of_bbox((-98.99, 38.01, -98.01, 38.99), 11)
    for order in ((0, 1, 2, 3), (2, 3, 0, 1)):
        boxes = [shapely.box(*halves[number]).buffer(0.2) for number in order]
        scenes = [scene_on(box, str(rank)) for rank, box in enumerate(boxes)]
        assert [scene.id for scene in cover(scenes, tiles)] == ["0", "1"]


def test_a_state_of_aerial_images_of_many_years_is_covered_in_seconds():
    quads = [
        shapely.box(west - 0.004, south - 0.004, west + 1 / 16 + 0.004, south + 1 / 16 + 0.004)
        for shift in (0, 3, 6)
        for west in -99 + shift + np.arange(16) / 16
        for south in 38 + np.arange(16) / 16
    ]
    scenes = [scene_on(quad, f"{year}") for year in range(7) for quad in quads]
    tiles = [t for x in (-99, -96, -93) for t in tiles_of_bbox((x, 38, x + 1, 39), 14)]
    start = time.process_time()
    found = cover(scenes, tiles)
    assert time.process_time() - start < 30
    assert found == tuple(scenes[: len(quads)])


def test_points_of_a_tile_lie_within_it():
    tiles = [TileId(12, 930, 1570), TileId(9, 3, 7)]
    points = tile_points(tiles).reshape(2, -1, 2)
    for tile, places in zip(tiles, points, strict=True):
        west, south, east, north = tile_bounds(tile)
        assert ((places > (west, south)) & (places < (east, north))).all()
        np.testing.assert_allclose(places.mean(axis=0), ((west + east) / 2, (south + north) / 2))


def test_covered_fraction_is_the_part_within_the_area():
    tile = TileId(12, 930, 1570)
    west, south, east, north = tile_bounds(tile)
    area = shapely.box(west - 1, south - 1, west + 0.3 * (east - west), north + 1)
    assert covered_fraction(area, [tile, TileId(12, 0, 0)]) == pytest.approx([0.3, 0.0])
