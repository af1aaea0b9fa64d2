"""What stands in a task's middle: a roof with or without panels, what replaced forest."""

from collections.abc import Callable
from functools import partial

import numpy as np

from earth.landscape import built, land, rural
from earth.landscape.fields import Grid, leaves, noise, stripes
from earth.landscape.ground import (
    Coverage,
    Paint,
    Rng,
    box,
    flat,
    fold,
    inside,
    material,
    mix,
    palette,
    shade,
    smooth,
    tinted,
)

Half = tuple[float, float]


def roof(grid: Grid, rng: Rng, label: int) -> Paint:
    """A house seen from 0.1 m: two slopes, tiles, garden, trees; label 1 has solar panels on it.

    Roofs without panels often carry skylights and all-dark slopes, so that darkness tells little.
    """
    paint = flat(grid, tinted(rng, "grass", "yard", "asphalt", "tan_soil"))
    shade(paint, 1 + 0.10 * noise(grid, rng, 1.0, 0.12) + 0.08 * noise(grid, rng, 1.6, 0.3))
    angle, x, y = rng.uniform(0, np.pi), *rng.uniform(-5, 5, 2)
    along, across = grid.shifted(x, y).turned(angle)
    half = rng.uniform(8, 14), rng.uniform(5, 9)
    shadow = grid.shifted(x + 2.2 * built.SUN[0], y + 2.2 * built.SUN[1]).turned(angle)
    mix(paint, material("shade"), 0.8 * box(*shadow, half, grid.gsd_m))
    names = ["red_roof", "dark_roof", "grey_roof", "tan_roof", "white_roof"]
    top = flat(grid, tinted(rng, *names, gain=0.2))
    lit = np.where(across > 0, 1 + rng.uniform(0, 0.25), 1 - rng.uniform(0, 0.25))
    tiles = np.sin(across * np.float32(2 * np.pi / rng.uniform(0.3, 0.6)))
    fine = 0.05 * tiles + 0.05 * noise(grid, rng, 0.6, 0.1) + 0.05 * noise(grid, rng, 1.6, 0.2)
    shade(top, (lit * (1 + fine)).astype(np.float32))
    mix(paint, top, box(along, across, half, grid.gsd_m))
    on_roof = _panels if label else _skylights
    on_roof(paint, grid, rng, along, across, half)
    rural.crowns(paint, grid, rng, 0.12, rng.uniform(1.6, 3.0))
    return paint


