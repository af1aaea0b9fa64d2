"""STAC records to items: one place that reads them, finds their files and refuses odd ones."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pystac
import shapely

from salib.config import SENSORS
from salib.rasters.remote import disk_path

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
UNREADABLE += (RecursionError, shapely.errors.ShapelyError, pystac.STACError)
UNREADABLE += (pystac.STACTypeError,)
"""What reading files raises that are not what they should be."""
SCL = ("scl", "scl_20m", "scl_60m")
_NEEDED = {key.lower() for row in SENSORS.values() for keys in row.assets for key in keys} | {*SCL}
NAMED = 3
"""Odd items that a line names."""
PRODUCTS = {
    "sentinel-2-l2a": r"S2[A-D]_MSIL2A_\d{8}T\d{6}_",
    "sentinel-1-rtc": r"S1[A-D]_IW_GRD._.*_rtc",
    "sentinel-1-grd": r"S1[A-D]_IW_GRD._",
    "naip": r"\w{0,3}m_\d{7}_[ns][ew]_\d\d_",
}
"""Collections by the names that publishers give their products."""

Say = Callable[[str], object]


def item_of(record: Any, place: str, collection: str | None = None) -> pystac.Item:
    """A STAC record as an item, its files by absolute path or address.

    Of a bucket's object with an `alternate` address that is open to all, the address is taken. Of
    the links the one to the item itself stays.

    Args:
        record: parsed JSON.
        place: path or address of what holds it.
        collection: whose it is if it does not say.

    Raises:
        ValueError: naming the item and what is wrong with it.
    """
    name = record.get("id") if isinstance(record, dict) else None
    try:
        check(isinstance(record, dict) and record.get("type") == "Feature", "be a STAC item")
        check(isinstance(name, str) and name, "have an id", name)
        for field in ("properties", "assets"):
            check(isinstance(record.get(field), dict), f"have {field}", record.get(field))
        given = record.get("collection")
        check(given is None or isinstance(given, str), "name its collection", given)
        record["collection"] = given or collection or _collection_of(name)
        base = _base(record.get("links"), place)
        record["links"] = [{"rel": "self", "href": base, "type": "application/geo+json"}]
        record["assets"] = _assets(record["assets"], base)
        moment = record["properties"].get("datetime")
        check(moment is None or isinstance(moment, str), "have a datetime", moment)
        return pystac.Item.from_dict(record, preserve_dict=False)
    except UNREADABLE as error:
        text = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
        raise ValueError(f"{name or 'an item without an id'} ({short(text)})") from error


def absolute(href: str, base: str) -> str:
    """The path or address that a reference stands for.

    A path from the root is a file of this machine where there is one, else of the base's host.

    Args:
        href: an address, a `file://` address (escaped), or a path, also relative.
        base: path or address of the document that holds it.
    """
    if href.lower().startswith("file:") or disk_path(href) is None:
        return str(disk_path(href) or href)
    if (folder := disk_path(base)) is None:
        return href if Path(href).is_absolute() and Path(href).is_file() else urljoin(base, href)
    paths = [os.path.normpath(folder.parent / name) for name in (href, unquote(href))]
    return next(filter(os.path.exists, paths), paths[0])


def href_of(item: pystac.Item, asset: pystac.Asset) -> str:
    """Absolute path or address of an asset."""
    return absolute(asset.href, item.get_self_href() or "")


def _base(links: Any, place: str) -> str:
    """What an item's references start from: its own address, if it tells one that is there."""
    found = [link for link in links or () if isinstance(link, dict) and link.get("rel") == "self"]
    own = next((link["href"] for link in found if isinstance(link.get("href"), str)), place)
    own = absolute(own, place)
    return own if "://" in own or Path(own).parent.is_dir() else place


def _assets(assets: dict, base: str) -> dict:
    """Those that can be files, each with its absolute path or address."""
    kept = {}
    for key, asset in assets.items():
        if isinstance(asset, dict) and isinstance(asset.get("href"), str) and asset["href"]:
            kept[key] = asset | {"href": absolute(_open_href(asset), base)}
        elif asset is not None:
            check(key.lower() not in _NEEDED, f"have an address of {key}", asset)
    return kept


def _open_href(asset: dict) -> str:
    """Its address, or that of an alternative which needs no account."""
    others = asset.get("alternate")
    if asset["href"].startswith("s3://") and isinstance(others, dict):
        for other in others.values():
            if isinstance(other, dict) and not other.get("auth:refs"):
                href = other.get("href")
                if isinstance(href, str) and href.startswith("https://"):
                    return href
    return asset["href"]


def _collection_of(name: Any) -> str | None:
    return next((key for key, form in PRODUCTS.items() if re.match(form, str(name))), None)


def check(holds: Any, rule: str, *got: Any) -> None:
    """Refuse an item that breaks a rule."""
    if not holds:
        raise ValueError(f"it must {rule}" + (f", got {got[0]!r}" if got else ""))


def short(text: str) -> str:
    """One line of a text, of 160 characters at most."""
    line = " ".join(text.split())
    return line if len(line) < 160 else f"{line[:157]}..."


def left_out(odd: Sequence[str], total: int, what: str) -> str:
    """How many items are left out, and the first of them with the reason."""
    more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
    return f"{len(odd)} of {total} {what} are left out: {'; '.join(odd[:NAMED])}{more}"
