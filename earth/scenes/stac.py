"""STAC items of procedural scenes, with the property names of Earth Search, and their catalog."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pystac

from earth.scenes.area import UtmArea

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
COLLECTION_TITLES = {
    "sentinel-1-grd": "Procedural Sentinel-1-like ground range detected amplitude",
    "sentinel-2-l2a": "Procedural Sentinel-2-like true colour",
    "naip": "Procedural NAIP-like aerial images",
}


def new_item(
    name: str,
    collection: str,
    when: datetime,
    area: UtmArea,
    corners: np.ndarray,
    properties: dict[str, object],
) -> pystac.Item:
    """Item of a scene with its corners in UTM, without files."""
    ring = area.ring(corners)
    lon, lat = zip(*ring, strict=True)
    return pystac.Item(
        id=name,
        collection=collection,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[min(lon), min(lat), max(lon), max(lat)],
        datetime=when,
        properties={"platform": "procedural", **properties},
    )


def box(west_m: float, north_m: float, width_m: float, height_m: float) -> np.ndarray:
    """Corners in UTM of a rectangle, from the south-west one on."""
    east_m, south_m = west_m + width_m, north_m - height_m
    return np.array([[west_m, south_m], [east_m, south_m], [east_m, north_m], [west_m, north_m]])


def add(item: pystac.Item, key: str, href: str, **fields: object) -> None:
    """Name a file of an item."""
    asset = pystac.Asset(f"./{href}", media_type=_COG, roles=["data"], extra_fields=fields)
    item.add_asset(key, asset)


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
