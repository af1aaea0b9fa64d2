"""Built ground: houses, halls and streets, all with physical sizes."""

from dataclasses import dataclass

import numpy as np

from earth.landscape.fields import Coverage, Grid, Lay, Rng, noise, parcels, sample, stripes
from earth.landscape.ground import (
    Paint,
    box,
    flat,
    fold,
    inside,
    material,
    mix,
    palette,
    patches,
    shade,
    smooth,
    tinted,
)
from earth.landscape.land import around, mosaic

SUN = (-0.5, -0.85)
_RADAR_LOOK = 0.2
_HOUSES = (
    ("red_roof", "red_roof", "tan_roof", "dark_roof"),
    ("dark_roof", "grey_roof", "red_roof"),
    ("tan_roof", "white_roof", "grey_roof", "red_roof"),
    ("red_roof", "white_roof", "grey_roof"),
    ("grey_roof", "dark_roof", "white_roof"),
)
_HALLS = (
    ("white_roof", "grey_roof", "dark_roof", "grey_roof"),
    ("grey_roof", "white_roof", "red_roof", "blue_roof"),
    ("white_roof", "tan_roof", "grey_roof", "dark_roof", "white_roof"),
    ("dark_roof", "grey_roof", "red_roof"),
)


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Buildings on a turned lattice, one per cell, each drawn from 4,096 random rows.

    Lengths in metres; `fill` is the share of cells built, `roofs` names of roof materials.
    """

    angle: float
    cell_u: float
    cell_v: float
    fill: float
    height_m: float
    roofs: tuple[str, ...]
    smallest: float = 0.45
    largest: float = 0.85


def cells(grid: Grid, lattice: Lattice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Metres from the cell's centre along two axes, and the cell's number (0..4095)."""
    along, across = grid.turned(lattice.angle)
    i = np.floor(along * np.float32(1 / lattice.cell_u))
    j = np.floor(across * np.float32(1 / lattice.cell_v))
    along -= (i + np.float32(0.5)) * np.float32(lattice.cell_u)
    across -= (j + np.float32(0.5)) * np.float32(lattice.cell_v)
    number = ((i.astype(np.int32) & 63) << 6) | (j.astype(np.int32) & 63)
    return along, across, number


def buildings(paint: Paint, grid: Grid, rng: Rng, lattice: Lattice, keep: Coverage | None) -> None:
    """Shadows, then roofs lit from one side; `keep` removes buildings where it is 0."""
    cell = 0.5 * np.array([[lattice.cell_u], [lattice.cell_v]])
    half = cell * rng.uniform(lattice.smallest, lattice.largest, (2, 4096))
    off = (rng.uniform(-0.8, 0.8, (2, 4096)) * (cell - half)).astype(np.float32)
    half = half.astype(np.float32)
    half[0, rng.random(4096) > lattice.fill] = -1e4
    table = palette(rng, lattice.roofs, 4096, gain=0.16, hue=0.03)
    table[4] += 8 * np.cos(2 * (lattice.angle - _RADAR_LOOK)) ** 4 - 1

    def footprint(u: Coverage, v: Coverage, number: np.ndarray) -> Coverage:
        return box(u - off[0][number], v - off[1][number], half[:, number], grid.gsd_m)

    along, across, number = cells(grid, lattice)
    body = footprint(along, across, number)
    shadow = footprint(*cells(grid.shifted(*(lattice.height_m * np.array(SUN))), lattice))
    if keep is not None:
        body *= keep
        shadow *= keep
    mix(paint, material("shade"), 0.75 * shadow * (1 - body))
    ridge = across - off[1][number]
    roof = table[:, number]
    shade(roof, np.float32(1) + np.float32(0.10) * np.clip(ridge / np.float32(2.0), -1, 1))
    mix(paint, roof, body)


