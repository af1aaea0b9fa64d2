"""What an item states, each field in the spellings of its catalogues; an odd one is refused."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pystac
import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from salib.config.sensors import Sensor
from salib.curate.search.items import check
from salib.rasters.rules import told_offset, unit_said

BASELINE_WITH_OFFSET, BOA_OFFSET_DN = 4.0, -1000
"""From this processing baseline on a Sentinel-2 product states reflectance x 10,000 + 1,000."""
_SAFE = re.compile(
    r"(S2[A-D]_MSIL2A_\d{8}T\d{6})(?:_N(\d{4}))?(_R\d{3}_T\w{5})_(\d{8}T\d{6})"
    r"|(S1[A-D]_\w\w_GRD\w_\w{4}_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_[0-9A-F]{6})\w*"
)
"""Names of the Copernicus programme's products: acquisition, baseline, time of processing."""


def footprint(item: pystac.Item) -> BaseGeometry | None:
    """The ground of an item, or None if it tells none.

    It is repaired where its outline crosses itself, and cut where it passes 180 degrees.
    """
    if item.geometry is None:
        return None
    drawn = shapely.force_2d(shapely.geometry.shape(item.geometry))
    if drawn.is_empty:
        return None
    west, south, east, north = drawn.bounds
    inside = west >= -360 and east <= 360 and south >= -90 and north <= 90
    check(inside, "have a geometry in degrees", drawn.bounds)
    if not drawn.is_valid:
        drawn = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    if west < -180 or east > 180:
        world = shapely.box(-180, -90, 180, 90)
        turned = (shapely.affinity.translate(drawn, by) for by in (-360, 0, 360))
        drawn = shapely.union_all([turn.intersection(world) for turn in turned])
    edges = shapely.bounds(shapely.get_parts(drawn))
    return None if drawn.area == 0 or (edges[:, 2] - edges[:, 0] > 180).any() else drawn


def cloud(item: pystac.Item, row: Sensor) -> float:
    """Cloud cover in percent; what a classified product does not state counts as overcast."""
    said = item.properties.get("eo:cloud_cover")
    if said is None:
        return 100.0 if row.classified else 0.0
    number = isinstance(said, int | float) and not isinstance(said, bool)
    check(number and 0 <= said <= 100, "have an eo:cloud_cover from 0 to 100", said)
    return float(said)


def chosen(item: pystac.Item, row: Sensor) -> list[pystac.Asset] | None:
    """The assets of a sensor, by their keys or else by the names of their bands."""
    if files := by_keys(item, row.assets):
        return files
    wanted = [band.lower() for band in row.bands]
    named = [
        (asset, [str(band.get("name", "")).lower() for band in _bands(asset)])
        for asset in item.assets.values()
    ]
    whole = [asset for asset, names in named if names == wanted]
    single = [[asset for asset, names in named if names == [band]] for band in wanted]
    files = [whole] if whole else single
    return [file[0] for file in files] if all(len(file) == 1 for file in files) else None


def by_keys(item: pystac.Item, choices: Iterable[Sequence[str]]) -> list[pystac.Asset] | None:
    """The assets under the first set of keys, in small letters or large, that are all there."""
    held = {key.lower(): asset for key, asset in item.assets.items()}
    for keys in choices:
        if all(key.lower() in held for key in keys):
            return [held[key.lower()] for key in keys]
    return None


def unit(assets: Iterable[pystac.Asset]) -> str | None:
    """Unit of backscatter that files state, if it is known."""
    said = [_of(band, "unit") for asset in assets for band in _bands(asset)]
    units = {unit_said([str(each)]) for each in said}
    check(len(units) == 1, "have one unit for all bands", said)
    return units.pop()


def offset_dn(item: pystac.Item, assets: Sequence[pystac.Asset], unstated: int | None) -> int:
    """What is added to pixel values that state reflectance.

    Args:
        item: of Sentinel-2.
        assets: its files.
        unstated: for an item that states neither baseline nor scale and offset.

    Raises:
        ValueError: if the item does not tell and `unstated` is None, or contradicts itself.
    """
    applied = item.properties.get("earthsearch:boa_offset_applied")
    check(applied in (None, True, False), "say if its offset is applied", applied)
    if applied:
        return 0
    bands = [band for asset in assets for band in _bands(asset)]
    stated = {offset for band in bands if (offset := _scaled(band)) is not None}
    if (value := baseline(item)) is not None:
        stated.add(BOA_OFFSET_DN if value >= BASELINE_WITH_OFFSET else 0)
    check(len(stated) < 2, "state one offset by its baseline and bands", sorted(stated))
    return int(told_offset("it", stated.pop() if stated else None, unstated))


def baseline(item: pystac.Item) -> float | None:
    """Processing baseline of a Sentinel-2 product, such as 5.1 of `05.10`."""
    product = product_of(item)
    said = _stated(item, "s2:processing_baseline", "processing:version") or (product and product[2])
    if said is None:
        return None
    form = re.fullmatch(r"[Nn]?(\d{1,2}\.?\d{2}|\d(?:\.\d)?)", str(said))
    value = math.inf if form is None else float(re.sub(r"(\d)\.?(\d\d)$", r"\1.\2", form[1]))
    check(value < 10, "have a processing baseline such as 05.10", said)
    return value


def acquisition(item: pystac.Item) -> str:
    """What all versions of one scene have in common."""
    product = product_of(item)
    return "".join(filter(None, product.group(1, 3, 5))) if product else item.id


def processed(item: pystac.Item) -> str:
    """When a product was made, as digits; empty if it does not say."""
    product = product_of(item)
    keys = ("s2:generation_time", "s1:processing_datetime", "processing:datetime", "updated")
    said = (product and product[4]) or _stated(item, *keys) or ""
    return re.sub(r"\D", "", str(said))[:14]


def product_of(item: pystac.Item) -> re.Match | None:
    """The name of a Copernicus product, in the item's `s2:product_uri` or id."""
    texts = (item.properties.get("s2:product_uri"), item.id)
    return next((found for text in texts if (found := _SAFE.match(str(text)))), None)


def _stated(item: pystac.Item, *keys: str) -> Any:
    """The first of an item's properties that holds something."""
    return next(filter(None, map(item.properties.get, keys)), None)


def _bands(asset: pystac.Asset) -> list[dict]:
    """What is said of an asset's bands, of STAC 1.1 and of the extensions before; one at least."""
    fields = asset.extra_fields
    lists = [fields.get(key) or [] for key in ("bands", "raster:bands", "eo:bands")]
    for said in lists:
        right = isinstance(said, list) and all(isinstance(band, dict) for band in said)
        check(right, "have bands of STAC", said)
    count = max(1, *map(len, lists))
    merged = [dict(fields) for _ in range(count)]
    for said in reversed(lists):
        for number, band in enumerate(said):
            merged[number] |= {key: value for key, value in band.items() if value is not None}
    return merged


def _of(band: dict, field: str) -> Any:
    return band.get(f"raster:{field}", band.get(field))


def _scaled(band: dict) -> int | None:
    """A band's offset in pixel values, if it states how they are scaled."""
    scale, offset = _of(band, "scale"), _of(band, "offset")
    if scale is None or offset is None or scale == 1:
        return None
    given = scale, offset
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in given)
    check(numbers and scale > 0, "have a scale above 0 and an offset in numbers", given)
    return round(offset / scale)
