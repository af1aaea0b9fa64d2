"""Built things in open land: villages, solar farms, brick kilns and single trees."""

import numpy as np

from earth.landscape.built import Lattice, buildings, cells
from earth.landscape.fields import Grid, Lay, leaves_pyramid, noise, sample
from earth.landscape.ground import (
    Mask,
    Paint,
    Rng,
    flat,
    inside,
    mix,
    palette,
    shade,
    smooth,
    tinted,
)
from earth.landscape.land import arable, bare, mosaic, pasture, stripes


def village(grid: Grid, rng: Rng) -> Paint:
    """Farms and a few houses in fields or meadows."""
    paint = arable(grid, rng) if rng.random() < 0.5 else pasture(grid, rng)
    lattice = Lattice(
        angle=float(rng.uniform(0, np.pi)),
        cell_u=float(rng.uniform(20, 30)),
        cell_v=float(rng.uniform(20, 34)),
        fill=0.7,
        height_m=6.0,
        roofs=("red_roof", "dark_roof", "tan_roof", "white_roof"),
    )
    place = smooth(noise(grid, rng, 2.0, 6.0), float(rng.uniform(0.6, 1.4)), 0.05)
    mix(paint, tinted(rng, "yard"), 0.7 * place)
    buildings(paint, grid, rng, lattice, place)
    return paint


def solar_farm(grid: Grid, rng: Rng) -> Paint:
    """Rows of panels over some of the parcels of farmland."""
    paint = pasture(grid, rng)
    table = palette(rng, ("grass", "dry_grass", "gravel"), 1024)
    under, ids, edge = mosaic(grid, rng, int(rng.choice([0, 4])), float(rng.uniform(2.4, 5)), table)
    rows = stripes(grid, rng, float(rng.uniform(7, 14)))
    mix(under, tinted(rng, "panel"), smooth(rows, -0.9, 0.9))
    used = (rng.random(2048) < 0.55)[ids & 2047]
    mix(paint, under, inside(edge - 6, grid.gsd_m) * used)
    return paint


def kiln_field(grid: Grid, rng: Rng) -> Paint:
    """Farmland or bare ground with brick kilns: ovals around a chimney, in trodden red ground."""
    paint = arable(grid, rng) if rng.random() < 0.7 else bare(grid, rng)
    cell = float(rng.uniform(320, 520))
    angle, count = float(rng.uniform(0, np.pi)), 4096
    lattice = Lattice(angle=angle, cell_u=cell, cell_v=cell, fill=1.0, height_m=0.0, roofs=())
    along, across, number = cells(grid, lattice)
    off = rng.uniform(-0.25, 0.25, (2, count)).astype(np.float32) * cell
    there = (rng.random(count) < 0.7).astype(np.float32)[number]
    kiln(paint, grid, rng, along - off[0][number], across - off[1][number], there)
    return paint


def kiln(
    paint: Paint, grid: Grid, rng: Rng, along: np.ndarray, across: np.ndarray, there: Mask
) -> None:
    """One kiln at the origin of (along, across) wherever `there` is 1."""
    length, width = float(rng.uniform(22, 55)), float(rng.uniform(14, 24))
    bend = np.maximum(np.abs(along) - np.float32(length), 0)
    radius = np.hypot(bend, across)
    trodden = smooth(noise(grid, rng, 1.3, 5.0) - radius / np.float32(48), -1.5, 0.5) * there
    mix(paint, tinted(rng, str(rng.choice(["red_soil", "peach_soil", "gravel"]))), trodden)
    wall = float(rng.uniform(6, 11))
    mix(paint, tinted(rng, "red_roof"), inside(width + wall - radius, grid.gsd_m) * there)
    ash = str(rng.choice(["dark_roof", "brown_soil", "pale_soil"]))
    mix(paint, tinted(rng, ash), inside(width - radius, grid.gsd_m) * there)
    island = inside(width * 0.4 - radius, grid.gsd_m) * there
    mix(paint, tinted(rng, "red_soil"), island)


def crowns(paint: Paint, grid: Grid, rng: Rng, texel_m: float, amount: float) -> None:
    """Single trees with lit and shaded sides, for windows fine enough."""
    leaves = sample(leaves_pyramid(1), grid, Lay.draw(rng, texel_m))
    stand = smooth(noise(grid, rng, 1.6, 10 * texel_m), amount, 0.2)
    tree = flat(grid, tinted(rng, "forest"))
    shade(tree, np.maximum(1 + 0.35 * leaves, 0.2))
    mix(paint, tree, stand)
