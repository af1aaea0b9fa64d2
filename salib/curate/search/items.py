"""STAC records to items: one place that reads them, finds their files and refuses odd ones."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pystac

from salib.config import SENSORS
from salib.files.addresses import without_secrets
from salib.rasters.remote import disk_path

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


def _letters(collection: str) -> str:
    """A collection's name without what catalogues spell differently."""
    return re.sub(r"[^a-z0-9]", "", collection.lower())


_KNOWN = [*PRODUCTS, *(name for row in SENSORS.values() for name in row.collections)]
COLLECTIONS = {_letters(name): name for name in _KNOWN}
"""Names of the known collections, by their letters and digits."""


class CatalogError(ValueError):
    """What is wrong with a catalogue that could be read, told in full."""


def item_of(record: Any, place: str, collection: str | None = None) -> pystac.Item:
    """A STAC record as an item, its files by absolute path or address.

    Of a bucket's object with an `alternate` address that is open to all, the address is taken. Of
    the links the one to the item itself stays. A known collection gets the name it has in
    `SENSORS`: `sentinel2-l2a` is `sentinel-2-l2a`.

    Args:
        record: parsed JSON, or what reading it raised.
        place: path or address of what holds it.
        collection: whose it is if it does not say.

    Raises:
        ValueError: naming the item and what is wrong with it.
    """
    if isinstance(record, Exception):
        raise record
    name = record.get("id") if isinstance(record, dict) else None
    with named(name or "an item without an id"):
        check(isinstance(record, dict) and record.get("type") == "Feature", "be a STAC item")
        check(isinstance(name, str) and name, "have an id", name)
        for field in ("properties", "assets"):
            check(isinstance(record.get(field), dict), f"have {field}", record.get(field))
        made_as = (key for key, form in PRODUCTS.items() if re.match(form, str(name)))
        holder = record.get("collection") or collection or next(made_as, None)
        check(holder is None or isinstance(holder, str), "name its collection", holder)
        holder = COLLECTIONS.get(_letters(holder or ""), holder)
        base = _base(record.get("links"), place)
        link = {"rel": "self", "href": base, "type": "application/geo+json"}
        files = _files(record["assets"], base)
        told = record | {"collection": holder, "links": [link], "assets": files}
        return pystac.Item.from_dict(told, preserve_dict=False)


def read_each(given: Iterable[Any], read: Callable[[Any], Any], what: str) -> tuple[list, str]:
    """What is read of each; and a line on those that are left out as odd, empty if none is.

    Args:
        given: what is read.
        read: raises ValueError for an odd one, naming it.
        what: what the line calls them.
    """
    found, odd = [], []
    for one in given:
        try:
            found.append(read(one))
        except ValueError as error:
            odd.append(str(error))
    if not odd:
        return found, ""
    more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
    total, first = len(found) + len(odd), "; ".join(odd[:NAMED])
    return found, f"{len(odd)} of {total} {what} are left out: {first}{more}"


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


def _base(links: Any, place: str) -> str:
    """What an item's references start from: its own address, if it tells one that is there."""
    found = [link for link in links or () if isinstance(link, dict) and link.get("rel") == "self"]
    own = next((link["href"] for link in found if isinstance(link.get("href"), str)), place)
    own = absolute(own, place)
    return own if "://" in own or Path(own).parent.is_dir() else place


def _files(assets: dict, base: str) -> dict:
    """Assets, each with its absolute path or address."""
    for key, asset in assets.items():
        right = isinstance(asset, dict) and isinstance(asset.get("href"), str) and asset["href"]
        check(right, f"have an address of {key}", asset)
    return {key: each | {"href": absolute(_open_href(each), base)} for key, each in assets.items()}


def _open_href(asset: dict) -> str:
    """Its address, or that of an alternative which needs no account."""
    others = asset.get("alternate") if asset["href"].startswith("s3://") else None
    listed = others.values() if isinstance(others, dict) else ()
    free = [each for each in listed if isinstance(each, dict) and not each.get("auth:refs")]
    hrefs = (each["href"] for each in free if str(each.get("href")).startswith("https://"))
    return next(hrefs, asset["href"])


def check(holds: Any, rule: str, *got: Any) -> None:
    """Refuse an item that breaks a rule."""
    if not holds:
        raise ValueError(f"it must {rule}" + (f", got {got[0]!r}" if got else ""))


@contextmanager
def named(name: object) -> Iterator[None]:
    """Raise whatever reading what others wrote raises as a ValueError that says of what."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        raise ValueError(f"{name} ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What an error says, in one line of 160 characters at most and without secrets."""
    plain = isinstance(error, ValueError | OSError) and str(error)
    line = " ".join(without_secrets(plain or f"{type(error).__name__} {error}").split())
    return line if len(line) < 160 else f"{line[:157]}..."
