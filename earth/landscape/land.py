"""Open land: fields, orchards, pasture, forest, shrub, clearings, bare ground and water.

Each theme paints a window from a generator that belongs to its region, so that whatever it draws
does not depend on the window.
"""

import numpy as np

from earth.landscape.fields import Grid, leaves, noise, parcel_map, relief, stripes
from earth.landscape.ground import (
    Paint,
    Rng,
    flat,
    inside,
    material,
    mix,
    palette,
    patches,
    shade,
    smooth,
    tinted,
)

_SOILS = (
    ("peach_soil", "pale_soil", "tan_soil"),
    ("purple_soil", "brown_soil", "tan_soil"),
    ("brown_soil", "red_soil", "tan_soil"),
    ("straw", "pale_soil", "dry_grass"),
    ("peach_soil", "peach_soil", "straw"),
    ("tan_soil", "straw", "young_crop"),
    ("purple_soil", "teal_crop", "brown_soil"),
)
_COVERS = (
    *(("shrub", "heath"), ("maquis", "tan_soil"), ("shrub", "rock"), ("pale_soil", "shrub")),
    *(("maquis", "red_soil"), ("heath", "purple_soil"), ("shrub", "dry_grass")),
    ("meadow", "maquis"),
)
_CROPS = ("crop", "dark_crop", "teal_crop", "young_crop", "grass")


def mosaic(
    grid: Grid, rng: Rng, kind: int, texel_m: float, table: np.ndarray
) -> tuple[Paint, np.ndarray, np.ndarray]:
    """Parcels coloured from `table`; also their numbers, and metres to their edges."""
    ids, edge = parcel_map(grid, rng, kind, texel_m)
    return np.take(table, ids, axis=1, mode="wrap"), ids, edge


def around(rng: Rng, typical: float, spread: float) -> float:
    """A length drawn around a typical one, with the standard deviation of its logarithm."""
    return float(np.exp(rng.normal(np.log(typical), spread)))


def arable(grid: Grid, rng: Rng) -> Paint:
    """Large fields of one or two soils with some crops, drill lines and farm tracks."""
    soils = _SOILS[rng.integers(len(_SOILS))]
    crops = tuple(rng.choice(_CROPS, 2))[: int(rng.integers(1, 3))]
    kind = int(rng.choice([0, 0, 1, 2, 4]))
    table = palette(rng, soils + soils[:2] + crops, 1024, gain=0.10, hue=0.022)
    paint, ids, edge = mosaic(grid, rng, kind, around(rng, 4.4, 0.35), table)
    rough = noise(grid, rng, 1.3, 6.0) * (0.02 + 0.05 * rng.random())
    patchy = noise(grid, rng, 2.4, 3.0) * (0.02 + 0.07 * rng.random())
    lines = stripes(grid, rng, rng.uniform(14, 70), ids) * (0.05 * rng.random())
    shade(paint, 1 + rough + patchy + lines)
    _margins(paint, grid, rng, edge)
    _pivot(paint, grid, rng)
    return paint


def _margins(paint: Paint, grid: Grid, rng: Rng, edge: np.ndarray) -> None:
    """Tracks, ditches and broken hedges between parcels."""
    name = rng.choice(["gravel", "grass", "forest", "dry_grass", "brown_soil", "pale_soil"])
    width = rng.uniform(1.5, 6.0)
    broken = patches(grid, rng, 1.6, 8.0, (-1.0, 1.0), 0.4)
    mix(paint, tinted(rng, name), inside(width - edge, grid.gsd_m) * broken)


def _pivot(paint: Paint, grid: Grid, rng: Rng) -> None:
    """One field under a centre pivot, in some regions."""
    share, x, y, radius = rng.random(), *rng.uniform(-300, 300, 2), rng.uniform(150, 330)
    colour = tinted(rng, *_CROPS)
    if share > 0.12:
        return
    distance = grid.distance(x, y)
    mix(paint, colour, inside(np.float32(radius) - distance, grid.gsd_m))
    ring = 1 + 0.04 * np.sin(distance * np.float32(2 * np.pi / 45))
    shade(paint, np.where(distance < radius, ring, np.float32(1)).astype(np.float32))


