"""Where STAC records come from: an API, a catalogue, files of items; and snapshots."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import requests
import shapely
import stac_geoparquet.arrow
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from salib.curate.search.catalog import Rules
from salib.curate.search.items import CatalogError, Say, absolute, item_of, named, read_each, reason
from salib.files.addresses import bare_record, without_secrets
from salib.files.artifact import atomic_file

APIS = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
PAGE = 200
TIMEOUT_S = 60
LONGEST_WAIT_S = 60
QUERY = "salib:query"
"""Field of a snapshot that holds what it answers."""

Record = tuple[Any, str, str | None]
"""Parsed JSON that should be an item, where it stands, and the collection that lists it."""


class _Patience(Retry):
    """Waits as long as a busy server asks for, if that is a minute at most."""

    def sleep_for_retry(self, response: Any) -> bool:
        wait = self.get_retry_after(response) or 0
        if wait > LONGEST_WAIT_S:
            raise requests.exceptions.RetryError(f"it asks to wait {wait:.0f} s")
        return super().sleep_for_retry(response)


BUSY = (429, 500, 502, 503, 504)
RETRIES = _Patience(
    total=6, backoff_factor=1, status_forcelist=BUSY, allowed_methods=None, retry_after_max=10**9
)


def is_api(where: str | Path) -> bool:
    """Whether a catalogue is an API's short name or an address."""
    return str(where) in APIS or str(where).startswith(("http://", "https://"))


def find_items(
    where: str | Path, rules: Rules, area: BaseGeometry | None, report: Say | None = None
) -> list[pystac.Item]:
    """Items of the sensors in a catalogue, every one that matches and can be read.

    Args:
        where: `earth-search`, `planetary-computer`, the address of a STAC API, static catalogue or
            ItemCollection, or the path of a catalog.json, of an ItemCollection, of a
            stac-geoparquet file, or of a folder of any of them.
        rules: which collections and dates an API is asked for.
        area: an API is asked for it, and needs it; other catalogues are read whole.
        report: told which items cannot be read and are left out.

    Raises:
        ValueError: if there is no such catalogue, it is no STAC, it cannot be reached, none of its
            items can be read, or the API gave fewer items than it counts.
    """
    place = APIS.get(str(where), str(where))
    what = f"items of {without_secrets(place)}"
    items, left = read_each(_records(place, rules, area), lambda record: item_of(*record), what)
    if left and not items:
        raise ValueError(f"Could not read any item: {left}")
    if left and report:
        report(left)
    return items


def _records(place: str, rules: Rules, area: BaseGeometry | None) -> Iterator[Record]:
    """What should be items."""
    remote, shown = "://" in place and not place.startswith("file:"), without_secrets(place)
    if remote and (not is_api(place) or re.search(r"\.(geo)?parquet/?($|\?)", place)):
        raise ValueError(f"catalog must be on disk, or JSON behind https, got {shown}: download it")
    if remote:
        what = f"catalog must be STAC API or catalogue that can be reached, got {shown}"
        with named(f"{what}: check the address and the network"):
            yield from _online(place, rules, area)
        return
    path = Path(absolute(place, str(Path.cwd() / "_")))
    first = [*filter(Path.is_file, (path / "catalog.json", path / "collection.json", path))][:1]
    found = first or sorted(path.rglob("*.parquet")) or sorted(path.glob("*.*json"))
    if not (files := [*filter(Path.is_file, found)]):
        raise ValueError(f"catalog must be a catalog.json on disk, got {path}: write the scenes")
    for file in files:
        table = file.suffix in (".parquet", ".geoparquet")
        with named(f"catalog must be {'stac-geoparquet' if table else 'STAC JSON'}, got {file}"):
            yield from _table(file) if table else _tree(str(file), _read_file)


def _read_file(place: str) -> Any:
    return json.loads(Path(place).read_text())


def _online(place: str, rules: Rules, area: BaseGeometry | None) -> Iterator[Record]:
    """Records that an API has in an area, or all of a static catalogue."""
    import pystac_client  # takes two seconds
    from pystac_client.stac_api_io import StacApiIO

    asking = StacApiIO(max_retries=RETRIES, timeout=TIMEOUT_S)
    root = json.loads(asking.read_text(place))
    if not any("item-search" in str(name) for name in root.get("conformsTo") or ()):
        yield from _tree(place, lambda at: json.loads(asking.read_text(at)))
        return
    if area is None:
        raise CatalogError(f"area must be given to search {without_secrets(place)}, got none")
    client = pystac_client.Client.open(place, stac_io=asking)
    queries = dict.fromkeys((rules.collections(n), rules.dates_of(n)) for n in rules.sensors)
    for query in queries:
        yield from _asked(client, *query, area)


