"""Procedural scenes in the formats of real archives: COGs and a static STAC catalog.

The aerial images come first: they paint the ground that satellites see, averaged to 10 m.
"""

import math
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pystac
from jaxtyping import UInt8
from tqdm import tqdm

from earth import sensors
from earth.landscape.themes import paint
from earth.scenes.area import LORES_M, SNAP_M, UtmArea, area_of_tiles
from earth.scenes.files import COLLECTION_TITLES, JPEG, Scene, write_catalog
from earth.scenes.satellites import write_lores, write_radar
from earth.workers import results
from salib.files.artifact import MADE_FROM, atomic_dir, check_replaceable, made_from, stamp

_BLOCK_M = 1260.0


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
    overwrite: bool = True,
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
        overwrite: replace another world in `out`.

    Returns:
        Path of `catalog.json`.

    Raises:
        ValueError: if an argument is out of its range, the block leaves its UTM zone, or `out`
            holds something else.
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
    check_replaceable(out, "catalog.json", *COLLECTION_TITLES, MADE_FROM, stamped=True)
    if made_from(out) and not overwrite:
        raise ValueError(
            f"out must be new or made from the same arguments, got {out}: choose another folder, "
            "or replace it with --overwrite"
        )
    area = area_of_tiles(lon, lat, zoom, tiles)
    whole = area.grid(LORES_M)
    ground, items = np.zeros((6, whole.rows, whole.cols), np.float16), []
    with atomic_dir(out) as part:
        parts, job = _quads(area), partial(_write_quad, part, seed, hires_native_gsd_m)
        found = results(job, list(parts.items()), processes, "hires scenes")
        for quad, (item, seen) in zip(parts.values(), found, strict=True):
            items.append(item)
            _paste(ground, seen, area.north_m - quad.north_m, quad.west_m - area.west_m)
        jobs = [partial(write_radar, part, area, seed, ground, n) for n in range(2)]
        jobs += [partial(write_lores, part, area, seed, ground, n, spectral) for n in range(3)]
        items += [job() for job in tqdm(jobs, "radar and lores scenes", disable=None)]
        write_catalog(part, seed, items)
        stamp(part, {"seed": seed, "zoom": zoom, "tiles": tiles})
    return Path(out) / "catalog.json"


def _quads(area: UtmArea) -> dict[str, UtmArea]:
    """Two by two aerial images that overlap by a few hundred metres."""
    lap = SNAP_M * max(1, round(min(300.0, area.width_m / 12) / SNAP_M))
    x, y = (SNAP_M * math.ceil(side / 2 / SNAP_M) for side in (area.width_m, area.height_m))
    columns = {"w": (0.0, x + lap), "e": (x - lap, area.width_m - x + lap)}
    rows = {"n": (0.0, y + lap), "s": (y - lap, area.height_m - y + lap)}
    return {
        up + across: area.part(left, top, width, height)
        for up, (top, height) in rows.items()
        for across, (left, width) in columns.items()
    }


def _write_quad(
    part: Path, seed: int, gsd_m: float, quad: tuple[str, UtmArea]
) -> tuple[pystac.Item, np.ndarray]:
    """Write one aerial image block by block; return also its ground averaged to 10 m."""
    corner, area = quad
    name = f"m_procedural_{corner}_{area.epsg % 100}_{round(gsd_m * 100):03d}_20230703"
    when = datetime(2023, 7, 3, 16, 0, tzinfo=UTC)
    properties = {"gsd": gsd_m, "naip:year": "2023", "eo:cloud_cover": 0}
    what = {"id": name, "collection": "naip", "datetime": when, "properties": properties}
    scene = Scene(part, area.ring(area.corners), **what)
    rng = np.random.default_rng([seed, 17, *corner.encode()])
    weather = sensors.Weather.draw(rng, strength=0.6)
    grain = rng.standard_normal((4, 1024, 1024), np.float32) * np.float32(rng.uniform(0.6, 1.4))
    whole, small = area.grid(gsd_m), area.grid(LORES_M)
    coarse = np.empty((6, small.rows, small.cols), np.float16)
    profile = {"count": 4, "height": whole.rows, "width": whole.cols, "dtype": "uint8"}
    step = round(_BLOCK_M / gsd_m)
    with scene.cog("image", "image", options=JPEG, **profile, **area.georeference(gsd_m)) as file:
        for top, left in product(range(0, whole.rows, step), range(0, whole.cols, step)):
            bottom, right = min(top + step, whole.rows), min(left + step, whole.cols)
            seen = paint(seed, whole.box(top, bottom, left, right))
            file.write(_rgbn(seen, weather, grain), window=((top, bottom), (left, right)))
            seen = sensors.coarsened(seen, round((right - left) * gsd_m / LORES_M))
            _paste(coarse, seen, top * gsd_m, left * gsd_m)
    return scene.item, coarse


def _paste(ground: np.ndarray, part: np.ndarray, top_m: float, left_m: float) -> None:
    """Put a part into ground of 10 m."""
    top, left = round(top_m / LORES_M), round(left_m / LORES_M)
    ground[:, top : top + part.shape[1], left : left + part.shape[2]] = part


def _rgbn(
    seen: np.ndarray, weather: sensors.Weather, grain: np.ndarray
) -> UInt8[np.ndarray, "4 rows cols"]:
    """Aerial image with film grain; near infrared is halved so that it fits 8 bits."""
    nir = np.minimum(0.5 * sensors.near_infrared(seen), 250)
    bands = np.concatenate([weather.apply(seen[:3]), nir[None]])
    rows, cols = bands.shape[1:]
    bands += grain[:, np.arange(rows)[:, None] % 1024, np.arange(cols) % 1024]
    return sensors.rounded(bands)
