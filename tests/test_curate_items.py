"""Items as others write them: addresses, secrets, versions, naming, odd fields, places to read."""

import copy
import json
import random

import pystac
import pytest
import shapely
import stac_geoparquet.arrow
from curate_scenes import write_catalog
from planetary_computer import sas
from servers import Faults, RangeServer, files_from_a_thread, pages_of, stac_api
from urllib3 import HTTPResponse

from salib.curate import Rules, curate
from salib.curate.search.catalog import search
from salib.curate.search.items import absolute, item_of
from salib.curate.search.scenes import check_files
from salib.curate.search.sources import (
    RETRIES,
    find_items,
    items_digest,
    snapshot_query,
    write_snapshot,
)
from salib.files.addresses import bare_record, without_secrets
from salib.rasters import remote

GROUND = shapely.box(-99, 38, -97, 39)
AWS = [
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "swir16",
    "swir22",
]
MPC = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
METRES = (60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 20, 20)
CDSE = [f"{band}_{metres}m" for band, metres in zip(MPC, METRES, strict=True)]


def record(name="a", collection="sentinel-2-l2a", assets=("visual",), **said):
    """An item as JSON; keyword arguments with `_` for `:` are properties."""
    properties = {"datetime": "2022-06-11T00:00:00Z", "eo:cloud_cover": 3.0}
    hrefs = assets if isinstance(assets, dict) else {key: f"/scenes/{key}.tif" for key in assets}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": shapely.geometry.mapping(GROUND),
        "bbox": list(GROUND.bounds),
        "properties": properties | said,
        "links": [],
        "assets": {
            key: href if isinstance(href, dict) else {"href": href} for key, href in hrefs.items()
        },
    }


def written(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))
    return path


def found(folder, records, sensor="lores", said=None, **rules):
    """Scenes of an ItemCollection, which is read first; what is told goes to `said`."""
    report = None if said is None else said.append
    items = find_items(written(folder / "items.json", records), Rules(), None, report)
    return search(items, sensor, Rules(**rules), report=report)


def href(folder, asset, **own):
    one = record(assets={"visual": asset}) | own
    return found(folder, [one])[0].hrefs[0]


# Addresses


@pytest.mark.parametrize(
    ("form", "right"),
    [
        ("file://{folder}/my%20scenes/t%C3%AFle.tif", "my scenes/tïle.tif"),
        ("file://localhost{folder}/my%20scenes/t%C3%AFle.tif", "my scenes/tïle.tif"),
        ("{folder}/my scenes/tïle.tif", "my scenes/tïle.tif"),
        ("./my%20scenes/t%C3%AFle.tif", "my scenes/tïle.tif"),
        ("my scenes/../my scenes/tïle.tif", "my scenes/tïle.tif"),
        ("file://{folder}/100%25.tif", "100%.tif"),
        ("100%.tif", "100%.tif"),
    ],
)
def test_a_local_file_is_found_by_each_form_of_its_address(tmp_path, form, right):
    (tmp_path / "my scenes").mkdir()
    for name in ("my scenes/tïle.tif", "100%.tif"):
        (tmp_path / name).write_bytes(b"x")
    asset = form.format(folder=tmp_path)
    scenes = found(tmp_path, [record(assets={"visual": asset})])
    assert scenes[0].hrefs == (str(tmp_path / right),)
    check_files(scenes)


@pytest.mark.parametrize(
    ("given", "base", "right"),
    [
        ("visual.tif", "https://h.org/c/items/a", "https://h.org/c/items/visual.tif"),
        ("../visual.tif", "https://h.org/c/items/a", "https://h.org/c/visual.tif"),
        ("/visual.tif", "https://h.org/c/items/a", "https://h.org/visual.tif"),
        ("//cdn.org/v.tif", "https://h.org/c/items/a", "https://cdn.org/v.tif"),
        ("/vsizip//a/b.zip/v.tif", "https://h.org/c/items/a", "/vsizip//a/b.zip/v.tif"),
        ("s3://bucket/v.tif", "/data/items.json", "s3://bucket/v.tif"),
        ("v.tif", "file:///data/my%20items/a.json", "/data/my items/v.tif"),
        ("../v.tif", "/data/items/a.json", "/data/v.tif"),
    ],
)
def test_a_reference_is_resolved_from_what_holds_it(given, base, right):
    assert absolute(given, base) == right


