"""Local climate zones, the classes of m-so2sat: ten built ones and seven of open ground."""

from functools import partial
from typing import NamedTuple

import numpy as np

from earth import sensors
from earth.landscape import built, land
from earth.landscape.fields import Grid, noise
from earth.landscape.ground import Paint, Rng, flat, mix, shade, smooth, tinted
from earth.tasks.chips import Painted, PaintedTask


class _Zone(NamedTuple):
    """A built zone: ground, metres between buildings, share built, heights, trees."""

    name: str
    ground: str
    cell_m: float
    fill: float
    height_m: float
    green: float
    roofs: tuple[str, ...]


_TILES, _FLAT = ("red_roof", "tan_roof", "dark_roof"), ("grey_roof", "white_roof", "dark_roof")
_BUILT = (
    _Zone("Compact high rise", "concrete", 45, 0.92, 45, -2.0, _FLAT),
    _Zone("Compact middle rise", "concrete", 30, 0.95, 18, -1.5, _TILES),
    _Zone("Compact low rise", "asphalt", 14, 0.95, 6, -1.5, _TILES),
    _Zone("Open high rise", "grass", 65, 0.55, 45, 0.2, _FLAT),
    _Zone("Open mid rise", "grass", 45, 0.6, 18, 0.2, _TILES),
    _Zone("Open low rise", "yard", 24, 0.6, 6, 0.2, _TILES),
    _Zone("Lightweight low rise", "tan_soil", 8, 0.97, 3, -2.0, ("tan_roof", "grey_roof")),
    _Zone("Large low rise", "asphalt", 95, 0.75, 10, -2.0, ("white_roof", "grey_roof")),
    _Zone("Sparsely built", "meadow", 60, 0.3, 6, 0.5, _TILES),
    _Zone("Heavy industry", "gravel", 70, 0.65, 25, -2.5, ("dark_roof", "blue_roof")),
)


def _plain(grid: Grid, rng: Rng, names: tuple[str, ...]) -> Paint:
    ground = flat(grid, tinted(rng, *names))
    shade(ground, 1 + 0.06 * noise(grid, rng, 1.3, 5.0))
    return ground


def _scattered(grid: Grid, rng: Rng) -> Paint:
    ground = _plain(grid, rng, ("grass", "meadow", "dry_grass"))
    mix(ground, tinted(rng, "forest"), smooth(noise(grid, rng, 0.6, 3.0), 0.6, 0.4))
    return ground


_OPEN = {
    "Dense trees": land.forest,
    "Scattered trees": _scattered,
    "Bush, scrub": land.shrub,
    "Low plants": partial(_plain, names=("grass", "meadow", "crop")),
    "Bare rock or paved": partial(_plain, names=("rock", "asphalt", "concrete")),
    "Bare soil or sand": partial(_plain, names=("sand", "tan_soil", "red_soil")),
    "Water": land.water,
}
ZONES = (*(zone.name for zone in _BUILT), *_OPEN)


def _settled(grid: Grid, rng: Rng, zone: _Zone) -> Paint:
    paint = flat(grid, tinted(rng, zone.ground))
    trees = smooth(noise(grid, rng, 1.0, 4.0), 1.2 - zone.green, 0.5)
    mix(paint, tinted(rng, "forest"), trees)
    lattice = built.Lattice(
        angle=rng.uniform(0, np.pi),
        cell_u=zone.cell_m * rng.uniform(0.9, 1.1),
        cell_v=zone.cell_m * rng.uniform(0.8, 1.3),
        fill=zone.fill,
        height_m=zone.height_m * rng.uniform(0.8, 1.2),
        roofs=zone.roofs,
    )
    keep = built.streets(paint, grid, rng, lattice, (3, 2)) if zone.fill > 0.5 else None
    built.buildings(paint, grid, rng, lattice, keep)
    return paint


def draw_zone(task: PaintedTask, seed: int, rng: Rng, label: int, number: int) -> Painted:
    """A zone at 5 m, averaged to 10 m; backscatter averages as power."""
    grid = task.window(finer=2)
    if label < len(_BUILT):
        fine = _settled(grid, rng, _BUILT[label])
    else:
        fine = _OPEN[ZONES[label]](grid, rng)
    return Painted(sensors.coarsened(fine, task.side_px), label)
