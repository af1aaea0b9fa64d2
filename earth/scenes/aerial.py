"""Aerial images of an area, and the ground they saw averaged to 10 m."""

import math
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pystac
from jaxtyping import UInt8

from earth import sensors
from earth.landscape.themes import paint
from earth.scenes.area import LORES_M, SNAP_M, UtmArea
from earth.scenes.files import JPEG, Scene

BLOCK_M = 1260.0


def quads(area: UtmArea) -> dict[str, UtmArea]:
    """Two by two aerial images that overlap by a few hundred metres."""
    lap = SNAP_M * max(1, round(min(300.0, area.width_m / 12) / SNAP_M))
    half = [SNAP_M * math.ceil(side / 2 / SNAP_M) for side in (area.width_m, area.height_m)]
    spans = [
        ((0.0, middle + lap), (middle - lap, side - middle + lap))
        for middle, side in zip(half, (area.width_m, area.height_m), strict=True)
    ]
    return {
        up + across: area.part(x, y, width, height)
        for up, (y, height) in zip("ns", spans[1], strict=True)
        for across, (x, width) in zip("we", spans[0], strict=True)
    }


def write_quad(
    part: Path, seed: int, gsd_m: float, quad: tuple[str, UtmArea]
) -> tuple[pystac.Item, np.ndarray]:
    """Write one aerial image block by block; return also its ground averaged to 10 m."""
    corner, area = quad
    name = f"m_procedural_{corner}_{area.epsg % 100}_{round(gsd_m * 100):03d}_20230703"
    when = datetime(2023, 7, 3, 16, 0, tzinfo=UTC)
    properties = {"gsd": gsd_m, "naip:year": "2023", "eo:cloud_cover": 0}
    scene = Scene(part, area, ("naip", name), when, properties)
    rng = np.random.default_rng([seed, 17, *corner.encode()])
    weather = sensors.Weather.draw(rng, strength=0.6)
    grain = rng.standard_normal((4, 1024, 1024), np.float32) * np.float32(rng.uniform(0.6, 1.4))
    whole, small = area.grid(gsd_m), area.grid(LORES_M)
    coarse = np.empty((6, small.rows, small.cols), np.float16)
    profile = {"count": 4, "height": whole.rows, "width": whole.cols, "dtype": "uint8"}
    place = area.georeference(gsd_m)
    step = round(BLOCK_M / gsd_m)
    with scene.cog("image", "image", options=JPEG, **profile, **place) as file:
        for top, left in product(range(0, whole.rows, step), range(0, whole.cols, step)):
            bottom, right = min(top + step, whole.rows), min(left + step, whole.cols)
            seen = paint(seed, whole.box(top, bottom, left, right))
            file.write(_rgbn(seen, weather, grain), window=((top, bottom), (left, right)))
            seen = sensors.coarsened(seen, round((right - left) * gsd_m / LORES_M))
            paste(coarse, seen, top * gsd_m, left * gsd_m)
    return scene.item, coarse


def paste(ground: np.ndarray, part: np.ndarray, top_m: float, left_m: float) -> None:
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