def test_a_file_of_this_machine_in_the_answer_of_an_api_is_that_file(tmp_path):
    here, own = tmp_path / "v.tif", {"rel": "self", "href": "https://h.org/items/a"}
    here.write_bytes(b"x")
    assert href(tmp_path, str(here), links=[own]) == str(here)
    assert href(tmp_path, "/nowhere/v.tif", links=[own]) == "https://h.org/nowhere/v.tif"
    assert href(tmp_path, "v.tif", links=[own | {"href": "./deep/a.json"}]) == str(here)
    assert href(tmp_path, "v.tif", links=[own | {"href": 5}, None, "self"]) == str(here)


@pytest.mark.parametrize(
    ("alternate", "right"),
    [
        ({"https": {"href": "https://h.org/v.tif"}}, "https://h.org/v.tif"),
        ({"https": {"href": "https://h.org/v.tif", "auth:refs": ["oidc"]}}, "s3://b/v.tif"),
        ({"local": {"href": "/v.tif"}}, "s3://b/v.tif"),
        ({"https": {"href": None}}, "s3://b/v.tif"),
        ({"https": "https://h.org/v.tif"}, "s3://b/v.tif"),
        (["https://h.org/v.tif"], "s3://b/v.tif"),
        (None, "s3://b/v.tif"),
    ],
)
def test_an_address_open_to_all_is_taken_for_a_buckets_object(tmp_path, alternate, right):
    assert href(tmp_path, {"href": "s3://b/v.tif", "alternate": alternate}) == right


# Secrets

SIGNED = [
    "https://a.blob.core.windows.net/c/v.tif?st=2022&se=2023&sp=rl&sv=2020&sr=c&skoid=S3CRET&sktid=S3CRET&sig=S3CRET%3D",
    "https://b.s3.amazonaws.com/v.tif?X-Amz-Algorithm=A&X-Amz-Credential=S3CRET&X-Amz-Signature=S3CRET",
    "https://b.s3.amazonaws.com/v.tif?AWSAccessKeyId=S3CRET&Expires=1&Signature=S3CRET",
    "https://storage.googleapis.com/b/v.tif?X-Goog-Signature=S3CRET",
    "https://cdn.org/v.tif?Policy=S3CRET&Key-Pair-Id=S3CRET&Signature=S3CRET",
    "https://h.org/v.tif?access_token=S3CRET",
    "https://h.org/v.tif?subscription-key=S3CRET#part",
    "https://user:S3CRET@h.org/v.tif",
]


@pytest.mark.parametrize("address", SIGNED)
def test_a_snapshot_holds_no_secret_and_the_run_reads_with_it(tmp_path, address):
    one = record(
        assets={"visual": {"href": address, "alternate": {"x": {"href": address}}}},
        **{"storage:options": {"account_key": "S3CRET", "sas_token": "S3CRET"}},
    )
    one["links"] = [{"rel": "self", "href": address}, {"rel": "via", "href": address}]
    items = find_items(written(tmp_path / "items.json", [one]), Rules(), None)
    assert search(items, "lores")[0].hrefs == (address,)
    write_snapshot(tmp_path / "scenes.json", items, "asked")
    text = (tmp_path / "scenes.json").read_text()
    assert "S3CRET" not in text
    bare = search(find_items(tmp_path / "scenes.json", Rules(), None), "lores")[0].hrefs[0]
    assert bare.rstrip("#part").endswith("/v.tif")
    assert snapshot_query(tmp_path / "scenes.json") is None  # so that it is asked for anew
    again = find_items(tmp_path / "scenes.json", Rules(), None)
    for signature in ("S3CRET", "0THER"):
        other = json.loads(json.dumps([one]).replace("S3CRET", signature))
        renewed = find_items(written(tmp_path / "items.json", other), Rules(), None)
        assert items_digest(renewed) == items_digest(again)


@pytest.mark.parametrize(
    "text",
    [
        "https://h.org/v.tif?version=3&tile=4",
        "https://h.org/v.tif?asset_key=B04",
        "https://h.org/a@b/v.tif",
        "no address: sig=4&token=5",
    ],
)
def test_what_opens_nothing_stays(text):
    assert without_secrets(text) == text
    assert bare_record({"keywords": [text], "expires": 1}) == {"keywords": [text], "expires": 1}


