"""STAC items of procedural scenes, with the property names of Earth Search, and their catalog."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
from jaxtyping import UInt8

from earth.scenes.area import Area, Quad
from earth.scenes.slant import SPACING_M, Slant

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_PROJECTION = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
_SAR = "https://stac-extensions.github.io/sar/v1.0.0/schema.json"
_SAT = "https://stac-extensions.github.io/sat/v1.0.0/schema.json"
COLLECTIONS = {
    "sentinel-1-grd": "Procedural Sentinel-1-like ground range detected amplitude",
    "sentinel-2-l2a": "Procedural Sentinel-2-like true colour",
    "naip": "Procedural NAIP-like aerial images",
}


def folder(root: Path, item: pystac.Item) -> Path:
    """Folder of an item's files below the catalog; made if absent."""
    path = root / str(item.collection_id) / item.id
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(root: Path, item: pystac.Item) -> None:
    """Write an item beside its files; `write_catalog` links it later."""
    item.save_object(include_self_link=False, dest_href=str(folder(root, item) / f"{item.id}.json"))


def write_catalog(root: Path, seed: int) -> None:
    """Link the items below `root` into collections and one self-contained static catalog."""
    catalog = pystac.Catalog(
        id=f"procedural-earth-{seed}",
        description=f"Procedural scenes of the world with seed {seed}; nothing in them is real.",
    )
    for name, title in COLLECTIONS.items():
        paths = sorted((root / name).glob("*/*.json"))
        items = [pystac.Item.from_file(str(path)) for path in paths]
        boxes = np.array([item.bbox for item in items])
        dates = [item.datetime for item in items]
        collection = pystac.Collection(
            id=name,
            title=title,
            description=f"{title}; nothing in it is real.",
            license="MIT",
            extent=pystac.Extent(
                pystac.SpatialExtent([[*boxes.min(0)[:2].tolist(), *boxes.max(0)[2:].tolist()]]),
                pystac.TemporalExtent([[min(filter(None, dates)), max(filter(None, dates))]]),
            ),
        )
        for item in items:
            item.clear_links()
            collection.add_item(item)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(root / "catalog.json"))
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)


def naip_item(area: Area, quad: Quad, gsd_m: float) -> pystac.Item:
    """Item of one aerial image."""
    west, north = area.west_m + quad.left_m, area.north_m - quad.top_m
    shape = (round(quad.height_m / gsd_m), round(quad.width_m / gsd_m))
    when = datetime(2023, 7, 3, 16, 0, tzinfo=UTC)
    item = _item(
        f"m_procedural_{quad.name}_{area.epsg % 100}_{round(gsd_m * 100):03d}_20230703",
        "naip",
        area,
        _box(west, north, quad.width_m, quad.height_m),
        when,
        {
            "gsd": gsd_m,
            "naip:year": "2023",
            "eo:cloud_cover": 0,
            "platform": "procedural",
            "instruments": ["procedural"],
            **_grid(area, west, north, gsd_m, shape),
        },
        [_PROJECTION, _EO],
    )
    names = ("red", "green", "blue", "nir")
    bands = [{"name": name.capitalize(), "common_name": name} for name in names]
    _add(item, "image", "image.tif", {"eo:bands": bands})
    return item


