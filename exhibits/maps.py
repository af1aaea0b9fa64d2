"""What a curated folder shows on a map: scenes found, scenes taken, samples, and their images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from salib.config import SENSOR_NAMES
from salib.curate.area import polygons
from salib.curate.search.catalog import Rules, Scene, scene_of
from salib.curate.search.sources import find_items
from salib.tiles.archive import Archive
from salib.tiles.overview import MAP_BYTES, overviews

Rings = list[tuple[float, float]]
MAP_SAMPLES = 5_000
"""Most samples that an interactive map carries, each about half a kilobyte."""
_DEGREE_DIGITS = 6


def cover_rows(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scenes that a curated folder's search found, and the tiles of its samples.

    Returns:
        One row per ring of a scene: sensor, id, used (whether the cover took it), ring; and one row
        per sample: split, ring.

    Raises:
        ValueError: if the folder lacks its snapshot, index or an archive: curate it again.
    """
    scenes = [
        {"sensor": scene.sensor, "id": scene.id, "used": used, "ring": ring}
        for scene, used in _scenes(Path(folder))
        for ring in _rings(scene.footprint)
    ]
    index = geopandas.read_parquet(Path(folder) / "index.parquet")
    rings = [next(_rings(tile)) for tile in index.geometry]
    return pd.DataFrame(scenes), pd.DataFrame({"split": index["split"], "ring": rings})


def map_layers(
    folder: str | Path, *, max_bytes: int = MAP_BYTES, max_samples: int = MAP_SAMPLES
) -> dict[str, Any]:
    """What an interactive map of a curated folder shows, bounded so that a page can carry it.

    Args:
        folder: written by `curate`.
        max_bytes: bound on the images; a larger area gets fewer zooms.
        max_samples: of more than these, as many are taken at even steps along the Hilbert curve.

    Returns:
        By sensor `tiles` (a PMTiles archive) and `attribution`; as GeoJSON `scenes` (one feature
        per scene that was found) and `samples`; `splits`, how many samples of each there are;
        `bounds` of the samples: west, south, east, north in degrees.

    Raises:
        ValueError: if the folder lacks its snapshot, index or an archive, or if max_bytes holds
            not one zoom.
    """
    folder = Path(folder)
    paths = {name: folder / f"{name}.pmtiles" for name in SENSOR_NAMES}
    scenes = [_scene_feature(scene, used) for scene, used in _scenes(folder)]
    index = geopandas.read_parquet(folder / "index.parquet")
    steps = np.linspace(0, len(index) - 1, min(len(index), max_samples)).astype(int)
    rows = index.iloc[steps].to_dict(orient="records")
    attribution = {name: Archive(path).metadata["attribution"] for name, path in paths.items()}
    return {
        "tiles": overviews(paths, max_bytes=max_bytes),
        "attribution": attribution,
        "scenes": {"type": "FeatureCollection", "features": scenes},
        "samples": {"type": "FeatureCollection", "features": [_sample_feature(r) for r in rows]},
        "splits": index["split"].value_counts().sort_index().to_dict(),
        "bounds": index.total_bounds.tolist(),
    }


def _scenes(folder: Path) -> Iterator[tuple[Scene, bool]]:
    """Each usable scene of the snapshot, and whether the cover took it."""
    items = find_items(folder / "scenes.json", Rules(), None)
    for sensor in SENSOR_NAMES:
        used = set(Archive(folder / f"{sensor}.pmtiles").metadata["scenes"])
        for rules in (Rules(), Rules(sar="rtc")):
            mine = [item for item in items if item.collection_id in rules.collections(sensor)]
            scenes = [scene for item in mine if (scene := scene_of(item, sensor))]
            if scenes:
                break
        yield from ((scene, scene.id in used) for scene in scenes)


def _rings(ground: BaseGeometry) -> Iterator[Rings]:
    for part in polygons(ground):
        yield [(float(lon), float(lat)) for lon, lat, *_ in part.exterior.coords]


def _scene_feature(scene: Scene, used: bool) -> dict[str, Any]:
    about = {"sensor": scene.sensor, "id": scene.id, "date": f"{scene.datetime:%Y-%m-%d}"}
    return _feature(scene.footprint, about | {"used": used})


def _sample_feature(row: dict[str, Any]) -> dict[str, Any]:
    about = {name: row[name] for name in ("z", "x", "y", "split")}
    about["gsd_m"] = round(row["gsd_m"], 3)
    for name in SENSOR_NAMES:
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
    return _feature(row["geometry"], about)


def _feature(ground: BaseGeometry, about: dict[str, Any]) -> dict[str, Any]:
    flat = shapely.transform(ground, lambda lonlat: lonlat.round(_DEGREE_DIGITS))
    return {"type": "Feature", "geometry": shapely.geometry.mapping(flat), "properties": about}