def _panels(
    paint: Paint, grid: Grid, rng: Rng, along: Coverage, across: Coverage, half: Half
) -> None:
    """Rows of modules with pale frames on one slope."""
    wide, high = rng.uniform(0.9, 1.1), rng.uniform(1.4, 1.8)
    rows = max(1, int((half[1] - 0.6) // high))
    rows = int(rng.integers(max(1, rows // 2), rows + 1))
    cols = int(rng.integers(int(0.9 * half[0]), int(1.8 * half[0])))
    x = along - np.float32(rng.uniform(-0.2, 0.2) * half[0])
    y = across - np.float32(0.3 + rows * high / 2)
    edge = np.minimum(fold(x + cols * wide / 2, wide), fold(y + rows * high / 2, high))
    modules = flat(grid, tinted(rng, "panel", gain=0.25))
    frame = tinted(rng, "grey_roof", gain=0.2)
    mix(modules, frame, inside(0.06 - edge, grid.gsd_m) * rng.uniform(0.4, 1))
    mix(paint, modules, box(x, y, (cols * wide / 2, rows * high / 2), grid.gsd_m))


def _skylights(
    paint: Paint, grid: Grid, rng: Rng, along: Coverage, across: Coverage, half: Half
) -> None:
    """Windows and vents, and sometimes one dark patch as large as an array."""
    for _ in range(int(rng.integers(0, 5))):
        u, v = rng.uniform(-0.8, 0.8, 2) * np.array(half)
        light = box(along - np.float32(u), across - np.float32(v), (0.4, 0.6), grid.gsd_m)
        mix(paint, tinted(rng, "panel", "white_roof", "shade"), light)
    if rng.random() < 0.3:
        u, v = rng.uniform(-0.3, 0.3) * half[0], 0.5 * half[1]
        size = rng.uniform(1.5, 0.6 * half[0]), rng.uniform(0.7, 0.45 * half[1])
        dark = box(along - np.float32(u), across - np.float32(v), size, grid.gsd_m)
        patch = flat(grid, tinted(rng, "panel", "dark_roof", gain=0.25))
        shade(patch, 1 + 0.08 * noise(grid, rng, 1.0, 0.1))
        mix(paint, patch, dark)


def loss_site(grid: Grid, rng: Rng, label: int) -> Paint:
    """Forest lost in the middle and what replaced it; ground outside the loss is faded to white."""
    paint = land.forest(grid, rng)
    after = _AFTER[DRIVERS[label]](grid, rng)
    radius = grid.distance()
    size, ragged = rng.uniform(900, 2000), rng.uniform(200, 500)
    within = np.float32(size) - radius + noise(grid, rng, 1.6, 30.0) * np.float32(ragged)
    lost = smooth(within, 0.0, 15.0)
    mix(paint, after, lost)
    white = np.array([250, 250, 250, 0, -10, -16], np.float32)
    mix(paint, white, 0.7 * (1 - smooth(lost, 0.0, 0.2)))
    return paint


def _plantation(
    grid: Grid, rng: Rng, name: str, block_m: float, row_m: float, *, regular: bool = True
) -> Paint:
    table = palette(rng, (name, name, "forest"), 1024, gain=0.07, hue=0.015, unity=0.4)
    kind = int(rng.choice([0, 4])) if regular > rng.random() else 1
    paint, ids, edge = land.mosaic(grid, rng, kind, block_m / 45, table)
    shade(paint, 1 + 0.08 * stripes(grid, rng, row_m, ids))
    mix(paint, tinted(rng, "red_soil"), inside(14.0 - edge, grid.gsd_m))
    shade(paint, 1 + 0.06 * noise(grid, rng, 0.6, 12.0))
    return paint


def _small_farms(grid: Grid, rng: Rng) -> Paint:
    names = ("young_crop", "crop", "tan_soil", "brown_soil", "straw", "forest")
    paint, _, edge = land.mosaic(grid, rng, 2, 3.5, palette(rng, names, 1024, unity=0.2))
    mix(paint, tinted(rng, "forest"), inside(8.0 - edge, grid.gsd_m))
    return paint


def _ponds(grid: Grid, rng: Rng) -> Paint:
    names = ("teal_water", "silt_water", "river_water")
    paint, _, edge = land.mosaic(grid, rng, 0, 5.0, palette(rng, names, 1024))
    mix(paint, tinted(rng, "tan_soil"), inside(22.0 - edge, grid.gsd_m))
    return paint


def _mixed(grid: Grid, rng: Rng) -> Paint:
    paint = land.forest(grid, rng)
    table = palette(rng, ("crop", "shrub", "dark_crop", "tan_soil"), 1024)
    farms, ids, _ = land.mosaic(grid, rng, 1, 4.0, table)
    mix(paint, farms, (rng.random(2048) < 0.5)[ids & 2047].astype(np.float32))
    return paint


def _logging(grid: Grid, rng: Rng) -> Paint:
    paint = land.forest(grid, rng)
    track = np.abs(noise(grid, rng, 2.0, 22.0))
    mix(paint, tinted(rng, "red_soil"), inside(12.0 - 420 * track, grid.gsd_m))
    gaps = smooth(noise(grid, rng, 0.6, 14.0), 1.0, 0.5)
    mix(paint, tinted(rng, "heath"), gaps)
    return paint


def _regrowth(grid: Grid, rng: Rng) -> Paint:
    paint = land.forest(grid, rng)
    young = flat(grid, tinted(rng, "grass"))
    shade(young, 1 + 0.1 * leaves(grid, rng, 0, 6.0))
    mix(paint, young, 0.7 * smooth(noise(grid, rng, 1.6, 18.0), -0.4, 1.2))
    return paint


_AFTER: dict[str, Callable[[Grid, Rng], Paint]] = {
    "Oil palm plantation": partial(_plantation, name="crop", block_m=700.0, row_m=90.0),
    "Timber plantation": partial(_plantation, name="dark_crop", block_m=420.0, row_m=50.0),
    "Other large-scale plantations": partial(
        _plantation, name="young_crop", block_m=1100.0, row_m=140.0
    ),
    "Grassland shrubland": land.shrub,
    "Small-scale agriculture": _small_farms,
    "Small-scale mixed plantation": _mixed,
    "Small-scale oil palm plantation": partial(
        _plantation, name="crop", block_m=220.0, row_m=60.0, regular=False
    ),
    "Mining": land.bare,
    "Fish pond": _ponds,
    "Logging": _logging,
    "Secondary forest": _regrowth,
    "Other": built.residential,
}
DRIVERS = tuple(_AFTER)
