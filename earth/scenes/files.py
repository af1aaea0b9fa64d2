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
_TILED = {"driver": "GTiff", "tiled": True, "interleave": "band"}
_TILED |= {"blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


class Scene:
    """A STAC item with its corners in UTM, and the folder of its files below the catalogue."""

    def __init__(
        self,
        root: Path,
        area: UtmArea,
        name: tuple[str, str],
        when: datetime,
        properties: dict[str, Any],
        corners: np.ndarray | None = None,
    ) -> None:
        """`name` is of collection and item; without `corners` the scene is the whole area."""
        ring = area.ring(area.corners if corners is None else corners)
        (west, south), (east, north) = np.min(ring, 0).tolist(), np.max(ring, 0).tolist()
        self.item = pystac.Item(
            id=name[1],
            collection=name[0],
            geometry={"type": "Polygon", "coordinates": [ring]},
            bbox=[west, south, east, north],
            datetime=when,
            properties={"platform": "procedural", **properties},
        )
        self.folder = root.joinpath(*name)
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
                where it lies.
        """
        plain, path = self.folder / f"{name}.plain.tif", self.folder / f"{name}.tif"
        with rasterio.Env(GDAL_CACHEMAX=64):
            with rasterio.open(plain, "w", **_TILED, **profile) as file:
                yield file
            how = {"blocksize": _BLOCK_PX, "overview_resampling": overviews, **options}
            rasterio.shutil.copy(str(plain), str(path), driver="COG", **how)
        plain.unlink()
        what = {"media_type": _COG, "roles": ["data"], "extra_fields": fields or {}}
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
