"""The plane as a function of (seed, location): regions of one theme, crossed by lines."""

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from earth.landscape import built, land
from earth.landscape.fields import Grid
from earth.landscape.ground import Brush, Paint
from earth.landscape.lines import overlay

CELL_M = 1500.0
_WARP_M = 330.0
_WEIGHTS: dict[str, tuple[Callable[[Brush], Paint], float]] = {
    "arable": (land.arable, 0.15),
    "forest": (land.forest, 0.13),
    "shrub": (land.shrub, 0.11),
    "pasture": (land.pasture, 0.11),
    "orchard": (land.orchard, 0.11),
    "residential": (built.residential, 0.12),
    "industrial": (built.industrial, 0.09),
    "water": (land.water, 0.08),
    "bare": (land.bare, 0.02),
    "clearing": (land.clearing, 0.02),
    "village": (built.village, 0.03),
    "solar_farm": (built.solar_farm, 0.015),
    "kiln_field": (built.kiln_field, 0.015),
}
THEMES = tuple(_WEIGHTS)
_SHARES = np.cumsum([share for _, share in _WEIGHTS.values()])


class Region(NamedTuple):
    """A part of the plane with one theme: its site, weight against neighbours, and its seed."""

    theme: str
    x_m: float
    y_m: float
    weight: float
    seed: tuple[int, ...]


@lru_cache(maxsize=65536)
def region(seed: int, i: int, j: int) -> Region:
    """Region of the lattice cell in column i (east) and row j (south)."""
    key = (seed, 1, i + 2**31, j + 2**31)
    u, v, pick, weight = np.random.default_rng(key).random(4)
    return Region(
        theme=THEMES[int(np.searchsorted(_SHARES, pick * _SHARES[-1], side="right"))],
        x_m=(i + 0.5 + 0.8 * (u - 0.5)) * CELL_M,
        y_m=(j + 0.5 + 0.8 * (v - 0.5)) * CELL_M,
        weight=0.16 * CELL_M**2 * (weight - 0.5),
        seed=(*key, 2),
    )


def paint(seed: int, grid: Grid, *, lines: bool = True) -> Paint:
    """Materials of a window: six bands, see `ground`.

    Args:
        seed: the world.
        lines: whether rivers and roads cross the regions.
    """
    sites = _candidates(seed, grid)
    owner = _owners(seed, grid, sites)
    out = np.empty((6, grid.rows, grid.cols), np.float32)
    dry = np.ones((grid.rows, grid.cols), np.float32)
    for number in np.unique(owner):
        mask = owner == number
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = (int(n) for n in (rows[0], rows[-1] + 1, cols[0], cols[-1] + 1))
        part, site = np.s_[..., top:bottom, left:right], sites[number]
        near = grid.box(top, bottom, left, right).shifted(site.x_m, site.y_m)
        brush = Brush(near, np.random.default_rng(site.seed))
        np.copyto(out[part], _WEIGHTS[site.theme][0](brush), where=mask[part])
        if site.theme == "water":
            dry[mask] = 0
    if lines:
        overlay(out, grid, seed, dry)
    return out


def theme_numbers(seed: int, grid: Grid) -> Int32[np.ndarray, "rows cols"]:
    """Place in THEMES of the theme that each pixel of a window shows, lines aside."""
    sites = _candidates(seed, grid)
    numbers = np.array([THEMES.index(site.theme) for site in sites], np.int32)
    return numbers[_owners(seed, grid, sites)]


def _candidates(seed: int, grid: Grid) -> list[Region]:
    """Regions that may own a pixel of the window."""
    corner, size = np.array([grid.x_m, grid.y_m]), np.array([grid.cols, grid.rows]) * grid.gsd_m
    reach = _WARP_M + 1.6 * CELL_M
    west, north = ((corner - reach) // CELL_M).astype(int).tolist()
    east, south = ((corner + size + reach) // CELL_M).astype(int).tolist()
    cells = product(range(west, east + 1), range(north, south + 1))
    sites = [region(seed, i, j) for i, j in cells]
    location = np.array([(site.x_m, site.y_m, site.weight) for site in sites])
    middle, half = corner + size / 2, size / 2 + _WARP_M
    off = np.abs(location[:, :2] - middle)
    nearest = (np.maximum(off - half, 0) ** 2).sum(1) - location[:, 2]
    farthest = ((off + half) ** 2).sum(1) - location[:, 2]
    return [site for site, low in zip(sites, nearest, strict=True) if low <= farthest.min()]


def _owners(seed: int, grid: Grid, sites: list[Region]) -> Int32[np.ndarray, "rows cols"]:
    """Index of the region each pixel belongs to: warped power diagram of the sites."""
    if len(sites) == 1:
        return np.zeros((grid.rows, grid.cols), np.int32)
    warp = Brush(grid, np.random.default_rng([seed, 3]))
    axes = grid.shifted(sites[0].x_m, sites[0].y_m).turned(0.0)
    x, y = (metres + np.clip(warp.noise(2.0, 14.0), -3, 3) * 110 for metres in axes)
    best = np.full((grid.rows, grid.cols), np.inf, np.float32)
    owner = np.zeros((grid.rows, grid.cols), np.int32)
    for number, site in enumerate(sites):
        u, v = site.x_m - sites[0].x_m, site.y_m - sites[0].y_m
        cost = np.float32(-2 * u) * x
        cost += np.float32(-2 * v) * y
        cost += np.float32(u * u + v * v - site.weight)
        np.copyto(owner, number, where=cost < best)
        np.minimum(best, cost, out=best)
    return owner
