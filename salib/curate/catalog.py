"""Scenes of a static STAC catalogue on disk: search, order, choice of assets, digest."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from salib.config import SENSOR_NAMES
from salib.curate.grid import split_bbox

COLLECTIONS = {"radar": "sentinel-1-grd", "lores": "sentinel-2-l2a", "hires": "naip"}
MAX_CLOUD_PERCENT = 10.0
ASSETS = {
    "radar": (("vv", "vh"), ("gamma0_vv", "gamma0_vh")),
    "lores": (("visual",), ("TCI",), ("visual-jp2",)),
    "hires": (("image",), ("GEOTIFF_AZURE_RGBIR",), ("CO_GEOTIFF_AWS_RGB",), ("asset",)),
}
"""Keys that catalogues use for what a sensor needs, best first."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one sensor: where, when, how cloudy (percent), and its files.

    `procedural` is true where the item's platform says that no sensor ever saw this ground.
    """

    id: str
    sensor: str
    datetime: datetime
    cloud: float
    footprint: BaseGeometry
    hrefs: tuple[str, ...]
    procedural: bool


def open_catalog(path: str | Path) -> pystac.Catalog:
    """A static STAC catalogue or collection by the path of its JSON, or of the folder of one.

    Raises:
        ValueError: if there is no such file, or it is no STAC catalogue.
    """
    path = Path(path)
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"catalog must be a catalog.json on disk, got {path}: write the scenes")
    try:
        return pystac.Catalog.from_file(str(path.resolve()))
    except (pystac.STACTypeError, pystac.STACError, KeyError, ValueError) as error:
        raise ValueError(f"catalog must be STAC JSON, got {path} ({error})") from error


def choose_assets(item: pystac.Item, sensor: str) -> tuple[str, ...]:
    """Files of an item that `sensor` is rendered from: VV and VH, true colour, or aerial image.

    Raises:
        ValueError: if the item has none of the known assets, such as a radar scene in HH only.
    """
    if sensor not in ASSETS:
        raise ValueError(f"sensor must be one of {', '.join(SENSOR_NAMES)}, got {sensor!r}")
    for keys in ASSETS[sensor]:
        if all(key in item.assets for key in keys):
            return tuple(_href(item.assets[key]) for key in keys)
    known = " or ".join("+".join(keys) for keys in ASSETS[sensor])
    raise ValueError(f"{sensor} item must have assets {known}, got {item.id}: {[*item.assets]}")


def search(
    catalog: pystac.Catalog,
    sensor: str,
    *,
    bbox: Sequence[float | int] | None = None,
    dates: str | None = None,
    max_cloud: float = MAX_CLOUD_PERCENT,
) -> list[Scene]:
    """Usable scenes of a sensor: clearest first, then newest, then by id.

    Items without the assets the sensor needs are not usable; a lores item that does not state its
    cloud cover counts as overcast.

    Args:
        bbox: west, south, east, north in degrees; west exceeds east across the antimeridian.
        dates: one day, or `first/last` with both days within; `..` leaves an end open.
        max_cloud: highest scene cloud cover in percent.

    Raises:
        ValueError: if nothing is left, saying what took the scenes away.
    """
    area = None if bbox is None else shapely.union_all([shapely.box(*b) for b in split_bbox(bbox)])
    first, last = parse_dates(dates)
    found = [scene for scene in _scenes(catalog, sensor)]
    inside = [scene for scene in found if area is None or scene.footprint.intersects(area)]
    timely = [scene for scene in inside if first <= scene.datetime <= last]
    clear = [scene for scene in timely if scene.cloud <= max_cloud]
    if not clear:
        raise ValueError(
            f"{COLLECTIONS[sensor]} search must find a scene: the catalogue has {len(found)}, "
            f"{len(inside)} of them in bbox {bbox}, {len(timely)} of those in dates {dates}, "
            f"none with at most {max_cloud} % cloud; widen the one that takes them away"
        )
    return sorted(clear, key=lambda scene: (scene.cloud, -scene.datetime.timestamp(), scene.id))


def parse_dates(dates: str | None) -> tuple[datetime, datetime]:
    """First and last moment of an interval such as `2022-05-01/2022-08-31`, whole days, in UTC.

    Raises:
        ValueError: if a part is no ISO date, or the interval ends before it begins.
    """
    first, _, last = (dates or "../..").partition("/")
    try:
        begin = _moment(first, datetime.min.replace(tzinfo=UTC))
        end = _moment(last or first, datetime.max.replace(tzinfo=UTC))
    except ValueError as error:
        raise ValueError(f"dates must be YYYY-MM-DD/YYYY-MM-DD, got {dates!r}") from error
    if len(last or first) == len("YYYY-MM-DD"):
        end += timedelta(days=1) - timedelta(microseconds=1)
    if end < begin:
        raise ValueError(f"dates must end after they begin, got {dates!r}")
    return begin, end


def catalog_digest(catalog: pystac.Catalog) -> str:
    """Sha256 over the catalogue's items and samples of their local files.

    A file counts as changed when its size or one of 64 evenly spaced 4 KiB pieces did.
    """
    total = hashlib.sha256()
    items = sorted(catalog.get_items(recursive=True), key=lambda item: (_collection(item), item.id))
    for item in items:
        total.update(Path(item.get_self_href() or "").read_bytes())
        for _, asset in sorted(item.assets.items()):
            path = Path(_href(asset))
            if path.is_file():
                total.update(_sampled(path))
    return total.hexdigest()


def check_files(scenes: Iterable[Scene]) -> None:
    """Refuse scenes whose local files are missing, before any work is done."""
    for scene in scenes:
        for href in scene.hrefs:
            if "://" not in href and not href.startswith("/vsi") and not Path(href).is_file():
                raise ValueError(
                    f"asset of {scene.id} must exist, got no file {href}: write the scenes again"
                )


def _scenes(catalog: pystac.Catalog, sensor: str) -> Iterable[Scene]:
    for item in catalog.get_items(recursive=True):
        if _collection(item) != COLLECTIONS[sensor] or item.geometry is None:
            continue
        try:
            hrefs = choose_assets(item, sensor)
        except ValueError:
            continue
        unknown = math.inf if sensor == "lores" else 0.0
        yield Scene(
            id=item.id,
            sensor=sensor,
            datetime=_when(item),
            cloud=float(item.properties.get("eo:cloud_cover", unknown)),
            footprint=shapely.geometry.shape(item.geometry),
            hrefs=hrefs,
            procedural=item.properties.get("platform") == "procedural",
        )


def _when(item: pystac.Item) -> datetime:
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise ValueError(f"item must have a datetime, got none in {item.id}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _collection(item: pystac.Item) -> str:
    return item.collection_id or ""


def _href(asset: pystac.Asset) -> str:
    href = asset.get_absolute_href() or asset.href
    return href.removeprefix("file://")


def _moment(text: str, open_end: datetime) -> datetime:
    if text in ("", ".."):
        return open_end
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _sampled(path: Path) -> bytes:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(64):
            file.seek(piece * max(0, size - 4096) // 63)
            digest.update(file.read(4096))
    return digest.digest()
