"""What each tile and sample tells: cloud, days, origin, digests; excluded ground, RTC."""

import hashlib
import json
import os
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from curate_scenes import (
    RadarGeometry,
    lonlat,
    make_item,
    utm,
    utm_footprint,
    write_small_world,
    write_utm,
)
from rasterio.warp import transform_bounds

from salib.config import SENSOR_NAMES
from salib.curate import Rules, curate
from salib.curate.area import GEOBENCH_US, excluded_ground
from salib.curate.index import joint_samples
from salib.curate.mosaic import mosaic
from salib.curate.plan import cover, make_plan, tile_points
from salib.curate.search.catalog import Scene, scene_of, search, search_all
from salib.curate.search.sources import find_items, write_snapshot
from salib.curate.shards import Block, commit, read_rows
from salib.rasters.georeference import fit_gcps
from salib.rasters.radar import DN_OF_GAMMA0, amplitude, sar_to_8bit
from salib.rasters.reader import Span
from salib.tiles.archive import Archive, write_archive
from salib.tiles.checks import verify
from salib.tiles.grid import TileId, tile_bounds, tiles_of_bbox
from salib.training.data import Samples

ZOOM = 14


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """The small world with a scene classification: cloud in the north of the clearer scene."""
    folder = tmp_path_factory.mktemp("world")
    path = write_small_world(folder, km=4)
    west, north = (round(value, -2) for value in utm(-98.4, 38.5, 32614))
    classes = np.full((1, 400, 400), 4, np.uint8)
    classes[:, :100, :200], classes[:, 100:150, :200] = 9, 3
    write_utm(folder / "scl.tif", classes, 32614, west, north, 20, overviews=(), nodata=0)
    for item in folder.glob("**/S2_*.json"):
        record = json.loads(item.read_text())
        record["assets"]["scl"] = {"href": str(folder / "scl.tif"), "type": "image/tiff"}
        item.write_text(json.dumps(record))
    return path


@pytest.fixture(scope="module")
def out(catalog, tmp_path_factory):
    return curate(catalog, tmp_path_factory.mktemp("tiles") / "out", zoom=ZOOM)


@pytest.fixture(scope="module")
def tiles(out):
    return pd.read_parquet(out / "tiles.parquet")


def test_every_tile_of_the_archives_has_its_row_and_digest(out, tiles):
    for name, rows in tiles.groupby("sensor"):
        archive = Archive(out / f"{name}.pmtiles")
        assert set(archive.tiles()) == set(zip(rows.z, rows.x, rows.y, strict=True))
        for row in rows.itertuples():
            data = archive.read(row.z, row.x, row.y)
            assert row.sha256 == hashlib.sha256(data).hexdigest()
            assert row.crc32 == zlib.crc32(data)
    assert tiles.attribution.str.startswith("Procedural").all()
    lores = tiles[tiles.sensor == "lores"]
    assert lores.gsd_native_m.sub(10).abs().max() < 0.05
    assert (tiles[tiles.sensor == "hires"].gsd_native_m.sub(5).abs() < 0.03).all()


def test_a_tile_swapped_in_an_archive_is_found_by_its_digest(out, tiles, tmp_path):
    assert verify(out / "lores.pmtiles") == []
    changed = tiles.copy()
    row = changed.index[changed.sensor == "lores"][5]
    changed.loc[row, "crc32"] ^= 1
    (tmp_path / "lores.pmtiles").write_bytes((out / "lores.pmtiles").read_bytes())
    changed.to_parquet(tmp_path / "tiles.parquet")
    [(tile, problem)] = verify(tmp_path / "lores.pmtiles")
    assert tile == tuple(tiles.loc[row, ["z", "x", "y"]])
    assert problem.startswith("other bytes than tiles.parquet tells")
    with pytest.raises(ValueError, match=r"other bytes than tiles\.parquet tells"):
        Archive(tmp_path / "lores.pmtiles").get(*tile)


def test_a_tile_that_an_archive_lost_is_found(out, tiles, tmp_path):
    whole = Archive(out / "lores.pmtiles")
    lost, *rest = whole.tiles()
    kept = ((tile, whole.read(*tile)) for tile in rest)
    write_archive(tmp_path / "lores.pmtiles", kept, metadata=whole.metadata)
    tiles.to_parquet(tmp_path / "tiles.parquet")
    [(tile, problem)] = verify(tmp_path / "lores.pmtiles")
    assert tile is None
    first = "/".join(map(str, lost))
    assert f"lists, got 1 in one of them alone, the first {first}: copy" in problem