def test_other_parameters_stay_beside_a_secret():
    address = "https://h.org/v.tif?version=3&sig=x&tile=4&token=y"
    assert without_secrets(f"Could not read {address} (HTTP 404)") == (
        "Could not read https://h.org/v.tif?version=3&tile=4 (HTTP 404)"
    )


HOST = "https://a.blob.core.windows.net/c/v.tif"


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("", "?sig=new"),
        ("?v=3", "?v=3&sig=new"),
        ("?se=2999-01-01T00%3A00%3A00Z&sig=mine", "?se=2999-01-01T00%3A00%3A00Z&sig=mine"),
        ("?se=2022-01-01T00:00:00Z&sp=r&sig=old", "?sig=new"),
        ("?sp=r&sig=old&se=2022-01-01T00%3A00%3A00Z&v=3", "?v=3&sig=new"),
        ("?se=odd&sig=mine", "?se=odd&sig=mine"),
    ],
)
def test_an_address_has_one_signature_and_one_that_is_in_force(monkeypatch, given, opened):
    token = sas.SASToken(**{"token": "sig=new", "msft:expiry": "2999-01-01T00:00:00Z"})
    monkeypatch.setattr(sas, "get_token", lambda *_, **__: token)
    assert remote.location(HOST + given) == HOST + opened
    assert "mine" not in str(remote.failure("s3://b/v.tif?sig=mine", OSError("?sig=mine x")))


# Versions and collections


def test_one_id_in_two_collections_is_two_items_and_the_one_with_the_file_is_used(tmp_path):
    l2a, c1 = record(assets=("B04",)), record(collection="sentinel-2-c1-l2a")
    for records in ([l2a, c1], [c1, l2a]):
        assert len(found(tmp_path, records)) == 1
    with stac_api([item_of(copy.deepcopy(one), "https://h.org/") for one in (l2a, c1)]) as api:
        assert len(find_items(api, Rules(sensors=("radar", "lores")), GROUND)) == 2


def product(baseline, made, start="20220611T172901", tile="T14SNH"):
    return f"S2A_MSIL2A_{start}_N{baseline}_R055_{tile}_{made}"


@pytest.mark.parametrize("turn", [1, -1])
def test_the_newest_baseline_of_a_scene_wins_and_is_told(tmp_path, turn):
    said = []
    old, new = product("0400", "20220611T230000"), product("0510", "20240101T010000")
    other = product("0400", "20220611T230000", tile="T14SNJ")
    scenes = found(tmp_path, [record(n) for n in (old, new, other)[::turn]], said=said)
    assert {scene.id for scene in scenes} == {new, other}
    assert said == [f"1 older versions of lores scenes are left out ({old}, ...)"]


def test_the_newest_baseline_is_taken_though_the_older_was_clearer(tmp_path):
    old, new = product("0400", "20220611T230000"), product("0510", "20240101T010000")
    records = [record(old), record(new, **{"eo:cloud_cover": 30.0})]
    with pytest.raises(ValueError, match=r"none with at most 10\.0 % cloud"):
        found(tmp_path, records)
    assert [scene.id for scene in found(tmp_path, records, max_cloud=40.0)] == [new]


@pytest.mark.parametrize(
    ("name", "older", "newer"),
    [
        (
            "sentinel-2-l2a",
            {"s2:processing_baseline": "05.09"},
            {"s2:processing_baseline": "05.10"},
        ),
        ("sentinel-2-l2a", {}, {"s2:processing_baseline": "02.12"}),
        (
            "sentinel-2-l2a",
            {"updated": "2023-01-01T00:00:00Z"},
            {"updated": "2024-01-01T00:00:00Z"},
        ),
        (
            "sentinel-2-l2a",
            {"s2:product_uri": product("0400", "20220611T230000") + ".SAFE"},
            {"s2:product_uri": product("0400", "20240611T230000") + ".SAFE"},
        ),
    ],
)
def test_versions_are_told_apart_by_baseline_then_by_time_of_processing(
    tmp_path, name, older, newer
):
    for turn in (1, -1):
        records = [record(platform="old", **older), record(platform="procedural", **newer)]
        scenes = found(tmp_path, records[::turn])
        assert [scene.procedural for scene in scenes] == [True]


