"""A search in a STAC API, which must give every item that it counts."""

from collections.abc import Sequence

import pystac
import pystac_client
import requests
import shapely
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from salib.curate.search.catalog import Rules

PAGE = 200
TIMEOUT_S = 60
RETRIES = Retry(
    total=6, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None
)


def ask_api(address: str, rules: Rules, area: BaseGeometry | None) -> list[pystac.Item]:
    """Items of the sensors that an API has in an area, or all of a static catalogue."""
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
    client: pystac_client.Client, collections: Sequence[str], dates: str | None, area: BaseGeometry
) -> list[pystac.Item]:
    """Every item of the collections in the area; the API's own count is held against what came."""
    named = offered = [*collections]
    if client.conforms_to("COLLECTIONS"):
        offered = [collection.id for collection in client.get_collections()]
        named = [name for name in named if name in offered]
    if not named:
        raise ValueError(
            f"catalog must hold the collection {collections[0]}, got "
            f"{client.get_self_href()} with {', '.join(offered) or 'none'}"
        )
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
