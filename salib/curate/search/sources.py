"""Where STAC items come from: an API, a catalogue, a file of items; and snapshots."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import requests
import shapely
import stac_geoparquet.arrow
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from salib.curate.search.catalog import Rules, asset_href
from salib.files.artifact import atomic_file

APIS = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
PAGE = 200
TIMEOUT_S = 60
RETRIES = Retry(
    total=6, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None
)
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
UNREADABLE += (pystac.STACError, pystac.STACTypeError)
"""What reading files raises that are not what they should be."""
QUERY = "salib:query"
"""Field of a snapshot that holds what it answers."""


def is_api(where: str | Path) -> bool:
    """Whether a catalogue is an API's short name or an address."""
    return str(where) in APIS or str(where).startswith(("http://", "https://"))


def find_items(where: str | Path, rules: Rules, area: BaseGeometry | None) -> list[pystac.Item]:
    """Items of the sensors in a catalogue, every one that matches.

    Args:
        where: `earth-search`, `planetary-computer`, the address of a STAC API or static catalogue,
            or the path of a catalog.json, of its folder, of an ItemCollection or of a
            stac-geoparquet file.
        area: an API is asked for it, and needs it; other catalogues are read whole.

    Raises:
        ValueError: if there is no such catalogue, it is no STAC, it cannot be reached, or the API
            gave fewer items than it counts.
    """
    if is_api(where):
        return _ask_api(APIS.get(str(where), str(where)), rules, area)
    path = Path(where, "catalog.json") if Path(where).is_dir() else Path(where)
    if not path.is_file():
        raise ValueError(f"catalog must be a catalog.json on disk, got {path}: write the scenes")
    tabular = path.suffix == ".parquet"
    try:
        return _read_table(path) if tabular else _read_json(path)
    except UNREADABLE as error:
        form = "stac-geoparquet" if tabular else "STAC JSON"
        raise ValueError(f"catalog must be {form}, got {path} ({error})") from error


def _ask_api(address: str, rules: Rules, area: BaseGeometry | None) -> list[pystac.Item]:
    """Items of the sensors that an API has in an area, or all of a static catalogue."""
    import pystac_client  # takes a second
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    try:
        asking = StacApiIO(max_retries=RETRIES)
        client = pystac_client.Client.open(address, stac_io=asking, timeout=TIMEOUT_S)
        if not client.conforms_to("ITEM_SEARCH"):
            return list(client.get_items(recursive=True))
        if area is None:
            raise ValueError(f"area must be given to search {address}, got none")
        queries = dict.fromkeys((rules.collections(n), rules.dates_of(n)) for n in rules.sensors)
        return [item for query in queries for item in _asked(client, *query, area)]
    except (APIError, requests.RequestException, pystac.STACError, pystac.STACTypeError) as error:
        raise ValueError(
            f"catalog must be a STAC API or catalogue that can be reached, got {address} "
            f"({error}): check the address and the network, and run again"
        ) from error


def _asked(
    client: Any, collections: Sequence[str], dates: str | None, area: BaseGeometry
) -> list[pystac.Item]:
    """Every item of the collections in the area; the API's own count is held against what came."""
    named = [*collections]
    if client.conforms_to("COLLECTIONS"):
        offered = {collection.id for collection in client.get_collections()}
        named = [name for name in named if name in offered]
    if not named:
        return []
    ends = [end or ".." for end in (dates or "..").split("/")]
    search = client.search(
        collections=named,
        intersects=shapely.geometry.mapping(area),
        datetime=None if {*ends} == {".."} else "/".join(ends),
        limit=PAGE,
    )
    items = {item.id: item for item in search.items()}
    counted = search.matched()
    if counted is not None and len(items) < counted:
        raise ValueError(
            f"catalog must give every item, got {len(items)} of {counted} of {named[0]} from "
            f"{client.get_self_href()}: run again"
        )
    return list(items.values())


def _read_json(path: Path) -> list[pystac.Item]:
    """Items of an ItemCollection, or of a catalogue and all below it."""
    record = json.loads(path.read_text())
    if record.get("type") == "FeatureCollection":
        return pystac.ItemCollection.from_dict(record).items
    return list(pystac.Catalog.from_file(str(path.resolve())).get_items(recursive=True))


def _read_table(path: Path) -> list[pystac.Item]:
    """Items of a stac-geoparquet file, whose columns have a cell for every item."""
    records = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(path)))
    for record in records:
        record["assets"] = {k: _stated(v) for k, v in record["assets"].items() if v}
        record["properties"] = _stated(record["properties"])
    return [pystac.Item.from_dict(record) for record in records]


def _stated(values: dict) -> dict:
    return {key: value for key, value in values.items() if value is not None}


def write_snapshot(path: Path, items: Sequence[pystac.Item], query: str) -> None:
    """Freeze what a search found as an ItemCollection, so that the run can be repeated.

    Args:
        path: the file.
        items: with the addresses of their files as found, unsigned.
        query: what was asked, told by `snapshot_query`.
    """
    for item in items:
        item.make_asset_hrefs_absolute()
    found = pystac.ItemCollection(items, extra_fields={QUERY: query}, clone_items=False)
    with atomic_file(path) as part:
        part.write_text(json.dumps(found.to_dict(transform_hrefs=False)))


def snapshot_query(path: Path) -> str | None:
    """What a snapshot is the answer to; None where there is none that can be read."""
    try:
        return json.loads(path.read_text())[QUERY]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def items_digest(items: Sequence[pystac.Item]) -> str:
    """Sha256 over items and samples of their local files.

    A file counts as changed when its size or one of 64 evenly spaced 4 KiB pieces did. Where the
    catalogue stands does not count.
    """
    total = hashlib.sha256()
    for item in sorted(items, key=lambda item: (item.collection_id or "", item.id)):
        record = item.to_dict(include_self_link=False, transform_hrefs=False)
        del record["links"]
        for key, asset in item.assets.items():
            if (path := Path(asset_href(asset))).is_file():
                record["assets"][key]["href"] = _sampled(path)
        total.update(json.dumps(record, sort_keys=True).encode())
    return total.hexdigest()


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(64):
            file.seek(piece * max(0, size - 4096) // 63)
            digest.update(file.read(4096))
    return digest.hexdigest()