def test_parts_of_one_acquisition_are_no_versions(tmp_path):
    west, east = (record(product("0510", f"2024010{n}T000000")) for n in (1, 2))
    west["geometry"] = shapely.geometry.mapping(shapely.box(-99, 38, -97.9, 39))
    east["geometry"] = shapely.geometry.mapping(shapely.box(-98, 38, -97, 39))
    assert len(found(tmp_path, [west, east])) == 2


def test_a_radar_product_that_was_processed_again_replaces_the_first(tmp_path):
    name = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13"
    kind = {"collection": "sentinel-1-grd", "assets": ("vv", "vh")}
    first = record(f"{name}_6FF8", **kind, **{"s1:processing_datetime": "2021-08-09T20:19:58Z"})
    again = record(f"{name}_A0B1", **kind, **{"s1:processing_datetime": "2023-01-01T00:00:00Z"})
    assert [scene.id for scene in found(tmp_path, [again, first], "radar")] == [f"{name}_A0B1"]


# Naming


@pytest.mark.parametrize(
    ("keys", "sensor", "files"),
    [
        (["TCI_10m", "SCL_20m", "AOT_10m"], "lores", ["TCI_10m"]),
        (["tci", "scl"], "lores", ["tci"]),
        (["TCI", "visual", "SCL"], "lores", ["visual"]),
        ([*CDSE, "TCI_10m", "SCL_20m"], "s2", CDSE),
        ([*MPC, "SCL"], "s2", MPC),
        ([*AWS, "scl"], "s2", AWS),
        ([key.upper() for key in AWS], "s2", [key.upper() for key in AWS]),
    ],
)
def test_the_files_of_each_catalogues_naming_are_found(tmp_path, keys, sensor, files):
    said = {"s2:processing_baseline": "05.10"}
    (scene,) = found(tmp_path, [record(assets=keys, **said)], sensor)
    assert scene.hrefs == tuple(f"/scenes/{key}.tif" for key in files)
    assert (scene.scl is None) == (not any(key.lower().startswith("scl") for key in keys))


@pytest.mark.parametrize("field", ["bands", "eo:bands"])
def test_files_under_other_keys_are_found_by_the_names_of_their_bands(tmp_path, field):
    files = {f"file{n}": {"href": f"/{n}.tif", field: [{"name": b}]} for n, b in enumerate(MPC)}
    files = dict(reversed(files.items()))
    (scene,) = found(tmp_path, [record(assets=files)], "s2", offset_dn=0)
    assert scene.hrefs == tuple(f"/{n}.tif" for n in range(12))
    whole = {"data": {"href": "/all.tif", field: [{"name": band} for band in MPC]}}
    assert found(tmp_path, [record(assets=whole)], "s2", offset_dn=0)[0].hrefs == ("/all.tif",)
    turned = {"data": {"href": "/all.tif", field: [{"name": band} for band in MPC[::-1]]}}
    with pytest.raises(ValueError, match="0 of them usable"):
        found(tmp_path, [record(assets=turned)], "s2", offset_dn=0)
    pair = {"data": {"href": "/p.tif", field: [{"name": "VV", "unit": "dB"}, {"name": "VH"}]}}
    with pytest.raises(ValueError, match="have one unit for all bands"):
        found(tmp_path, [record("r", "sentinel-1-grd", pair)], "radar")


@pytest.mark.parametrize("name", ["sentinel2-l2a", "SENTINEL-2-L2A", "sentinel_2_l2a"])
def test_collections_are_known_however_they_are_spelled(tmp_path, name):
    assert len(found(tmp_path, [record(collection=name)])) == 1
    assert item_of(record(collection=name), "/items.json").collection_id == "sentinel-2-l2a"


def test_an_item_without_a_collection_belongs_where_its_products_name_says(tmp_path):
    name = product("0510", "20240101T000000")
    assert len(found(tmp_path, [record(name, None)])) == 1
    with pytest.raises(ValueError, match=r"the catalogue has 0.*its items are of None, my-own"):
        found(tmp_path, [record("a", None), record("b", "my-own")])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (MPC, "they have Sentinel-2's bands: take --sensors radar,s2"),
        (["thumbnail"], "their files are thumbnail, not visual or TCI"),
    ],
)
def test_files_that_a_sensor_cannot_use_are_named(tmp_path, keys, says):
    with pytest.raises(ValueError, match="1, 0 of them usable") as error:
        found(tmp_path, [record(assets=keys)])
    assert says in str(error.value)