def test_cloud_is_the_part_that_the_classification_calls_so(tiles):
    lores = tiles[tiles.sensor == "lores"]
    north, south = lores[lores.y == lores.y.min()], lores[lores.y == lores.y.max()]
    assert (north.cloud_frac > 0.8).any()
    assert (south.cloud_frac == 0).all()  # class 3 is shadow
    _, top = utm(-98.4, 38.5, 32614)
    _, edge = lonlat(utm(-98.4, 38.5, 32614)[0] + 2000, round(top, -2) - 2000, 32614)
    compared = 0
    crossing = lores[(lores.cloud_frac > 0) & (lores.cloud_frac < 1)]
    for row in crossing.itertuples():
        _, low, _, high = tile_bounds(TileId(row.z, row.x, row.y))
        if row.scene_ids[0] == "S2_0" and len(row.scene_ids) == 1:
            compared += 1
            assert row.cloud_frac == pytest.approx((high - edge) / (high - low), abs=0.02)
    assert compared
    assert tiles[tiles.sensor == "radar"].cloud_frac.isna().all()


def test_cloud_is_told_of_the_tiles_whose_scenes_are_all_classified(catalog, tmp_path):
    items = find_items(catalog, Rules(), None)
    next(item for item in items if item.id == "S2_1").assets.pop("scl")
    plan = make_plan(search_all(items), zoom=ZOOM)
    scenes = {name: () for name in SENSOR_NAMES} | {"lores": plan.scenes["lores"]}
    block = Block(path=tmp_path / "all.arrow", tiles=plan.tiles, scenes=scenes)
    rows = read_rows([commit(block)]).to_pandas()
    known = rows.scene_ids.map(list).map(["S2_0"].__eq__)
    assert 0 < known.sum() < len(rows)
    assert (rows.cloud_frac.notna() == known).all()


def test_cloud_and_date_of_a_tile_are_those_of_the_pixels_that_were_seen(catalog, tmp_path):
    plan = make_plan(search_all(find_items(catalog, Rules(), None)), zoom=ZOOM)
    chosen = plan.scenes["lores"]
    ground = shapely.union_all([scene.footprint for scene in chosen])
    places = tuple(tiles_of_bbox(ground.bounds, ZOOM))
    scenes = {name: () for name in SENSOR_NAMES} | {"lores": chosen}
    block = Block(path=tmp_path / "all.arrow", tiles=places, scenes=scenes)
    rows = read_rows([commit(block)]).to_pandas()
    west, top = (round(value, -2) for value in utm(-98.4, 38.5, 32614))
    _, edge = lonlat(west + 2000, top - 2000, 32614)
    cut, dates = 0, set()
    for row in rows.itertuples():
        tile = TileId(row.z, row.x, row.y)
        alone = list(row.scene_ids) == ["S2_0"]
        if alone and row.valid_frac < 0.8 and tile_bounds(tile)[1] > edge:
            cut += 1
            assert row.cloud_frac == pytest.approx(1, abs=0.01)
        if len(row.scene_ids) > 1:
            source = mosaic(chosen, Span.around([tile])).source
            most = max(range(len(chosen)), key=lambda n: int((source == n).sum()))
            assert row.datetime == chosen[most].datetime
            dates.add(row.datetime)
    assert cut
    assert dates


def test_a_classification_that_is_missing_is_refused_before_any_work(catalog, tmp_path):
    items = find_items(catalog, Rules(), None)
    for item in items:
        if "scl" in item.assets:
            item.assets["scl"].href = str(tmp_path / "gone.tif")
    with pytest.raises(ValueError, match=r"asset of S2_0 must exist, got no file .*gone\.tif"):
        make_plan(search_all(items), zoom=ZOOM)


