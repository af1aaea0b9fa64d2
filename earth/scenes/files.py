"""Files of a scene: cloud-optimised GeoTIFFs, its STAC item, and the catalogue of all items.

Properties of items are named as Earth Search names them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import rasterio.shutil
from jaxtyping import UInt
from rasterio.io import DatasetWriter

from earth.scenes.area import UtmArea

COLLECTION_TITLES = {
    "sentinel-1-grd": "Procedural Sentinel-1-like ground range detected amplitude",
    "sentinel-2-l2a": "Procedural Sentinel-2-like true colour",
    "naip": "Procedural NAIP-like aerial images",
}
JPEG = {"compress": "JPEG", "quality": 90}
_LOSSLESS = {"compress": "DEFLATE", "level": 1, "predictor": "YES"}
_BLOCK_PX = 512
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


class Scene:
    """A STAC item, and the folder of its files below the catalogue.

    Args:
        root: folder of the catalogue.
        area: that the scenes cover.
        corners: of the scene in UTM.
        properties: of the item.
    """

    def __init__(
        self,
        root: Path,
        area: UtmArea,
        collection: str,
        name: str,
        when: datetime,
        corners: np.ndarray,
        properties: dict[str, Any],
    ) -> None:
        ring = area.ring(corners)
        lon, lat = zip(*ring, strict=True)
        self.item = pystac.Item(
            id=name,
            collection=collection,
            geometry={"type": "Polygon", "coordinates": [ring]},
            bbox=[min(lon), min(lat), max(lon), max(lat)],
            datetime=when,
            properties={"platform": "procedural", **properties},
        )
        self.folder = root / collection / name
        self.folder.mkdir(parents=True)

    @contextmanager
    def cog(
        self,
        key: str,
        name: str,
        *,
        overviews: str = "AVERAGE",
        options: dict[str, Any] = _LOSSLESS,
        fields: dict[str, Any] | None = None,
        **profile: Any,
    ) -> Iterator[DatasetWriter]:
        """Yield a file to write bands into, window by window; the COG is made when the block ends.

        Args:
            key: of the asset in the item.
            name: of the file, without its ending.
            overviews: resampling of the overviews.
            options: creation options of the COG.
            fields: of the asset.
            profile: of the image, as rasterio names it: count, height, width, dtype, nodata, and
                where it lies (`UtmArea.on_map`, or control points).
        """
        tiling = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX}
        plain, path = self.folder / f"{name}.plain.tif", self.folder / f"{name}.tif"
        with rasterio.Env(GDAL_CACHEMAX=64):
            with rasterio.open(
                plain, "w", driver="GTiff", interleave="band", **tiling, **profile
            ) as file:
                yield file
            how = {"blocksize": _BLOCK_PX, "overview_resampling": overviews, **options}
            rasterio.shutil.copy(str(plain), str(path), driver="COG", **how)
        plain.unlink()
        extra = fields or {}
        asset = pystac.Asset(f"./{path.name}", media_type=_COG, roles=["data"], extra_fields=extra)
        self.item.add_asset(key, asset)

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