def test_what_states_no_cloud_cover_is_taken_where_all_cloud_is_allowed(tmp_path):
    one = record()
    del one["properties"]["eo:cloud_cover"]
    with pytest.raises(ValueError, match="100 % takes what states no cloud cover"):
        found(tmp_path, [one], max_cloud=99.0)
    assert len(found(tmp_path, [one], max_cloud=100.0)) == 1


# Offset and unit


@pytest.mark.parametrize(
    ("asset", "said", "right"),
    [
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, {}, -1000),
        ({"raster:bands": [{"scale": 1e-4, "offset": 0}]}, {}, 0),
        ({"bands": [{"name": "x", "raster:scale": 1e-4, "raster:offset": -0.1}]}, {}, -1000),
        ({"raster:scale": 1e-4, "raster:offset": -0.1}, {"processing:version": "05.10"}, -1000),
        ({"raster:bands": [{"scale": 1.0, "offset": 0.0}]}, {"processing:version": "05.10"}, -1000),
        (
            {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
            {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True},
            0,
        ),
    ],
)
def test_the_offset_is_what_baseline_or_bands_state(tmp_path, asset, said, right):
    files = {key: {"href": f"/{key}.tif"} | asset for key in MPC}
    assert found(tmp_path, [record(assets=files, **said)], "s2")[0].offset_dn == right


