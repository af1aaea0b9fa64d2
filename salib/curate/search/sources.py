"""Where STAC items come from: an API, a static catalogue, a stac-geoparquet file; and snapshots."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pystac
import stac_geoparquet.arrow
from shapely.geometry.base import BaseGeometry

from salib.curate.search.catalog import Rules, asset_href, scene_of
from salib.files.artifact import atomic_file

APIS = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
KEPT = {"eo:cloud_cover": float, "earthsearch:boa_offset_applied": bool}
KEPT |= {name: str for name in ("platform", "sar:instrument_mode", "s2:processing_baseline")}
"""Properties that a snapshot keeps, each of one type as a column is."""
SNAPSHOT_KEY = b"salib_query"


def is_api(where: str | Path) -> bool:
    """Whether a catalogue is an API's short name or an address."""
    return str(where) in APIS or str(where).startswith(("http://", "https://"))


def find_items(where: str | Path, rules: Rules, area: BaseGeometry | None) -> list[pystac.Item]:
    """Items of the sensors in a catalogue, every one that matches.

    Args:
        where: `earth-search`, `planetary-computer`, the address of a STAC API or static catalogue,
            or the path of a catalog.json, of its folder, or of a stac-geoparquet file.
        area: an API is asked for it, and needs it; other catalogues are read whole.

    Raises:
        ValueError: if there is no such catalogue, it is no STAC, it cannot be reached, or the API
            gave fewer items than it counts.
    """
    if is_api(where):
        from salib.curate.search.api import ask_api  # pystac_client takes a second to import

        return ask_api(APIS.get(str(where), str(where)), rules, area)
    return read_snapshot(where) if str(where).endswith(".parquet") else _read_catalog(Path(where))


def _read_catalog(path: Path) -> list[pystac.Item]:
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"catalog must be a catalog.json on disk, got {path}: write the scenes")
    try:
        catalog = pystac.Catalog.from_file(str(path.resolve()))
    except (pystac.STACTypeError, pystac.STACError, KeyError, ValueError) as error:
        raise ValueError(f"catalog must be STAC JSON, got {path} ({error})") from error
    return list(catalog.get_items(recursive=True))


def write_snapshot(
    path: str | Path, items: Sequence[pystac.Item], rules: Rules, query: str
) -> None:
    """Freeze what a search found as stac-geoparquet, so that the run can be repeated.

    An item keeps what `scene_of` reads: place, time, the properties in KEPT, the assets that a
    sensor is rendered from, addresses unsigned. Items that no sensor can use are left out.

    Args:
        query: what was asked, told by `snapshot_query`.
    """
    records = [_trimmed(item, rules) for item in items]
    batches = stac_geoparquet.arrow.parse_stac_items_to_arrow([r for r in records if r])
    with atomic_file(path) as part:
        stac_geoparquet.arrow.to_parquet(batches, part)
        table = pq.read_table(part)
        known = table.schema.metadata or {}
        pq.write_table(table.replace_schema_metadata({**known, SNAPSHOT_KEY: query}), part)


def read_snapshot(path: str | Path) -> list[pystac.Item]:
    """Items of a stac-geoparquet file."""
    if not Path(path).is_file():
        raise ValueError(f"catalog must exist, got no file {path}")
    try:
        records = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(path)))
        for record in records:  # a column of the table has a cell in every row
            record["assets"] = {k: _stated(v) for k, v in record["assets"].items() if v}
            record["properties"] = _stated(record["properties"])
        return [pystac.Item.from_dict(record) for record in records]
    except (KeyError, ValueError, TypeError, OSError, pystac.STACError) as error:
        raise ValueError(f"catalog must be stac-geoparquet, got {path} ({error})") from error


def snapshot_query(path: str | Path) -> str | None:
    """What a snapshot is the answer to; None where there is none that can be read."""
    try:
        query = (pq.read_schema(path).metadata or {}).get(SNAPSHOT_KEY)
    except (OSError, ValueError):
        return None
    return None if query is None else query.decode()


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


def _trimmed(item: pystac.Item, rules: Rules) -> dict | None:
    sensors = [name for name in rules.sensors if item.collection_id in rules.collections(name)]
    scenes = [scene for name in sensors if (scene := scene_of(item, name))]
    if not scenes:
        return None
    files = {href for scene in scenes for href in scene.files}
    said = _stated(item.properties)
    properties = {name: kind(said[name]) for name, kind in KEPT.items() if name in said}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": item.id,
        "collection": item.collection_id,
        "geometry": item.geometry,
        "bbox": list(map(float, scenes[0].footprint.bounds)),
        "properties": properties | {"datetime": scenes[0].datetime.isoformat()},
        "links": [],
        "assets": {k: _asset(a) for k, a in item.assets.items() if asset_href(a) in files},
    }


def _asset(asset: pystac.Asset) -> dict:
    unit = (asset.extra_fields.get("raster:bands") or [{}])[0].get("unit")
    return {"href": asset_href(asset)} | ({"raster:bands": [{"unit": unit}]} if unit else {})


def _stated(values: dict) -> dict:
    return {key: value for key, value in values.items() if value is not None}


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(64):
            file.seek(piece * max(0, size - 4096) // 63)
            digest.update(file.read(4096))
    return digest.hexdigest()