def test_a_rule_drops_samples_and_leaves_tiles(catalog, out, tiles, tmp_path):
    clear = curate(catalog, tmp_path / "clear", zoom=ZOOM, keep="cloud_frac_lores == 0")
    before, after = (geopandas.read_parquet(p / "index.parquet") for p in (out, clear))
    assert set(after.tile_id) == set(before.tile_id[before.cloud_frac_lores == 0])
    assert 0 < len(after) < len(before)
    assert Archive(clear / "lores.pmtiles").tiles() == Archive(out / "lores.pmtiles").tiles()
    same_day = joint_samples(tiles, ZOOM, keep="days_radar == 0")
    assert set(same_day.tile_id) == set(before.tile_id[before.days_radar == 0])
    assert 0 < len(same_day) < len(before)
    with pytest.raises(ValueError, match="keep must leave a sample, got none of"):
        joint_samples(tiles.assign(cloud_frac=1.0), ZOOM, keep="cloud_frac_lores < 1")


@pytest.mark.parametrize("keep", ["clouds < 1", "days_radar <", "1 / 0", "datetime_radar < 'soon'"])
def test_a_rule_over_other_columns_is_refused_before_any_work(catalog, tmp_path, keep):
    with pytest.raises(ValueError, match=r"keep must be a rule over tile_id, .*cloud_frac_lores"):
        curate(catalog, tmp_path / "none", zoom=ZOOM, keep=keep)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("least", [0.37, 0.95])
def test_samples_are_the_places_that_a_loop_finds_whole_in_seven_tiles(least):
    """Radar, lores, hires and its four finer tiles, each seen to `least`; some are missing."""
    rng = np.random.default_rng(11)
    places = [TileId(ZOOM, 3700 + x, 6200 + y) for x in range(23) for y in range(17)]
    needed = {
        place: [(name, place) for name in SENSOR_NAMES]
        + [
            ("hires", TileId(ZOOM + 1, 2 * place.x + i, 2 * place.y + j))
            for i in (0, 1)
            for j in (0, 1)
        ]
        for place in places
    }
    seen = {
        key: rng.choice([1.0, least, least - 0.01]) if rng.random() < 0.3 else 1.0
        for keys in needed.values()
        for key in keys
        if rng.random() < 0.95
    }
    expected = {
        place for place, keys in needed.items() if all(seen.get(key, 0) >= least for key in keys)
    }
    assert 0 < len(expected) < len(places)
    told = {"cloud_frac": 0.0, "datetime": datetime(2022, 6, 11, tzinfo=UTC)}
    told |= {"scene_ids": ["a"], "gsd_native_m": 10.0}
    rows = [
        {"sensor": name, **tile._asdict(), "valid_frac": share, **told}
        for (name, tile), share in seen.items()
    ]
    found = joint_samples(pd.DataFrame(rows), ZOOM, min_valid=least)
    assert {TileId(*row) for row in found[["z", "x", "y"]].to_numpy().tolist()} == expected

    def whole(place, name):
        keys = [key for key in needed[place] if key[0] == name]
        return all(seen.get(key, 0) >= least for key in keys)

    held = {place: [name for name in SENSOR_NAMES if whole(place, name)] for place in places}
    some = joint_samples(pd.DataFrame(rows), ZOOM, min_valid=least, least_sensors=2)
    for row in some.to_dict("records"):
        place = TileId(row["z"], row["x"], row["y"])
        assert [n for n in SENSOR_NAMES if row[f"valid_frac_{n}"] >= least] == held[place]
        assert len(held.pop(place)) >= 2
    assert {len(names) for names in held.values()} <= {0, 1}
    assert len(some) > len(found)


def test_a_sample_tells_its_cloud_and_days_from_lores_before_and_after_alike():
    rng = np.random.default_rng(13)
    places = [TileId(ZOOM, 3700 + x, 6200 + y) for x in range(19) for y in range(13)]
    rows, facts = [], {}
    for place in places:
        days = {"radar": int(rng.integers(-5, 6)), "hires": int(rng.integers(-50, 51)), "lores": 0}
        cloud = float(rng.choice([0.0, 0.2, 0.4]))
        facts[place] = cloud, abs(days["radar"]), abs(days["hires"])
        for name in SENSOR_NAMES:
            moment = datetime(2022, 6, 11, 10, tzinfo=UTC) + timedelta(days=days[name])
            for tile in [place, *place.children()] if name == "hires" else [place]:
                told = {"valid_frac": 1.0, "datetime": moment, "scene_ids": ["a"]}
                told |= {"cloud_frac": cloud, "gsd_native_m": 10.0}
                rows.append({"sensor": name, **tile._asdict(), **told})
    index = joint_samples(pd.DataFrame(rows), ZOOM)
    found = index[["cloud_frac_lores", "days_radar", "days_hires"]].itertuples(index=False)
    places = map(TileId._make, index[["z", "x", "y"]].to_numpy().tolist())
    assert {place: tuple(row) for place, row in zip(places, found, strict=True)} == facts