@pytest.mark.parametrize(
    ("asset", "said", "says"),
    [
        ({}, {}, "state the offset of its digital numbers, .* --offset-dn -1000 .*, or 0 before"),
        ({"raster:bands": [{"scale": 1.0, "offset": 0.0}]}, {}, "state --offset-dn"),
        (
            {"raster:bands": [{"scale": 1e-4, "offset": 0}]},
            {"s2:processing_baseline": "05.10"},
            r"state one offset .* got \[-1000, 0\]",
        ),
        ({"raster:bands": [{"scale": "1e-4", "offset": -0.1}]}, {}, "in numbers, got .'1e-4'"),
        ({"raster:bands": [{"scale": 0, "offset": -0.1}]}, {}, "scale above 0"),
        ({"raster:bands": {"scale": 1}}, {}, "bands of STAC"),
        ({"raster:bands": [None]}, {}, "bands of STAC"),
        ({}, {"s2:processing_baseline": "99.99"}, "baseline such as 05.10, got '99.99'"),
        ({}, {"s2:processing_baseline": "four"}, "got 'four'"),
        ({}, {"s2:processing_baseline": ["05.10"]}, "baseline such as 05.10"),
        ({}, {"s2:processing_baseline": True}, "got True"),
        ({}, {"s2:processing_baseline": "-5.1"}, "got '-5.1'"),
        ({}, {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": "no"}, "'no'"),
    ],
)
def test_an_offset_that_would_be_guessed_is_refused(tmp_path, asset, said, says):
    files = {key: {"href": f"/{key}.tif"} | asset for key in MPC}
    with pytest.raises(ValueError, match=says):
        found(tmp_path, [record(assets=files, **said)], "s2")


def test_the_offset_of_what_states_none_can_be_said(tmp_path):
    for value in (0, -1000):
        (scene,) = found(tmp_path, [record(assets=MPC)], "s2", offset_dn=value)
        assert scene.offset_dn == value
    with pytest.raises(ValueError, match="offset_dn must be 0 or -1000, got 1000"):
        Rules(offset_dn=1000)


@pytest.mark.parametrize(
    ("asset", "right"),
    [
        ({"raster:bands": [{"unit": "dB"}]}, "db"),
        ({"bands": [{"unit": "dB"}]}, "db"),
        ({"bands": [{"name": "vv"}], "unit": "decibel"}, "db"),
        ({"bands": [{"unit": "linear"}]}, "power"),
        ({"bands": [{"unit": "1"}]}, None),
        ({"raster:bands": [{"unit": None}]}, None),
        ({"raster:bands": []}, None),
    ],
)
def test_the_unit_of_backscatter_is_that_of_bands_or_file(tmp_path, asset, right):
    files = {key: {"href": f"/{key}.tif"} | asset for key in ("vv", "vh")}
    (scene,) = found(tmp_path, [record("r", "sentinel-1-grd", files)], "radar")
    assert scene.unit == right


# Odd items

ODD = {
    "type": ("Catalog", None, 4),
    "id": (None, 5, [], {}, ""),
    "collection": (["sentinel-2-l2a"], 5),
    "geometry": (
        *("POINT (0 0)", 5, [], {"type": "Polygon"}, {"type": "Polygon", "coordinates": "x"}),
        {"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"], ["a", "b"]]]},
        {"type": "Polygon", "coordinates": [[[4e5, 5e6], [5e5, 5e6], [5e5, 6e6], [4e5, 5e6]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Circle", "coordinates": [0, 0]},
        {"type": "Polygon", "coordinates": [[[float("nan"), 0], [1, 0], [1, 1], [0, 0]]]},
    ),
    "properties": (None, [], "x", 5),
    "assets": (None, [], "x", {"visual": "v.tif"}, {"visual": {}}, {"visual": {"href": 5}}),
}
ODD_PROPERTIES = {
    "datetime": (None, 5, "yesterday", [], {}),
    "eo:cloud_cover": ("ten", "3", [], True, -1, 101, float("nan"), float("inf")),
    "s2:processing_baseline": ("four", [4], {"a": 1}),
}
CASES = [(None, field, value) for field, values in ODD.items() for value in values]
CASES += [("properties", field, v) for field, values in ODD_PROPERTIES.items() for v in values]


@pytest.mark.parametrize(("part", "field", "value"), CASES)
def test_one_odd_item_among_good_ones_is_left_out_and_named(tmp_path, part, field, value):
    bad, said = record("odd"), []
    (bad if part is None else bad[part])[field] = value
    good = [record("good1"), record("good2")]
    assert {one.id for one in found(tmp_path, [good[0], bad, good[1]], said=said)} == {
        "good1",
        "good2",
    }
    assert len(said) == 1
    assert said[0].startswith("1 of 3 ")
    assert (
        "an item without an id"
        if field == "id" and not value
        else "odd ("
        if field != "id"
        else "(it must have an id, got"
    ) in said[0]
    assert "\n" not in said[0]
    with pytest.raises(ValueError, match=r"odd \(|without an id|have an id"):
        found(tmp_path, [bad])


@pytest.mark.parametrize("value", [None, 5, "x", [], {}, ["x"], {"a": [None]}, True, 1e308])
@pytest.mark.parametrize(
    "field", ["gsd", "platform", "instruments", "proj:epsg", "providers", "created", "grid:code"]
)
def test_fields_that_are_not_read_may_be_anything(tmp_path, field, value):
    assert [one.id for one in found(tmp_path, [record(**{field: value})])] == ["a"]


@pytest.mark.parametrize("field", ["bbox", "links", "stac_extensions", "stac_version", "title"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, [None], [5], ["x"], True])
def test_odd_members_that_are_not_read_end_in_a_scene_or_a_line(tmp_path, field, value):
    said, bad = [], record("odd") | {field: value}
    names = {one.id for one in found(tmp_path, [record("good"), bad], said=said)}
    assert names == {"good"} | ({"odd"} if not said else set())


def test_many_odd_items_are_counted_and_the_first_are_named(tmp_path):
    said = []
    odd = [record(f"odd{n}", **{"eo:cloud_cover": "ten"}) for n in range(7)]
    found(tmp_path, [record("good"), *odd], said=said)
    assert said[0].startswith("7 of 8 lores items are left out: odd0 (it must have an eo:cloud_cov")
    assert said[0].endswith("and 4 more")
    assert "odd3" not in said[0]


def test_an_outline_beyond_180_degrees_is_cut_and_shifted(tmp_path):
    one = record()
    one["geometry"] = shapely.geometry.mapping(shapely.box(179, 50, 181, 51))
    right = shapely.union(shapely.box(179, 50, 180, 51), shapely.box(-180, 50, -179, 51))
    assert found(tmp_path, [one])[0].footprint.equals(right)


def test_heights_of_an_outline_do_not_count(tmp_path):
    one = record()
    ring = [[x, y, 120.5] for x, y in GROUND.exterior.coords]
    one["geometry"] = {
        "type": "GeometryCollection",
        "geometries": [{"type": "Polygon", "coordinates": [ring]}],
    }
    assert found(tmp_path, [one])[0].footprint.equals(GROUND)


# Where items come from


def as_items(records):
    return [pystac.Item.from_dict(copy.deepcopy(one)) for one in records]


def test_parts_collections_and_single_items_of_a_folder_are_read(tmp_path):
    records = [record(f"i{n}") for n in range(5)]
    for number, some in enumerate((records[:2], records[2:])):
        table = stac_geoparquet.arrow.parse_stac_items_to_arrow(as_items(some))
        part = tmp_path / "parts" / f"year={2020 + number}" / "part-0.parquet"
        part.parent.mkdir(parents=True)
        stac_geoparquet.arrow.to_parquet(table, part)
    written(tmp_path / "json" / "first.json", records[:2])
    for one in records[2:]:
        (tmp_path / "json" / f"{one['id']}.geojson").write_text(json.dumps(one))
    for where in ("parts", "json", "parts/year=2020/part-0.parquet", "json/i4.geojson"):
        items = find_items(tmp_path / where, Rules(), None)
        ids = {item.id for item in items}
        assert ids == (
            {"i4"}
            if "i4" in where
            else {"i0", "i1"}
            if "part-0" in where
            else {f"i{n}" for n in range(5)}
        )
        assert all(search([item], "lores") for item in items)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"catalog must be a catalog\.json on disk, got .*empty"):
        find_items(tmp_path / "empty", Rules(), None)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("s3://bucket/catalog.json", "on disk, or JSON behind https, got s3://.*: download it"),
        ("gs://bucket/items.parquet", "download it"),
        ("https://h.org/items.parquet", "must be on disk, or JSON behind https, .*: download it"),
        ("https://h.org/items.parquet?sig=x", r"got https://h.org/items.parquet: download it"),
    ],
)
def test_places_that_are_not_read_are_told_what_to_do(where, says):
    with pytest.raises(ValueError, match=says):
        find_items(where, Rules(), GROUND)


