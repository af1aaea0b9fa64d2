"""Aerial images of an area, and the ground they saw averaged to 10 m."""

import math
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pystac
from jaxtyping import UInt8

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.themes import paint
from earth.scenes.area import LORES_M, SNAP_M, UtmArea, corners_of
from earth.scenes.files import JPEG, Scene

BLOCK_M = 1260.0


class Quad(NamedTuple):
    """One aerial image: a part of the area, in metres from its north-west corner."""

    name: str
    left_m: float
    top_m: float
    width_m: float
    height_m: float


def quads(area: UtmArea) -> list[Quad]:
    """Two by two aerial images that overlap by a few hundred metres."""
    lap = SNAP_M * max(1, round(min(300.0, area.width_m / 12) / SNAP_M))
    half = [SNAP_M * math.ceil(side / 2 / SNAP_M) for side in (area.width_m, area.height_m)]
    spans = [
        ((0.0, middle + lap), (middle - lap, side - middle + lap))
        for middle, side in zip(half, (area.width_m, area.height_m), strict=True)
    ]
    return [
        Quad(up + across, x, y, width, height)
        for up, (y, height) in zip("ns", spans[1], strict=True)
        for across, (x, width) in zip("we", spans[0], strict=True)
    ]


def write_quad(
    part: Path, area: UtmArea, seed: int, gsd_m: float, quad: Quad
) -> tuple[pystac.Item, np.ndarray]:
    """Write one aerial image block by block; return also its ground averaged to 10 m."""
    west, north = area.west_m + quad.left_m, area.north_m - quad.top_m
    name = f"m_procedural_{quad.name}_{area.epsg % 100}_{round(gsd_m * 100):03d}_20230703"
    corners = corners_of(west, north, quad.width_m, quad.height_m)
    when = datetime(2023, 7, 3, 16, 0, tzinfo=UTC)
    properties = {"gsd": gsd_m, "naip:year": "2023", "eo:cloud_cover": 0}
    scene = Scene(part, area, "naip", name, when, corners, properties)
    rng = np.random.default_rng([seed, 17, *quad.name.encode()])
    weather = sensors.Weather.draw(rng, strength=0.6)
    grain = rng.standard_normal((4, 1024, 1024), np.float32) * np.float32(rng.uniform(0.6, 1.4))
    rows, cols = round(quad.height_m / gsd_m), round(quad.width_m / gsd_m)
    shape = (6, round(quad.height_m / LORES_M), round(quad.width_m / LORES_M))
    coarse = np.empty(shape, np.float16)
    profile = {"count": 4, "height": rows, "width": cols, "dtype": "uint8", "options": JPEG}
    profile |= area.on_map(west, north, gsd_m)
    x_m, y_m = area.plane
    whole = Grid(x_m=x_m + quad.left_m, y_m=y_m + quad.top_m, gsd_m=gsd_m, rows=rows, cols=cols)
    step = round(BLOCK_M / gsd_m)
    with scene.cog("image", "image", **profile) as file:
        for top, left in product(range(0, rows, step), range(0, cols, step)):
            bottom, right = min(top + step, rows), min(left + step, cols)
            seen = paint(seed, whole.box(top, bottom, left, right))
            file.write(_rgbn(seen, weather, grain), window=((top, bottom), (left, right)))
            small = sensors.coarsened(seen, round((right - left) * gsd_m / LORES_M))
            paste(coarse, small, top * gsd_m, left * gsd_m)
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