def test_the_share_for_validation_is_held_to(tiles):
    for share in (0, 0.1, 0.3):
        index = joint_samples(tiles, ZOOM, valid_share=share)
        held = (index.split == "valid").sum()
        assert held <= share * len(index)
        assert (held > 0) == (share > 0)


def test_a_lower_share_takes_in_places_at_the_edge(catalog, out, tmp_path):
    more = curate(catalog, tmp_path / "more", zoom=ZOOM, min_valid=0.3)
    before, after = (pd.read_parquet(p / "index.parquet") for p in (out, more))
    assert set(before.tile_id) < set(after.tile_id)
    seen = after[[f"valid_frac_{name}" for name in SENSOR_NAMES]].min(axis=1)
    assert seen.min() >= 0.3
    assert (seen < 0.95).any()


def test_no_tile_meets_excluded_ground(catalog, out, tmp_path):
    ground = geopandas.read_parquet(out / "index.parquet").geometry.iloc[4].centroid.buffer(0.005)
    path = tmp_path / "benchmark.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(ground)))
    less = curate(catalog, tmp_path / "less", zoom=ZOOM, exclude=[path])
    before, after = (geopandas.read_parquet(p / "index.parquet") for p in (out, less))
    assert not after.intersects(ground).any()
    assert set(before.tile_id) - set(after.tile_id) == set(
        before.tile_id[before.intersects(ground)]
    )


def test_ground_that_leaves_no_tile_or_is_no_geojson_is_refused(catalog, out, tmp_path):
    path = tmp_path / "all.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.box(-100, 37, -96, 40))))
    bbox = geopandas.read_parquet(out / "index.parquet").total_bounds.tolist()
    with pytest.raises(ValueError, match="exclude must leave a tile of the area, got none of"):
        curate(catalog, tmp_path / "none", zoom=ZOOM, area=bbox, exclude=[path])
    with pytest.raises(ValueError, match="exclude must be a GeoJSON file, got no file"):
        curate(catalog, tmp_path / "none", zoom=ZOOM, exclude=[tmp_path / "lost.geojson"])
    assert not (tmp_path / "none").exists()


def test_geobench_in_the_us_can_be_excluded_by_name(catalog, out, tmp_path):
    ground = excluded_ground(["geobench"])
    for lon, lat in ((-76.49, 38.97), (-80.7, 37.4), (-118.24, 34.05), (-119.0, 37.0)):
        assert ground.contains(shapely.Point(lon, lat))  # Annapolis, a tile of WV, LA, TEAK
    assert not ground.intersects(shapely.box(-98.5, 38.2, -98.2, 38.6))
    assert ground.equals(excluded_ground([GEOBENCH_US]))
    again = curate(catalog, tmp_path / "again", zoom=ZOOM, exclude=["geobench"])
    index = geopandas.read_parquet(out / "index.parquet")
    assert geopandas.read_parquet(again / "index.parquet").equals(index)  # Kansas is far from it
    union = excluded_ground(["geobench", written_ground(tmp_path, index.geometry.iloc[0])])
    assert union.area == pytest.approx(ground.area + index.geometry.iloc[0].area)


def written_ground(folder, ground):
    path = folder / "ground.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(ground)))
    return path


def test_backscatter_in_decibels_and_as_power_give_the_amplitude_of_a_grd():
    power = np.array([[1e-3, 0.2], [1.0, 7.0]])
    expected = DN_OF_GAMMA0 * np.sqrt(power)
    np.testing.assert_allclose(amplitude(power, "power"), expected, rtol=1e-6)
    np.testing.assert_allclose(amplitude(10 * np.log10(power), "db"), expected, rtol=1e-5)
    level = 10 ** (5.6 / 10)  # at +5.6 dB gamma0 the median product reaches DN 1000
    assert amplitude(np.array([level]), "power") == pytest.approx(1000, rel=0.01)


