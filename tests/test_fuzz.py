"""Damaged and odd input, drawn by Hypothesis: a right result or one line, whatever a file holds.

What is drawn is the same in every run. Items and areas are what
others write; a reader of theirs may raise nothing but ValueError, in a line that names the file.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from curate_scenes import make_item
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salib.config import SENSOR_NAMES
from salib.curate.area import read_area
from salib.curate.search.catalog import Rules, search_all
from salib.curate.search.sources import find_items

fuzzed = settings(max_examples=150, derandomize=True, deadline=None, database=None)
WHOLE = shapely.box(-99, 38, -97, 39)
ASSETS = {"radar": ("vv", "vh"), "lores": ("visual", "scl"), "hires": ("image",)}
COLLECTIONS = {"radar": "sentinel-1-grd", "lores": "sentinel-2-l2a", "hires": "naip"}
TEXTS = ["", "ten", "NaN", "../../x", "<script>", "\x00", "2023-13-45", "dB", "\u00e9" * 99]
HUGE = "9" * 400
"""Stands for a whole number of 400 digits, which is put in after drawing."""
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*TEXTS, HUGE])
    | st.sampled_from([-1, 1e308, [], {}, [[]], [None], {"": None}, [{}], {"href": None}])
)
JSON = st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def item_of(sensor, name):
    day, cloud = "2022-06-11", 3.0 if sensor == "lores" else None
    assets = {key: f"/scenes/{name}-{key}.tif" for key in ASSETS[sensor]}
    record = make_item(sensor, name, WHOLE, day, assets, cloud)[1].to_dict(transform_hrefs=False)
    record["collection"] = COLLECTIONS[sensor]
    said = {"s2:processing_baseline": "05.09", "gsd": 10, "sar:instrument_mode": "IW"}
    said |= {"sar:polarizations": ["VV", "VH"], "s2:product_uri": "S2A.SAFE"}
    record["properties"] |= said
    for asset in record["assets"].values():
        asset |= {"raster:bands": [{"unit": "1", "nodata": 0}], "gsd": 10, "roles": ["data"]}
    return record


def paths_in(value, before=()):
    """Where every value of a record lies."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        yield (*before, key)
        if isinstance(each, dict | list):
            yield from paths_in(each, (*before, key))


def written(path, record):
    path.write_text(json.dumps(record).replace(f'"{HUGE}"', HUGE))


def changed(record, path, value):
    record = copy.deepcopy(record)
    at = record
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return record


GOOD = {sensor: item_of(sensor, f"good-{sensor}") for sensor in SENSOR_NAMES}
PLACES = [(sensor, path) for sensor, record in GOOD.items() for path in paths_in(record)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzzed
@given(number=st.integers(0, len(PLACES) - 1), value=JSON)
def test_an_odd_item_takes_no_good_one_away(folder, number, value):
    path = folder / "items.json"
    sensor, at = PLACES[number]
    features = [*GOOD.values(), changed(item_of(sensor, "odd"), at, value)]
    written(path, {"type": "FeatureCollection", "features": features})
    found = search_all(find_items(path, Rules(), None), Rules(), None)
    for sensor in SENSOR_NAMES:
        assert f"good-{sensor}" in [scene.id for scene in found[sensor]]
        assert all(np.isfinite(scene.footprint.bounds).all() for scene in found[sensor])


@fuzzed
@given(value=JSON)
@example(value={"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}]})
def test_an_area_is_polygons_in_degrees_or_refused_in_a_line(folder, value):
    path = folder / "area.geojson"
    written(path, value)
    refused(path, lambda: read_area(path))
    geometry = {"type": "Polygon", "coordinates": value}
    written(path, {"type": "Feature", "properties": {}, "geometry": geometry})
    refused(path, lambda: read_area(path))


def refused(path, read):
    """What is read, or None where that is refused in one line that names the file."""
    try:
        return read()
    except ValueError as error:
        text = str(error)
    assert "\n" not in text.strip()
    assert not path or Path(path).name in text
    return None