def lores_item(
    area: Area,
    west_m: float,
    shape: tuple[int, ...],
    number: int,
    when: datetime,
    cloudy: float,
    classes: UInt8[np.ndarray, "rows cols"],
) -> pystac.Item:
    """Item of one lores scene; the first one ends at the slanted edge of its swath."""
    width, height = shape[1] * 10.0, shape[0] * 10.0
    corners = _box(west_m, area.north_m, width, height)
    if number == 0:
        corners[1, 0] = west_m + 0.85 * width
        corners[2, 0] = west_m + 0.97 * width
    seen = classes[classes > 0]
    share = {value: round(float(100 * np.mean(seen == value)), 4) for value in (4, 5, 6, 8, 9)}
    item = _item(
        f"S2P_{area.epsg % 100}PRC_{when:%Y%m%d}_{number}_L2A",
        "sentinel-2-l2a",
        area,
        corners,
        when,
        {
            "platform": "procedural",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "eo:cloud_cover": round(cloudy, 4),
            "s2:nodata_pixel_percentage": round(float(100 * np.mean(classes == 0)), 4),
            "s2:vegetation_percentage": share[4],
            "s2:not_vegetated_percentage": share[5],
            "s2:water_percentage": share[6],
            "s2:medium_proba_clouds_percentage": share[8],
            "s2:high_proba_clouds_percentage": share[9],
            "s2:product_type": "S2MSI2A",
            "view:sun_azimuth": 149.5,
            "view:sun_elevation": 45.4,
            **_grid(area, west_m, area.north_m, 10.0, (shape[0], shape[1])),
        },
        [_PROJECTION, _EO],
    )
    names = (("B04", "red"), ("B03", "green"), ("B02", "blue"))
    bands = [{"name": name, "common_name": common} for name, common in names]
    _add(item, "visual", "TCI.tif", {"eo:bands": bands, "gsd": 10})
    scl = _grid(area, west_m, area.north_m, 20.0, classes.shape)
    _add(
        item, "scl", "SCL.tif", {"gsd": 20, **{k: scl[k] for k in ("proj:shape", "proj:transform")}}
    )
    return item


def radar_item(slant: Slant, number: int) -> pystac.Item:
    """Item of one radar scene; its files are placed by ground control points alone."""
    when = datetime(2023, 6, 13, 0, 31, 7 + 25 * number, tzinfo=UTC)
    item = _item(
        f"S1P_IW_GRDH_1SDV_{when:%Y%m%dT%H%M%S}_procedural",
        "sentinel-1-grd",
        slant.area,
        slant.footprint(),
        when,
        {
            "platform": "procedural",
            "constellation": "sentinel-1",
            "sar:frequency_band": "C",
            "sar:center_frequency": 5.405,
            "sar:observation_direction": "right",
            "sar:instrument_mode": "IW",
            "sar:polarizations": ["VV", "VH"],
            "sar:product_type": "GRD",
            "sar:resolution_range": 20,
            "sar:resolution_azimuth": 22,
            "sar:pixel_spacing_range": SPACING_M,
            "sar:pixel_spacing_azimuth": SPACING_M,
            "sar:looks_range": 5,
            "sar:looks_azimuth": 1,
            "sar:looks_equivalent_number": 4.4,
            "sat:orbit_state": "ascending",
            "s1:processing_level": "1",
            "s1:resolution": "high",
            "s1:shape": [slant.rows, slant.cols],
        },
        [_SAR, _SAT],
    )
    for name in ("vv", "vh"):
        _add(item, name, f"{name}.tif", {"sar:polarizations": [name.upper()]})
    return item


def _item(
    name: str,
    collection: str,
    area: Area,
    corners: np.ndarray,
    when: datetime,
    properties: dict,
    extensions: list[str],
) -> pystac.Item:
    ring = area.ring(corners)
    lon, lat = zip(*ring, strict=True)
    return pystac.Item(
        id=name,
        collection=collection,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[min(lon), min(lat), max(lon), max(lat)],
        datetime=when,
        properties=properties,
        stac_extensions=extensions,
    )


def _add(item: pystac.Item, key: str, href: str, fields: dict) -> None:
    item.add_asset(
        key, pystac.Asset(f"./{href}", media_type=_COG, roles=["data"], extra_fields=fields)
    )


def _box(west: float, north: float, width: float, height: float) -> np.ndarray:
    east, south = west + width, north - height
    return np.array([[west, south], [east, south], [east, north], [west, north]])


def _grid(
    area: Area, west: float, north: float, gsd_m: float, shape: tuple[int, ...]
) -> dict[str, object]:
    rows, cols = shape
    return {
        "proj:epsg": area.epsg,
        "proj:shape": [rows, cols],
        "proj:transform": [gsd_m, 0, west, 0, -gsd_m, north],
        "proj:bbox": [west, north - rows * gsd_m, west + cols * gsd_m, north],
    }