def orchard(grid: Grid, rng: Rng) -> Paint:
    """Small parcels of permanent crops: planted rows over bare soil, with trees and huts."""
    soils = _SOILS[rng.integers(len(_SOILS))]
    extra = tuple(rng.choice(["shrub", "maquis", "dry_grass", "young_crop", "crop"], 3))
    kind = int(rng.choice([0, 2, 2, 4, 1]))
    table = palette(rng, soils + extra, 1024, gain=0.10, hue=0.018, unity=0.5)
    paint, ids, edge = mosaic(grid, rng, kind, around(rng, 1.5, 0.35), table)
    tree = tinted(rng, "maquis", "forest", "shrub")
    rows = stripes(grid, rng, rng.uniform(6, 13), ids)
    broad = stripes(grid, rng, rng.uniform(16, 34), ids)
    planted = (rng.random(2048) < 0.75)[ids & 2047]
    crowns = leaves(grid, rng, 0, 1.6)
    trees = smooth(rows + 0.6 * crowns + 0.25 * broad, 0.2, 1.0) * planted * rng.uniform(0.2, 0.55)
    mix(paint, tree, trees.astype(np.float32))
    lift = noise(grid, rng, 1.0, 7.0) * (0.04 + 0.05 * rng.random())
    shade(paint, 1 + lift + (0.03 + 0.04 * rng.random()) * broad * planted)
    _margins(paint, grid, rng, edge)
    mix(paint, tree, patches(grid, rng, 1.3, 6.0, (1.2, 2.2), 0.4))
    return paint


def pasture(grid: Grid, rng: Rng) -> Paint:
    """Meadows that differ little, behind hedges and scattered trees."""
    names = (("grass",), ("meadow",), ("grass", "meadow"), ("grass", "dry_grass"), ("meadow",))
    picked = names[rng.integers(len(names))]
    table = palette(rng, picked * 2 + ("crop",), 1024, gain=0.07, hue=0.015, unity=0.4)
    kind = int(rng.choice([0, 1, 1, 4, 1]))
    paint, _, edge = mosaic(grid, rng, kind, around(rng, 3.4, 0.4), table)
    shade(paint, 1 + noise(grid, rng, 2.0, 5.0) * (0.02 + 0.06 * rng.random()))
    shade(paint, 1 + noise(grid, rng, 1.0, 8.0) * 0.03)
    tree = tinted(rng, "forest", "conifer", "maquis")
    broken = patches(grid, rng, 1.3, 8.0, (-1.4, 1.0), 0.5)
    mix(paint, tree, inside(rng.uniform(2, 7) - edge, grid.gsd_m) * broken)
    mix(paint, tree, patches(grid, rng, 1.6, 6.0, (1.5, 2.8), 0.3))
    return paint


def forest(grid: Grid, rng: Rng) -> Paint:
    """Two greens mixed by noise, crowns, hillshade; rides cut through it in places."""
    paint = flat(grid, tinted(rng, "forest", gain=0.12, hue=0.035))
    other = tinted(rng, "conifer", "forest", gain=0.24, hue=0.03)
    mix(paint, other, patches(grid, rng, rng.choice([1.6, 2.0, 2.4]), 5.0, (-1.0, 0.6), 0.7))
    crowns = leaves(grid, rng, int(rng.integers(2)), 1.1)
    grain = noise(grid, rng, 0.6, 5.0)
    hills = relief(grid, rng, rng.uniform(9, 25))
    steep = 0.10 * rng.random() ** 1.5
    shade(paint, np.maximum(1 + 0.12 * crowns + 0.035 * grain + steep * hills, 0.3))
    paint[4:] += 0.8 * steep * 10 * hills
    ride = np.abs(noise(grid, rng, 2.4, 12.0))
    if rng.random() < 0.4:
        mix(paint, tinted(rng, "heath"), inside(2.5 - 260 * ride, grid.gsd_m) * 0.7)
    return paint


