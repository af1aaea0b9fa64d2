"""Footprints of scenes and places of samples as rings of longitude and latitude, to be drawn."""

from collections.abc import Iterator
from pathlib import Path

import geopandas
import pandas as pd
from shapely.geometry.base import BaseGeometry

from salib.config import SENSOR_NAMES
from salib.curate.archive import Archive
from salib.curate.area import polygons
from salib.curate.catalog import Rules, scene_of
from salib.curate.sources import read_snapshot

Rings = list[tuple[float, float]]


def cover_rows(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scenes that a curated folder's search found, and the places of its samples.

    Returns:
        One row a ring of a scene: sensor, id, used (whether the cover took it), ring; and one row a
        sample: split, ring.

    Raises:
        ValueError: if the folder lacks its snapshot, index or an archive: curate it again.
    """
    folder = Path(folder)
    items = read_snapshot(folder / "scenes.parquet")
    rows = []
    for sensor in SENSOR_NAMES:
        used = set(Archive(folder / f"{sensor}.pmtiles").metadata["scenes"])
        for rules in (Rules(), Rules(sar="rtc")):
            mine = [item for item in items if item.collection_id in rules.collections(sensor)]
            scenes = [scene for item in mine if (scene := scene_of(item, sensor, rules))]
            if scenes:
                break
        for scene in scenes:
            row = {"sensor": sensor, "id": scene.id, "used": scene.id in used}
            rows += [row | {"ring": ring} for ring in _rings(scene.footprint)]
    index = geopandas.read_parquet(folder / "index.parquet")
    places = [
        {"split": split, "ring": ring}
        for split, place in zip(index["split"], index.geometry, strict=True)
        for ring in _rings(place)
    ]
    return pd.DataFrame(rows), pd.DataFrame(places)


def _rings(ground: BaseGeometry) -> Iterator[Rings]:
    for part in polygons(ground):
        yield [(float(lon), float(lat)) for lon, lat, *_ in part.exterior.coords]
