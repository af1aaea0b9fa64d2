"""Built things in open land: villages, solar farms, brick kilns and single trees."""

import numpy as np

from earth.landscape.built import Lattice, buildings, cells
from earth.landscape.fields import Grid, Rng, leaves, noise, stripes
from earth.landscape.ground import Paint, flat, inside, mix, palette, patches, shade, smooth, tinted
from earth.landscape.land import arable, bare, mosaic, pasture


def village(grid: Grid, rng: Rng) -> Paint:
    """Farms and a few houses in fields or meadows."""
    paint = arable(grid, rng) if rng.random() < 0.5 else pasture(grid, rng)
    lattice = Lattice(
        angle=rng.uniform(0, np.pi),
        cell_u=rng.uniform(20, 30),
        cell_v=rng.uniform(20, 34),
        fill=0.7,
        height_m=6.0,
        roofs=("red_roof", "dark_roof", "tan_roof", "white_roof"),
    )
    place = patches(grid, rng, 2.0, 6.0, (0.6, 1.4), 0.05)
    mix(paint, tinted(rng, "yard"), 0.7 * place)
    buildings(paint, grid, rng, lattice, place)
    return paint


def solar_farm(grid: Grid, rng: Rng) -> Paint:
    """Rows of panels over some of the parcels of farmland."""
    paint = pasture(grid, rng)
    table = palette(rng, ("grass", "dry_grass", "gravel"), 1024)
    under, ids, edge = mosaic(grid, rng, int(rng.choice([0, 4])), rng.uniform(2.4, 5), table)
    rows = stripes(grid, rng, rng.uniform(7, 14))
    mix(under, tinted(rng, "panel"), smooth(rows, -0.9, 0.9))
    used = (rng.random(2048) < 0.55)[ids & 2047]
    mix(paint, under, inside(edge - 6, grid.gsd_m) * used)
    return paint


def kiln_field(grid: Grid, rng: Rng) -> Paint:
    """Farmland or bare ground with brick kilns: ovals around a chimney, in trodden red ground."""
    paint = arable(grid, rng) if rng.random() < 0.7 else bare(grid, rng)
    cell = rng.uniform(320, 520)
    angle, count = rng.uniform(0, np.pi), 4096
    lattice = Lattice(angle=angle, cell_u=cell, cell_v=cell, fill=1.0, height_m=0.0, roofs=())
    along, across, number = cells(grid, lattice)
    off = rng.uniform(-0.25, 0.25, (2, count)).astype(np.float32) * cell
    there = (rng.random(count) < 0.7).astype(np.float32)[number]
    along, across = along - off[0][number], across - off[1][number]
    length, width = rng.uniform(22, 55), rng.uniform(14, 24)
    bend = np.maximum(np.abs(along) - np.float32(length), 0)
    radius = np.hypot(bend, across)
    trodden = smooth(noise(grid, rng, 1.3, 5.0) - radius / np.float32(48), -1.5, 0.5) * there
    mix(paint, tinted(rng, "red_soil", "peach_soil", "gravel"), trodden)
    wall = rng.uniform(6, 11)
    mix(paint, tinted(rng, "red_roof"), inside(width + wall - radius, grid.gsd_m) * there)
    ash = tinted(rng, "dark_roof", "brown_soil", "pale_soil")
    mix(paint, ash, inside(width - radius, grid.gsd_m) * there)
    mix(paint, tinted(rng, "red_soil"), inside(width * 0.4 - radius, grid.gsd_m) * there)
    return paint


def crowns(paint: Paint, grid: Grid, rng: Rng, texel_m: float, amount: float) -> None:
    """Single trees with lit and shaded sides, for windows fine enough."""
    lit = leaves(grid, rng, 1, texel_m)
    stand = smooth(noise(grid, rng, 1.6, 10 * texel_m), amount, 0.2)
    tree = flat(grid, tinted(rng, "forest"))
    shade(tree, np.maximum(1 + 0.35 * lit, 0.2))
    mix(paint, tree, stand)