def shrub(grid: Grid, rng: Rng) -> Paint:
    """Herbaceous and shrubby slopes: two covers, hillshade, gullies and paths."""
    first, second = _COVERS[rng.integers(len(_COVERS))]
    paint = flat(grid, tinted(rng, first, gain=0.24, hue=0.03))
    cover = noise(grid, rng, float(rng.choice([1.0, 1.3, 1.6, 2.0])), rng.uniform(3, 9))
    other = tinted(rng, second, gain=0.24, hue=0.03)
    mix(paint, other, smooth(cover, rng.uniform(-0.8, 1.2), 1.2))
    hills = relief(grid, rng, rng.uniform(5, 20))
    steep = 0.03 + 0.22 * rng.random() ** 2
    tufts = leaves(grid, rng, 0, 1.3)
    grain = noise(grid, rng, 1.0, 5.0)
    grained = 0.05 * tufts + (0.02 + 0.05 * rng.random()) * grain
    shade(paint, np.maximum(1 + steep * hills + grained, 0.25))
    paint[4:] += 10 * steep * hills
    trees = patches(grid, rng, 1.0, 6.0, (1.0, 2.6), 0.6)
    mix(paint, tinted(rng, "maquis"), trees)
    gully = np.abs(noise(grid, rng, 2.0, 9.0))
    name = rng.choice(["pale_soil", "rock", "forest", "tan_soil", "heath"])
    width = float(rng.uniform(1.5, 6.0) * (rng.random() < 0.6))
    mix(paint, tinted(rng, name), inside(width - 150 * gully, grid.gsd_m) * (width > 0))
    return paint


def clearing(grid: Grid, rng: Rng) -> Paint:
    """Forest in which straight blocks were felled or replanted."""
    paint = forest(grid, rng)
    table = palette(rng, ("heath", "grass", "brown_soil", "shrub", "dry_grass"), 1024)
    kind = int(rng.choice([0, 1, 4]))
    felled, ids, edge = mosaic(grid, rng, kind, rng.uniform(2, 5), table)
    shade(felled, 1 + 0.10 * noise(grid, rng, 1.0, 6.0))
    gone = (rng.random(2048) < rng.uniform(0.1, 0.4))[ids & 2047]
    mix(paint, felled, inside(edge - 3, grid.gsd_m) * gone)
    return paint


def bare(grid: Grid, rng: Rng) -> Paint:
    """Bare, quarried or eroded ground, with terraces and dumps."""
    paint = flat(grid, tinted(rng, "sand", "rock", "pale_soil", "red_soil"))
    other = tinted(rng, "gravel", "rock", "dry_grass", "tan_soil")
    mix(paint, other, patches(grid, rng, 1.6, 6.0, (-0.5, 0.8), 0.8))
    hills = relief(grid, rng, rng.uniform(3, 9))
    height = noise(grid, rng, 2.4, 5.0)
    benches = np.sin(height * np.float32(rng.uniform(4, 14)))
    grain = noise(grid, rng, 1.0, 5.0)
    shade(paint, np.maximum(1 + 0.10 * hills + 0.05 * benches + 0.05 * grain, 0.25))
    paint[4:] += hills
    pond = smooth(-height, rng.uniform(1.3, 2.6), 0.05)
    mix(paint, tinted(rng, "teal_water"), pond)
    return paint


def water(grid: Grid, rng: Rng) -> Paint:
    """Lake or sea: flat colour, faint plumes and waves, sometimes shoals or a shore."""
    names = ("deep_water", "deep_water", "teal_water", "silt_water", "river_water")
    paint = flat(grid, tinted(rng, *names, gain=0.22, hue=0.045))
    plume = noise(grid, rng, 3.0, rng.uniform(5, 15))
    shade(paint, 1 + 0.05 * rng.random() ** 2 * plume)
    shade(paint, 1 + 0.006 * noise(grid, rng, 1.0, 5.0))
    wind = rng.normal(0, 1.6)
    paint[4] += wind + 0.8 * plume
    paint[5] += 0.3 * wind
    land = noise(grid, rng, 2.4, rng.uniform(6, 12))
    if rng.random() < 0.35:
        level = rng.uniform(1.2, 2.0)
        mix(paint, material("sand"), smooth(land, level - 0.04, 0.03))
        mix(paint, tinted(rng, "grass", "maquis"), smooth(land, level, 0.03))
    return paint
