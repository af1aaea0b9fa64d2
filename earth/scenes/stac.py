"""STAC items of procedural scenes, with the property names of Earth Search, and their catalog."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
from jaxtyping import UInt8

from earth.scenes.area import Quad, UtmArea
from earth.scenes.slant import SPACING_M, Slant

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_PROJECTION = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
_SAR = "https://stac-extensions.github.io/sar/v1.0.0/schema.json"
_SAT = "https://stac-extensions.github.io/sat/v1.0.0/schema.json"
COLLECTION_TITLES = {
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
    for name, title in COLLECTION_TITLES.items():
        paths = sorted((root / name).glob("*/*.json"))
        items = [pystac.Item.from_file(str(path)) for path in paths]
        collection = pystac.Collection(
            id=name,
            title=title,
            description=f"{title}; nothing in it is real.",
            license="MIT",
            extent=pystac.Extent.from_items(items),
        )
        for item in items:
            item.clear_links()
            collection.add_item(item)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(root / "catalog.json"))
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)


def naip_item(area: UtmArea, quad: Quad, gsd_m: float) -> pystac.Item:
    """Item of one aerial image."""
    west, north = area.west_m + quad.left_m, area.north_m - quad.top_m
    shape = (round(quad.height_m / gsd_m), round(quad.width_m / gsd_m))
    properties = {
        "gsd": gsd_m,
        "naip:year": "2023",
        "eo:cloud_cover": 0,
        "instruments": ["procedural"],
        **_grid(area, west, north, gsd_m, shape),
    }
    name = f"m_procedural_{quad.name}_{area.epsg % 100}_{round(gsd_m * 100):03d}_20230703"
    corners = _box(west, north, quad.width_m, quad.height_m)
    when = datetime(2023, 7, 3, 16, 0, tzinfo=UTC)
    item = _item(name, "naip", area, corners, when, properties, [_PROJECTION, _EO])
    names = ("red", "green", "blue", "nir")
    bands = [{"name": name.capitalize(), "common_name": name} for name in names]
    add(item, "image", "image.tif", {"eo:bands": bands})
    return item


def lores_item(
    area: UtmArea,
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
    properties = {
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "eo:cloud_cover": round(cloudy, 4),
        "s2:nodata_pixel_percentage": round(float(100 * np.mean(classes == 0)), 4),
        "s2:product_type": "S2MSI2A",
        **_grid(area, west_m, area.north_m, 10.0, shape),
    }
    name = f"S2P_{area.epsg % 100}PRC_{when:%Y%m%d}_{number}_L2A"
    item = _item(name, "sentinel-2-l2a", area, corners, when, properties, [_PROJECTION, _EO])
    names = (("B04", "red"), ("B03", "green"), ("B02", "blue"))
    bands = [{"name": name, "common_name": common} for name, common in names]
    add(item, "visual", "TCI.tif", {"eo:bands": bands, "gsd": 10})
    scl = _grid(area, west_m, area.north_m, 20.0, classes.shape)
    placed = {key: scl[key] for key in ("proj:shape", "proj:transform")}
    add(item, "scl", "SCL.tif", {"gsd": 20, **placed})
    return item


def radar_item(slant: Slant, number: int) -> pystac.Item:
    """Item of one radar scene; its files are placed by ground control points alone."""
    when = datetime(2023, 6, 13, 0, 31, 7 + 25 * number, tzinfo=UTC)
    properties = {
        "constellation": "sentinel-1",
        "sar:frequency_band": "C",
        "sar:instrument_mode": "IW",
        "sar:polarizations": ["VV", "VH"],
        "sar:product_type": "GRD",
        "sar:pixel_spacing_range": SPACING_M,
        "sar:pixel_spacing_azimuth": SPACING_M,
        "sat:orbit_state": "ascending",
        "s1:shape": [slant.rows, slant.cols],
    }
    name = f"S1P_IW_GRDH_1SDV_{when:%Y%m%dT%H%M%S}_procedural"
    corners, extensions = slant.footprint(), [_SAR, _SAT]
    item = _item(name, "sentinel-1-grd", slant.area, corners, when, properties, extensions)
    for band in ("vv", "vh"):
        add(item, band, f"{band}.tif", {"sar:polarizations": [band.upper()]})
    return item


def _item(
    name: str,
    collection: str,
    area: UtmArea,
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
        properties={"platform": "procedural", **properties},
        stac_extensions=extensions,
    )


def add(item: pystac.Item, key: str, href: str, fields: dict) -> None:
    """Name a file of an item."""
    asset = pystac.Asset(f"./{href}", media_type=_COG, roles=["data"], extra_fields=fields)
    item.add_asset(key, asset)


def _box(west: float, north: float, width: float, height: float) -> np.ndarray:
    east, south = west + width, north - height
    return np.array([[west, south], [east, south], [east, north], [west, north]])


def _grid(
    area: UtmArea, west: float, north: float, gsd_m: float, shape: tuple[int, ...]
) -> dict[str, object]:
    rows, cols = shape
    return {
        "proj:epsg": area.epsg,
        "proj:shape": [rows, cols],
        "proj:transform": [gsd_m, 0, west, 0, -gsd_m, north],
        "proj:bbox": [west, north - rows * gsd_m, west + cols * gsd_m, north],
    }