def test_rtc_is_asked_for_by_rule_and_read_as_power(tmp_path):
    west, north = utm(-98.4, 38.5, 32614)
    area = utm_footprint(32614, west, north, 3000, 3000)
    paths = {}
    for name, power in (("vv", 0.3), ("vh", 0.05)):
        band = np.full((1, 300, 300), power, np.float32)
        band[:, :40] = np.nan if name == "vv" else -32768
        paths[name] = tmp_path / f"{name}.tif"
        write_utm(paths[name], band, 32614, west, north, 10, nodata=-32768, overviews=())
    _, item = make_item("radar", "rtc", area, "2022-06-11", paths)
    item.collection_id = "sentinel-1-rtc"
    with pytest.raises(ValueError, match="sentinel-1-grd search must find a scene"):
        search([item], "radar")
    [scene] = search([item], "radar", Rules(sar="rtc"))
    image = mosaic([scene], Span.around(tiles_of_bbox(area.buffer(-0.002).bounds, ZOOM)))
    seen = image.image[image.source == 0]
    for channel, power in ((1, 0.3), (2, 0.05)):
        level = int(DN_OF_GAMMA0 * power**0.5) * 256 // 1000
        assert np.percentile(seen[:, channel], [5, 50, 95]).tolist() == [level] * 3
    assert (image.source < 0).any()


def test_control_points_over_relief_are_told_apart_from_flat_ones():
    flat = RadarGeometry(32614, *utm(-98.4, 38.5, 32614)).gcps((2000, 2600))
    rng = np.random.default_rng(3)
    for point in (rough := RadarGeometry(32614, *utm(-98.4, 38.5, 32614)).gcps((2000, 2600))):
        point.x += float(rng.normal(0, 2e-3))
    assert fit_gcps(flat)[1] < 0.05 < 5 < fit_gcps(rough)[1]


def data_folder():
    if "SALIB_DATA_DIR" not in os.environ:
        pytest.skip("SALIB_DATA_DIR is not set")
    return Path(os.environ["SALIB_DATA_DIR"])


SENSORS = {"naip": "hires", "sentinel-1-grd": "radar", "sentinel-1-rtc": "radar"}
SENSORS |= {"sentinel-2-l2a": "lores"}


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Could not parse bucket:UserWarning")
def test_real_items_pass_search_cover_and_a_snapshot(tmp_path):
    used = {}
    for path in sorted((data_folder() / "stac_items").glob("*/*.json")):
        (item,) = find_items(path, Rules(), None)
        item.collection_id = path.parent.name
        rules = Rules(sar="rtc" if path.parent.name == "sentinel-1-rtc" else "grd", max_cloud=100.0)
        sensor = SENSORS[path.parent.name]
        used.setdefault((sensor, rules), []).append(item)
    assert sum(map(len, used.values())) == 81
    missed = 0
    for (sensor, rules), items in used.items():
        scenes = search(items, sensor, rules)
        refused = {item.id for item in items} - {scene.id for scene in scenes}
        assert all("EW" in name or "HH" in name for name in refused), refused
        missed += len(refused)
        points = tile_points(tiles_of_bbox(scenes[0].footprint.bounds, 10))
        taken = cover(scenes, tiles_of_bbox(scenes[0].footprint.bounds, 10))
        seen, kept = (
            shapely.contains_xy(shapely.union_all([s.footprint for s in some]), points)
            for some in (scenes, taken)
        )
        assert (seen == kept).all()
        write_snapshot(tmp_path / "scenes.json", items, "")
        assert search(find_items(tmp_path / "scenes.json", rules, None), sensor, rules) == scenes
    assert missed == 2


def real_scene(path, sensor, **said):
    with rasterio.open(path) as file:
        ground = shapely.box(*transform_bounds(file.crs, "EPSG:4326", *file.bounds))
    return Scene(
        id=path.stem,
        sensor=sensor,
        datetime=datetime(2020, 1, 1, tzinfo=UTC),
        cloud=0.0,
        footprint=ground,
        hrefs=(str(path),),
        procedural=False,
        **said,
    )


