"""What a curated folder shows on a map: scenes found, scenes taken, samples, and their images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from exhibits.overview import overviews
from salib.curate.search.catalog import Rules, Scene, scene_of
from salib.curate.search.sources import find_items
from salib.training.data import Samples

MAP_SAMPLES = 5_000
"""Most samples that an interactive map carries, each about half a kilobyte."""


def map_layers(folder: str | Path) -> dict[str, Any]:
    """What an interactive map of a curated folder shows, bounded so that a page can carry it.

    Of more than MAP_SAMPLES samples, as many are taken at even steps along the Hilbert curve.

    Args:
        folder: written by `curate`.

    Returns:
        By sensor `tiles` (a PMTiles archive) and `attribution`; as GeoJSON `scenes` (one feature
        per scene that was found) and `samples`; `splits`, how many samples of each there are;
        `bounds` of the samples: west, south, east, north in degrees.

    Raises:
        ValueError: if the folder lacks its snapshot, index or an archive: curate it again.
    """
    samples, index = Samples(folder), geopandas.read_parquet(Path(folder) / "index.parquet")
    steps = np.linspace(0, len(index) - 1, min(len(index), MAP_SAMPLES)).astype(int)
    rows = index.iloc[steps].to_dict(orient="records")
    scenes = [
        _feature(
            scene.footprint,
            sensor=scene.sensor,
            id=scene.id,
            date=f"{scene.datetime:%Y-%m-%d}",
            used=used,
        )
        for scene, used in _scenes(Path(folder), samples)
    ]
    drawn = [_feature(row["geometry"], **_facts(row, samples.sensors)) for row in rows]
    archives = samples.archives.items()
    return {
        "tiles": overviews({name: archive.path for name, archive in archives}),
        "attribution": {name: archive.metadata["attribution"] for name, archive in archives},
        "scenes": {"type": "FeatureCollection", "features": scenes},
        "samples": {"type": "FeatureCollection", "features": drawn},
        "splits": index["split"].value_counts().sort_index().to_dict(),
        "bounds": index.total_bounds.tolist(),
    }


def _scenes(folder: Path, samples: Samples) -> Iterator[tuple[Scene, bool]]:
    """Each usable scene of the snapshot, and whether the cover took it."""
    items = find_items(folder / "scenes.json", Rules(), None)
    for sensor, archive in samples.archives.items():
        used = set(archive.metadata["scenes"])
        for rules in (Rules(), Rules(sar="rtc")):
            mine = [item for item in items if item.collection_id in rules.collections(sensor)]
            scenes = [scene for item in mine if (scene := scene_of(item, sensor))]
            if scenes:
                break
        yield from ((scene, scene.id in used) for scene in scenes)


def _facts(row: dict[str, Any], sensors: tuple[str, ...]) -> dict[str, Any]:
    """What a click on a sample shows: its tile, and by sensor its dates, scenes and gaps."""
    about = {name: row[name] for name in ("z", "x", "y", "split")}
    about["gsd_m"] = round(row["gsd_m"], 3)
    for name in sensors:
        about[name] = {
            "valid_frac": round(row[f"valid_frac_{name}"], 4),
            "date": f"{row[f'datetime_{name}']:%Y-%m-%d}",
            "scenes": list(row[f"scene_ids_{name}"]),
        }
        days, cloud = row.get(f"days_{name}"), row.get(f"cloud_frac_{name}")
        if days is not None:
            about[name]["days_from_lores"] = round(days, 1)
        if cloud is not None and cloud == cloud:
            about[name]["cloud_frac"] = round(cloud, 3)
    return about


def _feature(ground: BaseGeometry, **about: Any) -> dict[str, Any]:
    """GeoJSON, to a millionth of a degree."""
    flat = shapely.transform(ground, lambda lonlat: lonlat.round(6))
    return {"type": "Feature", "geometry": shapely.geometry.mapping(flat), "properties": about}
