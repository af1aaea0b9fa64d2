"""Procedural scenes in the formats of real archives: COGs and a static STAC catalog."""

import math
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from earth.scenes.aerial import paste, quads, write_quad
from earth.scenes.area import LORES_M, SNAP_M, area_of_tiles
from earth.scenes.files import COLLECTION_TITLES, write_catalog
from earth.scenes.lores import write_lores
from earth.scenes.radar import write_radar
from earth.workers import results
from salib.files.artifact import MADE_FROM, atomic_dir, check_replaceable


def write_scenes(
    out: str | Path,
    *,
    seed: int,
    lon: float = -98.0,
    lat: float = 38.5,
    zoom: int = 14,
    tiles: int = 20,
    hires_native_gsd_m: float = 2.5,
    spectral: bool = False,
    processes: int = 2,
) -> Path:
    """Write procedural Sentinel-1-, Sentinel-2- and NAIP-like scenes that cover a block of tiles.

    Args:
        out: folder that will hold the catalog; it appears whole or not at all.
        seed: the world; the same arguments give the same bytes with any number of processes.
        lon: longitude of the middle; the block must stay inside one UTM zone.
        lat: latitude of the middle.
        zoom: zoom of the base tiles.
        tiles: side of the square block of base tiles.
        hires_native_gsd_m: metres per pixel of the aerial images; must divide 60 m.
        spectral: write the twelve bands of the Sentinel-2-like scenes beside their true colour.
        processes: worker processes.

    Returns:
        Path of `catalog.json`.

    Raises:
        ValueError: if an argument is out of its range or the block leaves its UTM zone.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if tiles < 1 or processes < 1:
        raise ValueError(f"tiles and processes must be positive, got {tiles} and {processes}")
    share = SNAP_M / hires_native_gsd_m if hires_native_gsd_m > 0 else 0.5
    if not (0.3 <= hires_native_gsd_m <= LORES_M and math.isclose(share, round(share))):
        raise ValueError(
            f"hires_native_gsd_m must lie in 0.3..10 and divide 60 m, got {hires_native_gsd_m}"
        )
    check_replaceable(out, "catalog.json", *COLLECTION_TITLES, MADE_FROM)
    area = area_of_tiles(lon, lat, zoom, tiles)
    whole = area.grid(LORES_M)
    ground, items = np.zeros((6, whole.rows, whole.cols), np.float16), []
    with atomic_dir(out) as part:
        parts, job = quads(area), partial(write_quad, part, seed, hires_native_gsd_m)
        found = results(job, list(parts.items()), processes, "hires scenes")
        for quad, (item, seen) in zip(parts.values(), found, strict=True):
            items.append(item)
            paste(ground, seen, area.north_m - quad.north_m, quad.west_m - area.west_m)
        jobs = [partial(write_radar, part, area, seed, ground, n) for n in range(2)]
        jobs += [partial(write_lores, part, area, seed, ground, n, spectral) for n in range(3)]
        items += [job() for job in tqdm(jobs, "radar and lores scenes", disable=None)]
        write_catalog(part, seed, items)
    return Path(out) / "catalog.json"