@pytest.mark.real
@pytest.mark.parametrize("zoom", [14, 15])
def test_real_rasters_of_either_hemisphere_render_where_they_lie(zoom):
    root = data_folder() / "aligned"
    made = [real_scene(path, "radar", unit="db") for path in root.glob("terramesh/*/S1RTC.tif")]
    made += [real_scene(path, "lores") for path in root.glob("terramesh/*/S2RGB.tif")]
    made += [real_scene(path, "hires") for path in root.glob("naip_only/*.tif")]
    assert len(made) == 9
    south = 0
    for scene in made:
        south += scene.footprint.bounds[1] < 0
        span = Span.around(tiles_of_bbox(scene.footprint.bounds, zoom))
        image = mosaic([scene], span)
        seen = image.source == 0
        with rasterio.open(scene.hrefs[0]) as file:
            metres = file.width * file.height * abs(file.res[0] * file.res[1])
            bands = file.read()[: 2 if scene.sensor == "radar" else 3].astype(float)
        lat = scene.footprint.centroid.y
        pixel_m = 40075016.7 * np.cos(np.radians(lat)) / (256 << zoom)
        assert seen.sum() * pixel_m**2 == pytest.approx(metres, rel=0.1)
        channels = [1, 2] if scene.sensor == "radar" else [0, 1, 2]
        found = image.image[seen][:, channels].astype(float).mean(axis=0)
        if scene.sensor == "radar":
            bands = sar_to_8bit(amplitude(bands, "db"))
        np.testing.assert_allclose(found, bands.reshape(len(channels), -1).mean(axis=1), atol=3)
        assert image.readers[0].native_gsd_m(span) == pytest.approx(
            np.prod(file.res) ** 0.5, rel=0.01
        )
    assert south == 4


def test_a_cloud_cover_of_null_counts_as_unstated():
    place = shapely.box(0, 0, 1, 1)
    for sensor, assets in (("lores", {"visual": "/x.tif"}), ("hires", {"image": "/x.tif"})):
        _, item = make_item(sensor, "a", place, "2022-06-11", assets)
        unstated = scene_of(item, sensor).cloud
        item.properties["eo:cloud_cover"] = None
        assert scene_of(item, sensor).cloud == unstated


def test_an_outline_that_crosses_itself_is_repaired_and_one_round_the_earth_is_none():
    place = shapely.box(0, 0, 1, 1)
    _, item = make_item("hires", "a", place, "2022-06-11", {"image": "/x.tif"})
    bow = [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]
    item.geometry = {"type": "Polygon", "coordinates": bow}
    footprint = scene_of(item, "hires").footprint
    assert footprint.is_valid
    assert footprint.area == pytest.approx(2)
    item.geometry = shapely.geometry.mapping(shapely.box(-179.5, 50, 179.5, 51))
    assert scene_of(item, "hires") is None
    cut = shapely.union(shapely.box(179, 50, 180, 51), shapely.box(-180, 50, -179, 51))
    item.geometry = shapely.geometry.mapping(cut)
    assert scene_of(item, "hires").footprint.equals(cut)


def test_an_item_without_polarisations_or_mode_is_no_scene():
    _, item = make_item("radar", "ew", shapely.box(0, 0, 1, 1), "2022-06-11", {"hh": "/x.tif"})
    assert scene_of(item, "radar") is None
    _, item = make_item(
        "radar", "ew", shapely.box(0, 0, 1, 1), "2022-06-11", {"vv": "/x.tif", "vh": "/y.tif"}
    )
    item.properties["sar:instrument_mode"] = "EW"
    assert scene_of(item, "radar") is None


def test_samples_may_lack_a_sensor_where_two_are_asked_for(catalog, out, tmp_path):
    few = pd.read_parquet(out / "index.parquet")
    more = curate(catalog, tmp_path / "more", zoom=ZOOM, least_sensors=2)
    index = pd.read_parquet(more / "index.parquet")
    samples = Samples(more)
    held = np.stack([samples.present[name] for name in SENSOR_NAMES])
    assert held.sum(0).min() == 2 < held.sum(0).max() == 3
    assert set(index.tile_id[held.all(0)]) >= set(few.tile_id)
    assert len(index) > len(few)
    for number in range(len(index)):
        for name, there in zip(SENSOR_NAMES, held[:, number], strict=True):
            assert np.isnan(index[f"valid_frac_{name}"][number]) != there
            if there:
                assert samples.image(number, name).any()
    for wrong in (1, 4):
        with pytest.raises(
            ValueError, match=f"least_sensors must lie between 2 and 3, got {wrong}"
        ):
            curate(catalog, tmp_path / "none", zoom=ZOOM, least_sensors=wrong)
