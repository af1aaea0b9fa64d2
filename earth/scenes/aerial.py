"""Aerial images of an area, and the ground they saw averaged to 10 m."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.themes import paint
from earth.scenes import stac
from earth.scenes.area import SNAP_M, Quad, UtmArea
from earth.scenes.cog import JPEG, cog, on_map

LORES_M = 10.0
BLOCK_M = 1260.0


def quads(area: UtmArea) -> list[Quad]:
    """Two by two aerial images that overlap by a few hundred metres."""
    lap = SNAP_M * max(1, round(min(300.0, area.width_m / 12) / SNAP_M))
    half = [SNAP_M * math.ceil(side / 2 / SNAP_M) for side in (area.width_m, area.height_m)]
    spans = [
        ((0.0, middle + lap), (middle - lap, side - middle + lap))
        for middle, side in zip(half, (area.width_m, area.height_m), strict=True)
    ]
    return [
        Quad(name=up + across, left_m=x, top_m=y, width_m=width, height_m=height)
        for up, (y, height) in zip("ns", spans[1], strict=True)
        for across, (x, width) in zip("we", spans[0], strict=True)
    ]


def write_quad(part: Path, area: UtmArea, seed: int, gsd_m: float, quad: Quad) -> np.ndarray:
    """Write one aerial image block by block; return its ground averaged to 10 m."""
    item = stac.naip_item(area, quad, gsd_m)
    folder = stac.folder(part, item)
    rng = np.random.default_rng([seed, 17, *quad.name.encode()])
    weather = sensors.Weather.draw(rng, strength=0.6)
    grain = rng.standard_normal((4, 1024, 1024), np.float32) * np.float32(rng.uniform(0.6, 1.4))
    rows, cols = round(quad.height_m / gsd_m), round(quad.width_m / gsd_m)
    shape = (6, round(quad.height_m / LORES_M), round(quad.width_m / LORES_M))
    coarse = np.empty(shape, np.float16)
    west, north = area.west_m + quad.left_m, area.north_m - quad.top_m
    profile = {"count": 4, "height": rows, "width": cols, "dtype": "uint8"}
    place = on_map(area.epsg, west, north, gsd_m)
    with cog(folder / "image.tif", options=JPEG, **profile, **place) as file:
        for top_m in np.arange(0, quad.height_m, BLOCK_M):
            for left_m in np.arange(0, quad.width_m, BLOCK_M):
                grid = _block(area, quad, float(top_m), float(left_m), gsd_m)
                seen = paint(seed, grid)
                row, col = round(top_m / gsd_m), round(left_m / gsd_m)
                window = ((row, row + grid.rows), (col, col + grid.cols))
                file.write(_rgbn(seen, weather, grain), window=window)
                seen[4:] = sensors.backscatter(seen)
                small = sensors.average(seen, round(grid.cols * gsd_m / LORES_M))
                small[4:] = 10 * np.log10(small[4:])
                top, left = round(top_m / LORES_M), round(left_m / LORES_M)
                coarse[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    stac.save(part, item)
    return coarse


def _block(area: UtmArea, quad: Quad, top_m: float, left_m: float, gsd_m: float) -> Grid:
    x_m, y_m = area.plane
    return Grid(
        x_m=x_m + quad.left_m + left_m,
        y_m=y_m + quad.top_m + top_m,
        gsd_m=gsd_m,
        rows=round(min(BLOCK_M, quad.height_m - top_m) / gsd_m),
        cols=round(min(BLOCK_M, quad.width_m - left_m) / gsd_m),
    )


def _rgbn(
    seen: np.ndarray, weather: sensors.Weather, grain: np.ndarray
) -> UInt8[np.ndarray, "4 rows cols"]:
    """Aerial image with film grain; near infrared is halved so that it fits 8 bits."""
    nir = np.minimum(0.5 * sensors.near_infrared(seen), 250)
    bands = np.concatenate([sensors.optical(seen, weather), nir[None]])
    rows, cols = bands.shape[1:]
    repeat = (1, -(-rows // grain.shape[1]), -(-cols // grain.shape[2]))
    bands += (np.tile(grain, repeat) if max(repeat) > 1 else grain)[:, :rows, :cols]
    return np.clip(bands + 0.5, 1, 255).astype(np.uint8)