def test_a_static_catalogue_and_a_collection_of_items_are_read_from_a_server(tmp_path):
    items = [("lores", item) for item in as_items([record("a"), record("b")])]
    write_catalog(tmp_path, items)
    written(tmp_path / "items.json", [record("c", assets={"visual": "v.tif"})])
    with files_from_a_thread(tmp_path) as url:
        found = find_items(f"{url}/catalog.json", Rules(), None)
        assert {item.id for item in found} == {"a", "b"}
        (one,) = find_items(f"{url}/items.json", Rules(), None)
        assert search([one], "lores")[0].hrefs == (f"{url}/v.tif",)
        with pytest.raises(ValueError, match=f"can be reached, got {url}/none.json"):
            find_items(f"{url}/none.json", Rules(), None)


DEEP = 100_000
TEXTS = ["", "null", "[]", "5", '"x"', "{}", "{", "[" * DEEP, '{"a":' * DEEP, "\xff", "NaN"]
TEXTS += [
    '{"hello": 1}',
    '{"type": "FeatureCollection"}',
    '{"type": "FeatureCollection", "features": null}',
]
TEXTS += ['{"type": "FeatureCollection", "features": [null, [], 5, "x"]}', '{"type": "Feature"}']
TEXTS += ['{"type": "Catalog", "id": "x", "stac_version": "1.0.0", "links": [null]}']
TEXTS += ['{"type": "Catalog", "id": "x", "stac_version": "1.0.0", "links": [{"rel": "child"}]}']


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["catalog.json", "items.parquet"])
def test_a_file_that_is_no_catalogue_is_refused_in_a_line(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    form = "stac-geoparquet" if "parquet" in name else "STAC JSON"
    says = f"catalog must be {form}, got .*{name} |Could not read any item: .*{name}"
    with pytest.raises(ValueError, match=says) as error:
        find_items(tmp_path / name, Rules(), None)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_an_item_file_that_is_broken_or_missing_is_left_out_and_named(tmp_path):
    names = [f"i{n}" for n in range(4)]
    catalog = write_catalog(tmp_path, [("lores", item) for item in as_items(map(record, names))])
    files = [tmp_path / "sentinel-2-l2a" / name / f"{name}.json" for name in names]
    files[0].unlink()
    files[1].write_text("{")
    files[2].write_text("[" * DEEP)
    said = []
    assert [one.id for one in find_items(catalog, Rules(), None, said.append)] == ["i3"]
    assert said[0].startswith(f"3 of 4 items of {catalog} are left out: ")
    assert all(name in said[0] for name in ("i0", "i1", "i2"))


def test_catalogues_that_point_to_each_other_end(tmp_path):
    links = [{"rel": "child", "href": "./catalog.json"}, {"rel": "child", "href": "b.json"}]
    one = {"type": "Catalog", "id": "x", "stac_version": "1.0.0", "links": links}
    (tmp_path / "b.json").write_text(json.dumps(one))
    one["links"] = [*links, {"rel": "item", "href": "i.json"}]
    (tmp_path / "catalog.json").write_text(json.dumps(one))
    (tmp_path / "i.json").write_text(json.dumps(record()))
    assert [item.id for item in find_items(tmp_path, Rules(), None)] == ["a"]


@pytest.mark.parametrize("name", ["catalog.json", "sentinel-2-l2a/a/a.json"])
def test_flipped_bits_end_in_scenes_or_a_line(tmp_path, name):
    write_catalog(tmp_path, [("lores", item) for item in as_items([record("a"), record("b")])])
    text, draw = (tmp_path / name).read_bytes(), random.Random(5)
    for _ in range(60):
        at = draw.randrange(len(text))
        flipped = bytes([*text[:at], text[at] ^ 1 << draw.randrange(8), *text[at + 1 :]])
        (tmp_path / name).write_bytes(flipped)
        try:
            names = {one.id for one in search(find_items(tmp_path, Rules(), None), "lores")}
        except ValueError as error:
            names = {"b"} - {*str(error).splitlines()[1:]}
        assert "b" in names


# APIs


@pytest.mark.parametrize("way", ["GET", "POST", "merge"])
def test_a_huge_answer_is_read_page_by_page(way):
    records = [record(f"i{n:05d}") for n in range(1003)]
    with pages_of(records, way=way) as api:
        items = find_items(api, Rules(sensors=("radar", "lores")), GROUND)
    assert [item.id for item in items] == [one["id"] for one in records]


def test_a_page_that_comes_again_and_again_ends():
    with (
        pages_of([record(f"i{n}") for n in range(5)], loops=True) as api,
        pytest.raises(ValueError, match="got the same page again"),
    ):
        find_items(api, Rules(sensors=("radar", "lores")), GROUND)


def test_odd_items_of_an_api_count_as_come_and_are_left_out():
    said = []
    records = [record("a"), None, 5, record("b") | {"id": [4]}, record("c")]
    with pages_of(records) as api:
        items = find_items(api, Rules(sensors=("radar", "lores")), GROUND, said.append)
    assert [item.id for item in items] == ["a", "c"]
    assert said[0].startswith("3 of 5 items of ")


def test_an_api_that_gives_less_than_it_counts_is_refused():
    with (
        pages_of([record("a")], counts=2) as api,
        pytest.raises(ValueError, match="catalog must give every item, got 1 of 2"),
    ):
        find_items(api, Rules(sensors=("radar", "lores")), GROUND)


@pytest.mark.parametrize(("asked", "waits"), [("1", True), ("60", True), ("61", False)])
def test_a_wait_of_more_than_a_minute_is_told_instead_of_kept(asked, waits, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    answer = HTTPResponse(headers={"Retry-After": asked}, status=503)
    if waits:
        RETRIES.sleep(answer)
        assert slept == [int(asked)]
    else:
        with pytest.raises(OSError, match="it asks to wait 61 s"):
            RETRIES.sleep(answer)


def test_a_server_that_asks_for_a_day_ends_the_search_at_once(tmp_path):
    busy = Faults(unavailable=1.0, retry_after=86400)
    (tmp_path / "catalog.json").write_text("{}")
    with (
        RangeServer(tmp_path, faults=busy) as server,
        pytest.raises(ValueError, match=r"can be reached, got .*it asks to wait 86400 s"),
    ):
        find_items(f"{server.url}/catalog.json", Rules(), None)


def test_an_area_of_too_many_tiles_is_refused_before_a_search(tmp_path):
    with pytest.raises(ValueError, match="at most 2,000,000 tiles of zoom 14, got about 267,"):
        curate("http://127.0.0.1:9", tmp_path, zoom=14, area=(-180, -85, 180, 85))
