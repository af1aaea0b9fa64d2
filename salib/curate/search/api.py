"""A search in a STAC API, which must give every item that it counts."""

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
    """Items of the sensors that an API has in an area, or all of a static catalogue.

    Raises:
        ValueError: if it is no STAC, cannot be reached, is an API and `area` is None, or gave fewer
            items than it counts.
    """
    try:
        asking = StacApiIO(max_retries=RETRIES)
        client = pystac_client.Client.open(address, stac_io=asking, timeout=TIMEOUT_S)
        if not client.conforms_to("ITEM_SEARCH"):
            return list(client.get_items(recursive=True))
        if area is None:
            raise ValueError(f"area must say where to search {address}, got none")
        # Sensors of one collection are asked for once.
        asked = {rules.collections(name): name for name in reversed(rules.sensors)}
        return [
            item
            for name in rules.sensors
            if name in asked.values()
            for item in _asked(client, rules, name, area)
        ]
    except (APIError, requests.RequestException, pystac.STACError, pystac.STACTypeError) as error:
        raise ValueError(
            f"catalog must be a STAC API or catalogue that can be reached, got {address} "
            f"({error}): check the address and the network, and run again"
        ) from error


def _asked(
    client: pystac_client.Client, rules: Rules, sensor: str, area: BaseGeometry
) -> list[pystac.Item]:
    """Every item of a sensor in the area; the API's own count is held against what came."""
    named = offered = [*rules.collections(sensor)]
    if client.conforms_to("COLLECTIONS"):
        offered = [collection.id for collection in client.get_collections()]
        named = [name for name in named if name in offered]
    if not named:
        raise ValueError(
            f"catalog must hold the collection {rules.collections(sensor)[0]}, got "
            f"{client.get_self_href()} with {', '.join(offered) or 'none'}"
        )
    found = client.search(
        collections=named,
        intersects=shapely.geometry.mapping(area),
        datetime=_rfc3339(rules.dates_of(sensor)),
        limit=PAGE,
    )
    items = {item.id: item for item in found.items()}
    counted = found.matched()
    if counted is not None and len(items) < counted:
        raise ValueError(
            f"catalog must give every item, got {len(items)} of {counted} of {named[0]} from "
            f"{client.get_self_href()}: run again"
        )
    return list(items.values())


def _rfc3339(dates: str | None) -> str | None:
    """The interval as an API takes it: whole days, an open end as `..`."""
    if dates is None or dates in ("../..", "/"):
        return None
    first, _, last = dates.partition("/")
    return f"{first or '..'}/{last or '..'}" if "/" in dates else first
