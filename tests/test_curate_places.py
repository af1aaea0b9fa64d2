"""The real Sentinel-1 and Sentinel-2 places through all of curation, as others describe them."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
from rasterio.warp import transform_bounds
from rasterio.windows import from_bounds

from salib.config.sensors import S2_BANDS
from salib.curate import Rules, curate
from salib.tiles.archive import Archive
from salib.tiles.grid import TileId, tile_bounds

ZOOM = 16
L1C = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
AWS = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08")
AWS += ("nir09", "swir16", "swir22")
pytestmark = pytest.mark.real


def bands_of(folder, work):
    """Files of a place by band, VV and VH first; bands of a stack become files of their own."""
    folder, found = Path(folder), {}
    for path in sorted(folder.rglob("*_*.tif")):
        found[path.stem.rsplit("_", 1)[1]] = path
    radar = ("S1RTC.tif", "s1.tif"), ("VV", "VH")
    optical = ("S2L2A.tif",), S2_BANDS
    level1 = ("s2_cloudfree.tif", "s2_cloudy.tif"), L1C
    for names, bands in (radar, optical, level1):
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            continue
        with rasterio.open(path) as file:
            profile = file.profile | {"count": 1, "dtype": "uint16", "driver": "GTiff"}
            if bands == radar[1]:
                profile["dtype"] = "float32"
            for number, band in enumerate(bands, 1):
                found[band] = work / f"{folder.name}_{band}.tif"
                with rasterio.open(found[band], "w", **profile) as out:
                    out.write(file.read(number).astype(profile["dtype"]), 1)
    return {band: found[band] for band in ("VV", "VH", *S2_BANDS) if band in found}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    if "SALIB_DATA_DIR" not in os.environ:
        pytest.skip("SALIB_DATA_DIR is not set")
    root, work = Path(os.environ["SALIB_DATA_DIR"]) / "aligned", tmp_path_factory.mktemp("bands")
    folders = [
        path for at in ("terramesh", "bigearthnet_mm", "sen12mscr") for path in root.glob(f"{at}/*")
    ]
    if not folders:
        pytest.skip(f"{root} holds no place")
    found = {folder.name: bands_of(folder, work) for folder in sorted(folders)}
    return {name: files for name, files in found.items() if len(files) == 14}


def ground_of(path):
    with rasterio.open(path) as file:
        return shapely.box(*transform_bounds(file.crs, "EPSG:4326", *file.bounds))


def old_style(item, key, band, path):
    """STAC 1.0 as rio-stac writes it: raster:bands and eo:bands of what the file says."""
    with rasterio.open(path) as file:
        said = {"data_type": file.dtypes[0], "scale": 1.0, "offset": 0.0, "sampling": "area"}
        item["properties"] |= {"proj:epsg": file.crs.to_epsg(), "proj:shape": [*file.shape]}
    said |= {"unit": "dB"} if band in ("VV", "VH") else {"unit": None}
    item["stac_version"] = "1.0.0"
    item["assets"][key] = {
        "href": path.as_uri(),
        "type": "image/tiff; application=geotiff",
        "roles": [],
        "raster:bands": [said],
        "eo:bands": [{"name": "b1", "description": "gray"}],
    }


def new_style(item, key, band, path):
    """STAC 1.1: bands that have a name, and a unit."""
    said = {"name": band, "data_type": "uint16"}
    said |= {"unit": "dB"} if band in ("VV", "VH") else {"eo:common_name": "nir"}
    item["assets"][key] = {"href": str(path), "roles": ["data"], "bands": [said]}


STYLES = {
    "aws-1.0": (old_style, dict(zip(S2_BANDS, AWS, strict=True)), "05.00"),
    "planetary-computer-1.0": (old_style, {band: band for band in S2_BANDS}, None),
    "bands-1.1": (new_style, {band: f"file-{band}" for band in ("VV", "VH", *S2_BANDS)}, None),
}


def catalog_of(places, folder, style):
    """A catalogue of the places, by pystac's defaults."""
    describe, keys, baseline = STYLES[style]
    catalog = pystac.Catalog("places", "as others write them")
    extent = pystac.Extent(
        pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
    )
    for name, bands in (("sentinel-1-grd", ("VV", "VH")), ("sentinel-2-l2a", S2_BANDS)):
        collection = pystac.Collection(name, name, extent)
        for place, files in places.items():
            ground = ground_of(files["VV"])
            when = dt.datetime(2018, 6, 11, tzinfo=dt.UTC)
            geometry = shapely.geometry.mapping(ground)
            item = pystac.Item(f"{name}-{place}", geometry, [*ground.bounds], when, {}).to_dict()
            for band in bands:
                describe(item, keys.get(band, band.lower()), band, files[band])
            if baseline and name == "sentinel-2-l2a":
                item["properties"] |= {"s2:processing_baseline": baseline, "eo:cloud_cover": 2.5}
                item["properties"]["earthsearch:boa_offset_applied"] = True
            collection.add_item(pystac.Item.from_dict(item))
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(folder))
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


@pytest.mark.parametrize("style", STYLES)
def test_ten_places_are_curated_from_catalogues_that_others_wrote(places, tmp_path, style):
    assert len(places) >= 10
    catalog = catalog_of(places, tmp_path / "stac", style)
    stated = STYLES[style][2]
    kind = {} if stated else {"max_cloud": 100.0, "offset_dn": 0}
    rules = Rules(sensors=("radar", "s2"), **kind)
    if not stated:
        with pytest.raises(ValueError, match=r"state --offset-dn -1000 .*, or 0"):
            curate(catalog, tmp_path / "out", zoom=ZOOM, rules=Rules(sensors=("radar", "s2")))
    grounds = {name: ground_of(files["VV"]) for name, files in places.items()}
    middles = shapely.union_all([ground.centroid.buffer(1e-6) for ground in grounds.values()])
    out = curate(catalog, tmp_path / "out", zoom=ZOOM, area=middles, rules=rules)
    rows = pd.read_parquet(out / "tiles.parquet")
    radar, s2 = Archive(out / "radar.pmtiles"), Archive(out / "s2.pmtiles")
    seen = set()
    for z, x, y in s2.tiles():
        bounds = tile_bounds(TileId(z, x, y))
        middle = shapely.box(*bounds).centroid
        place = next(name for name in places if grounds[name].contains(middle))
        seen.add(place)
        for band, level in (("B02", np.median(s2.get(z, x, y)[..., 1])), ("VV", 0)):
            with rasterio.open(places[place][band]) as file:
                window = from_bounds(
                    *transform_bounds("EPSG:4326", file.crs, *bounds), file.transform
                )
                right = np.median(file.read(1, window=window))
            if band == "VV":
                level = np.median(radar.get(z, x, y)[..., 1])
                right = min(255, 526 * 10 ** (right / 20) * 256 / 1000)
            assert level == pytest.approx(right, rel=0.05 if band == "B02" else 0.15)
    assert seen == {*places}
    assert len(rows) == 2 * len(s2.tiles())