def streets(
    paint: Paint, grid: Grid, rng: Rng, lattice: Lattice, every: tuple[int, int]
) -> Coverage:
    """Straight streets every few cells of a lattice; returns 1 off the street."""
    along, across = grid.turned(lattice.angle)
    width = rng.uniform(6, 11)
    out = np.ones((grid.rows, grid.cols), np.float32)
    for place, period in ((along, every[0] * lattice.cell_u), (across, every[1] * lattice.cell_v)):
        out *= 1 - inside(width / 2 - fold(place, period), grid.gsd_m)
    mix(paint, tinted(rng, "asphalt", "asphalt", "concrete"), 1 - out)
    return out


def residential(grid: Grid, rng: Rng) -> Paint:
    """Houses in gardens along streets, from a dense centre to a green suburb."""
    paint = flat(grid, tinted(rng, "yard", "yard", "grass", "concrete", "tan_soil"))
    green = noise(grid, rng, 1.0, rng.uniform(3, 6))
    amount = rng.uniform(-0.6, 1.4)
    mix(paint, tinted(rng, "forest", "maquis", "grass"), smooth(green, amount, 0.7))
    shade(paint, 1 + 0.06 * noise(grid, rng, 0.6, 5.0))
    roofs = _HOUSES[rng.integers(len(_HOUSES))]
    size = around(rng, 21.0, 0.3)
    lattice = Lattice(
        angle=rng.uniform(0, np.pi),
        cell_u=size,
        cell_v=size * rng.uniform(0.7, 1.8),
        fill=rng.uniform(0.55, 0.98),
        height_m=rng.uniform(5, 13),
        roofs=roofs,
        smallest=0.4,
        largest=rng.uniform(0.65, 1.0),
    )
    every = (int(rng.integers(2, 8)), int(rng.integers(2, 5)))
    keep = streets(paint, grid, rng, lattice, every)
    _avenues(paint, grid, rng, keep)
    keep *= 1 - smooth(green, max(amount, 0.2) + 0.5, 0.3)
    park = patches(grid, rng, 2.0, 8.0, (0.9, 2.6), 0.2)
    buildings(paint, grid, rng, lattice, keep * (1 - park))
    mix(paint, tinted(rng, "grass", "forest"), park * 0.9)
    return paint


def _avenues(paint: Paint, grid: Grid, rng: Rng, keep: Coverage) -> None:
    """Wider streets along the edges of irregular quarters."""
    kind = int(rng.choice([0, 1, 4]))
    edge = sample(parcels(kind)[1], grid, Lay.draw(rng, rng.uniform(2, 5)))
    road = inside(rng.uniform(1.0, 2.4) * 3 - 3 * edge, grid.gsd_m)
    mix(paint, tinted(rng, "asphalt"), road)
    keep *= 1 - road


def industrial(grid: Grid, rng: Rng) -> Paint:
    """Halls of 40 to 130 m between yards, car parks and verges."""
    names = ("asphalt", "concrete", "yard", "grass", "gravel", "asphalt")
    table = palette(rng, names, 1024, unity=0.3)
    paint, _, edge = mosaic(grid, rng, int(rng.choice([0, 4])), rng.uniform(1.3, 3), table)
    shade(paint, 1 + 0.08 * noise(grid, rng, 0.6, 4.0) + 0.06 * noise(grid, rng, 1.3, 5.0))
    road = inside(rng.uniform(4, 8) - edge, grid.gsd_m)
    roofs = _HALLS[rng.integers(len(_HALLS))]
    angle = rng.uniform(0, np.pi)
    for size, fill in ((rng.uniform(75, 130), rng.uniform(0.4, 0.85)), (rng.uniform(26, 50), 0.3)):
        lattice = Lattice(
            angle=angle,
            cell_u=size,
            cell_v=size * rng.uniform(0.5, 1.1),
            fill=fill,
            height_m=rng.uniform(8, 16),
            roofs=roofs,
            smallest=0.35,
            largest=0.92,
        )
        buildings(paint, grid, rng, lattice, 1 - road)
    shade(paint, 1 + 0.05 * stripes(grid, rng, rng.uniform(10, 26)))
    mix(paint, tinted(rng, "asphalt"), road)
    green = patches(grid, rng, 1.3, 5.0, (0.8, 2.2), 0.4)
    mix(paint, tinted(rng, "grass", "forest"), green)
    return paint