def _asked(
    client: Any, collections: Sequence[str], dates: str | None, area: BaseGeometry
) -> Iterator[Record]:
    """Every record of the collections in the area; the API's own count is held against them."""
    named = [*collections]
    if client.conforms_to("COLLECTIONS"):
        offered = {collection.id for collection in client.get_collections()}
        named = [name for name in named if name in offered]
    if not named:
        return
    ends = [end or ".." for end in (dates or "..").split("/")]
    search = client.search(
        collections=named,
        intersects=shapely.geometry.mapping(area),
        datetime=None if {*ends} == {".."} else "/".join(ends),
        limit=PAGE,
    )
    place, seen, counted = client.get_self_href(), set[str](), None
    for page in search.pages_as_dicts():
        counted = counted or page.get("numberMatched") or (page.get("context") or {}).get("matched")
        fresh = {_key(record): record for record in page["features"]}
        if fresh.keys() <= seen:
            raise CatalogError(f"catalog must end, got the same page again from {place}")
        yield from ((fresh[key], place, None) for key in fresh if key not in seen)
        seen |= fresh.keys()
    if isinstance(counted, int) and len(seen) < counted:
        raise CatalogError(
            f"catalog must give every item, got {len(seen)} of {counted} of {named[0]} from "
            f"{place}: run again"
        )


def _key(record: Any) -> str:
    named = isinstance(record, dict) and (record.get("collection"), record.get("id"))
    return str(named or record)


def _tree(start: str, read: Callable[[str], Any]) -> Iterator[Record]:
    """Records of a catalogue and all below it, of an ItemCollection, or the one of an item.

    For an item's file that cannot be read there is an exception.
    """
    waiting, seen = [(start, "root", None)], {start}
    for place, kind, collection in waiting:
        try:
            found = read(place)
        except Exception as error:  # whatever reading raises
            if kind != "item":
                raise
            yield ValueError(f"{place} ({reason(error)})"), place, None
            continue
        form = found.get("type") if isinstance(found, dict) else None
        if form == "Feature":
            found["links"] = []  # it is where it was read
        if form == "Feature" or kind == "item":
            yield found, place, collection
            continue
        if form == "FeatureCollection":
            yield from ((record, place, collection) for record in found["features"])
        elif not isinstance(found, dict) or not {"id", "stac_version", "links"} <= found.keys():
            raise ValueError("it is no catalogue, collection or item")
        holder = found["id"] if form == "Collection" else collection
        for link in found.get("links") or ():
            below = absolute(link["href"], place)
            if link["rel"] in ("child", "item", "items", "next") and below not in seen:
                seen.add(below)
                waiting.append((below, link["rel"], holder))


def _table(path: Path) -> Iterator[Record]:
    """Records of a stac-geoparquet file, whose columns have a cell for every item."""
    listed = re.search(r"collection=([^/]+)", str(path))
    for record in stac_geoparquet.arrow.stac_table_to_items(pq.read_table(path)):
        record["assets"] = {k: _stated(v) for k, v in record["assets"].items() if v}
        record["properties"] = _stated(record["properties"])
        yield record, str(path), listed and listed[1]


def _stated(values: dict) -> dict:
    return {key: value for key, value in values.items() if value is not None}


def write_snapshot(path: Path, items: Sequence[pystac.Item], query: str) -> None:
    """Freeze what a search found as an ItemCollection, so that the run can be repeated.

    It holds no secret: addresses lose their signatures. A search whose files cannot be read without
    theirs is asked again by the next run.

    Args:
        path: the file.
        items: with the addresses of their files.
        query: what was asked, told by `snapshot_query`.
    """
    signed = any(without_secrets(a.href) != a.href for item in items for a in item.assets.values())
    found = {"type": "FeatureCollection", "features": [_record(item) for item in items]}
    with atomic_file(path) as part:
        part.write_text(json.dumps(found | ({} if signed else {QUERY: query})))


def snapshot_query(path: Path) -> str | None:
    """What a snapshot is the answer to; None where there is none that can be read."""
    try:
        return json.loads(path.read_text())[QUERY]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def items_digest(items: Sequence[pystac.Item]) -> str:
    """Sha256 over items and samples of their local files.

    A file counts as changed when its size or one of 64 evenly spaced 4 KiB pieces did. Where the
    catalogue stands does not count, nor do signatures.
    """
    total = hashlib.sha256()
    for item in sorted(items, key=lambda item: (item.collection_id or "", item.id)):
        record = _record(item)
        del record["links"]
        for key, asset in item.assets.items():
            if "://" not in asset.href:
                path = Path(asset.href)
                record["assets"][key]["href"] = _sampled(path) if path.is_file() else path.name
        total.update(json.dumps(record, sort_keys=True).encode())
    return total.hexdigest()


def _record(item: pystac.Item) -> dict:
    return bare_record(item.to_dict(include_self_link=True, transform_hrefs=False))


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(64):
            file.seek(piece * max(0, size - 4096) // 63)
            digest.update(file.read(4096))
    return digest.hexdigest()
