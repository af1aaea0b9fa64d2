"""Files of a scene: cloud-optimised GeoTIFFs, its STAC item, and the catalogue of all items.

Properties of items are named as Earth Search names them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import rasterio.shutil
from jaxtyping import UInt
from rasterio.io import DatasetWriter

COLLECTION_TITLES = {
    "sentinel-1-grd": "Procedural Sentinel-1-like ground range detected amplitude",
    "sentinel-2-l2a": "Procedural Sentinel-2-like true colour",
    "naip": "Procedural NAIP-like aerial images",
}
JPEG = {"compress": "JPEG", "quality": 90, "overview_resampling": "AVERAGE"}
LOSSLESS = {"compress": "DEFLATE", "level": 1, "predictor": "YES", "overview_resampling": "AVERAGE"}
_TILED = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512}


class Scene:
    """A STAC item, and the folder of its files below the catalogue.

    Args:
        root: folder of the catalogue.
        ring: footprint, closed, in longitude and latitude.
        item: id, collection, datetime and properties.
    """

    def __init__(self, root: Path, ring: list[list[float]], **item: Any) -> None:
        """Make the folder."""
        item["properties"] = {"platform": "procedural", **item["properties"]}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        bbox = [*np.min(ring, 0).tolist(), *np.max(ring, 0).tolist()]
        self.item = pystac.Item(geometry=geometry, bbox=bbox, **item)
        self.folder = root / item["collection"] / item["id"]
        self.folder.mkdir(parents=True)

    @contextmanager
    def cog(
        self,
        key: str,
        name: str,
        *,
        options: dict[str, Any] = LOSSLESS,
        fields: dict[str, Any] | None = None,
        **profile: Any,
    ) -> Iterator[DatasetWriter]:
        """Yield a file to write bands into, window by window; the COG is made when the block ends.

        Args:
            key: of the asset in the item.
            name: of the file, without its ending.
            options: creation options of the COG.
            fields: of the asset.
            profile: of the image, as rasterio names it: count, height, width, dtype, nodata, and
                its georeference.
        """
        plain, path = self.folder / f"{name}.plain.tif", self.folder / f"{name}.tif"
        with rasterio.Env(GDAL_CACHEMAX=64):
            with rasterio.open(plain, "w", **_TILED, interleave="band", **profile) as file:
                yield file
            rasterio.shutil.copy(str(plain), str(path), driver="COG", blocksize=512, **options)
        plain.unlink()
        what = {"media_type": pystac.MediaType.COG, "roles": ["data"], "extra_fields": fields or {}}
        self.item.add_asset(key, pystac.Asset(f"./{path.name}", **what))

    def write(
        self, key: str, name: str, image: UInt[np.ndarray, "bands rows cols"], **how: Any
    ) -> None:
        """Write a whole lossless image in which 0 is no data; `how` as in `cog`."""
        count, height, width = image.shape
        profile = {"count": count, "height": height, "width": width, "dtype": str(image.dtype)}
        with self.cog(key, name, nodata=0, **profile, **how) as file:
            file.write(image)


def write_catalog(root: Path, seed: int, items: Iterable[pystac.Item]) -> None:
    """Write items in their collections as one self-contained static catalog."""
    catalog = pystac.Catalog(
        id=f"procedural-earth-{seed}",
        description=f"Procedural scenes of the world with seed {seed}; nothing in them is real.",
    )
    ordered = sorted(items, key=lambda item: item.id)
    for name, title in COLLECTION_TITLES.items():
        own = [item for item in ordered if item.collection_id == name]
        collection = pystac.Collection(
            id=name,
            title=title,
            description=f"{title}; nothing in it is real.",
            license="MIT",
            extent=pystac.Extent.from_items(own),
        )
        collection.add_items(own)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(root / "catalog.json"))
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
