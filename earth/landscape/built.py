"""Built ground, all with physical sizes: streets, houses and halls, villages, panels and kilns."""

import numpy as np

from earth.landscape import land
from earth.landscape.fields import Coverage, Grid, Lay, parcels, sample
from earth.landscape.ground import Brush, Paint, fold, material, mix, shade, smooth, tinted

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
Cell = tuple[float, float]  # sides in metres of a lattice's cells


def cells(grid: Grid, angle: float, cell: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Metres from the middle of a turned lattice's cell along two axes, and its number, 0..4095."""
    along, across = grid.turned(angle)
    i = np.floor(along * np.float32(1 / cell[0]))
    j = np.floor(across * np.float32(1 / cell[1]))
    along -= (i + np.float32(0.5)) * np.float32(cell[0])
    across -= (j + np.float32(0.5)) * np.float32(cell[1])
    number = ((i.astype(np.int32) & 63) << 6) | (j.astype(np.int32) & 63)
    return along, across, number


def buildings(
    paint: Paint,
    brush: Brush,
    angle: float,
    cell: Cell,
    *,
    fill: float,
    height_m: float,
    roofs: tuple[str, ...],
    sizes: tuple[float, float] = (0.45, 0.85),
    keep: Coverage | None = None,
) -> None:
    """Shadows, then roofs lit from one side: a building per cell of a turned lattice.

    Args:
        fill: share of cells built.
        roofs: names of roof materials.
        sizes: least and largest side of a building, as a share of its cell's.
        keep: removes buildings where it is 0.
    """
    side = 0.5 * np.array(cell)[:, None]
    half = side * brush.uniform(*sizes, (2, 4096))
    off = (brush.uniform(-0.8, 0.8, (2, 4096)) * (side - half)).astype(np.float32)
    half = half.astype(np.float32)
    half[0, brush.random(4096) > fill] = -1e4
    table = brush.palette(*roofs, gain=0.16, hue=0.03, count=4096)
    table[4] += 8 * np.cos(2 * (angle - _RADAR_LOOK)) ** 4 - 1

    def footprint(u: Coverage, v: Coverage, number: np.ndarray) -> Coverage:
        return brush.box(u - off[0][number], v - off[1][number], half[:, number])

    along, across, number = cells(brush.grid, angle, cell)
    body = footprint(along, across, number)
    shadow = footprint(*cells(brush.grid.shifted(*(height_m * np.array(SUN))), angle, cell))
    if keep is not None:
        body *= keep
        shadow *= keep
    mix(paint, material("shade"), 0.75 * shadow * (1 - body))
    ridge = across - off[1][number]
    roof = table[:, number]
    shade(roof, np.float32(1) + np.float32(0.10) * np.clip(ridge / np.float32(2.0), -1, 1))
    mix(paint, roof, body)


def streets(
    paint: Paint, brush: Brush, angle: float, cell: Cell, every: tuple[int, int]
) -> Coverage:
    """Straight streets every few cells of a lattice; returns 1 off the street."""
    width = brush.uniform(6, 11)
    out = np.ones((brush.grid.rows, brush.grid.cols), np.float32)
    for position, side, count in zip(brush.grid.turned(angle), cell, every, strict=True):
        out *= 1 - brush.inside(width / 2 - fold(position, count * side))
    mix(paint, tinted(brush, "asphalt", "asphalt", "concrete"), 1 - out)
    return out


def residential(brush: Brush) -> Paint:
    """Houses in gardens along streets, from a dense centre to a green suburb."""
    paint = brush.flat("yard", "yard", "grass", "concrete", "tan_soil")
    green = brush.noise(1.0, brush.uniform(3, 6))
    amount = brush.uniform(-0.6, 1.4)
    mix(paint, tinted(brush, "forest", "maquis", "grass"), smooth(green, amount, 0.7))
    shade(paint, 1 + 0.06 * brush.noise(0.6, 5.0))
    roofs = _HOUSES[brush.integers(len(_HOUSES))]
    size = brush.around(21.0, 0.3)
    angle, cell = brush.uniform(0, np.pi), (size, size * brush.uniform(0.7, 1.8))
    fill, height_m, largest = brush.uniform((0.55, 5, 0.65), (0.98, 13, 1.0)).tolist()
    every = (int(brush.integers(2, 8)), int(brush.integers(2, 5)))
    keep = streets(paint, brush, angle, cell, every)
    keep *= 1 - _avenues(paint, brush)
    keep *= 1 - smooth(green, max(amount, 0.2) + 0.5, 0.3)
    park = brush.patches(2.0, 8.0, (0.9, 2.6), 0.2)
    how = {"fill": fill, "height_m": height_m, "roofs": roofs, "sizes": (0.4, largest)}
    buildings(paint, brush, angle, cell, **how, keep=keep * (1 - park))
    return mix(paint, tinted(brush, "grass", "forest"), park * 0.9)


def _avenues(paint: Paint, brush: Brush) -> Coverage:
    """Wider streets along the edges of irregular quarters; returns where."""
    kind = int(brush.choice([0, 1, 4]))
    edge = sample(parcels(kind)[1], brush.grid, Lay.draw(brush, brush.uniform(2, 5)))
    road = brush.inside(brush.uniform(1.0, 2.4) * 3 - 3 * edge)
    mix(paint, tinted(brush, "asphalt"), road)
    return road


def industrial(brush: Brush) -> Paint:
    """Halls of 40 to 130 m between yards, car parks and verges."""
    table = brush.palette("asphalt", "concrete", "yard", "grass", "gravel", "asphalt", unity=0.3)
    paint, _, edge = brush.mosaic(int(brush.choice([0, 4])), brush.uniform(1.3, 3), table)
    shade(paint, 1 + 0.08 * brush.noise(0.6, 4.0) + 0.06 * brush.noise(1.3, 5.0))
    road = brush.inside(brush.uniform(4, 8) - edge)
    roofs = _HALLS[brush.integers(len(_HALLS))]
    angle = brush.uniform(0, np.pi)
    for size, fill in (
        (brush.uniform(75, 130), brush.uniform(0.4, 0.85)),
        (brush.uniform(26, 50), 0.3),
    ):
        cell = size, size * brush.uniform(0.5, 1.1)
        how = {"fill": fill, "height_m": brush.uniform(8, 16), "roofs": roofs}
        buildings(paint, brush, angle, cell, **how, sizes=(0.35, 0.92), keep=1 - road)
    shade(paint, 1 + 0.05 * brush.stripes(brush.uniform(10, 26)))
    mix(paint, tinted(brush, "asphalt"), road)
    green = brush.patches(1.3, 5.0, (0.8, 2.2), 0.4)
    return mix(paint, tinted(brush, "grass", "forest"), green)


def village(brush: Brush) -> Paint:
    """Farms and a few houses in fields or meadows."""
    paint = land.arable(brush) if brush.random() < 0.5 else land.pasture(brush)
    angle, cell = brush.uniform(0, np.pi), (brush.uniform(20, 30), brush.uniform(20, 34))
    settled = brush.patches(2.0, 6.0, (0.6, 1.4), 0.05)
    mix(paint, tinted(brush, "yard"), 0.7 * settled)
    roofs = ("red_roof", "dark_roof", "tan_roof", "white_roof")
    buildings(paint, brush, angle, cell, fill=0.7, height_m=6.0, roofs=roofs, keep=settled)
    return paint


def solar_farm(brush: Brush) -> Paint:
    """Rows of panels over some of the parcels of farmland."""
    paint = land.pasture(brush)
    table = brush.palette("grass", "dry_grass", "gravel")
    under, ids, edge = brush.mosaic(int(brush.choice([0, 4])), brush.uniform(2.4, 5), table)
    rows = brush.stripes(brush.uniform(7, 14))
    mix(under, tinted(brush, "panel"), smooth(rows, -0.9, 0.9))
    used = (brush.random(2048) < 0.55)[ids & 2047]
    return mix(paint, under, brush.inside(edge - 6) * used)


def kiln_field(brush: Brush) -> Paint:
    """Farmland or bare ground with brick kilns: ovals around a chimney, in trodden red ground."""
    paint = land.arable(brush) if brush.random() < 0.7 else land.bare(brush)
    side = brush.uniform(320, 520)
    along, across, number = cells(brush.grid, brush.uniform(0, np.pi), (side, side))
    off = brush.uniform(-0.25, 0.25, (2, 4096)).astype(np.float32) * side
    there = (brush.random(4096) < 0.7).astype(np.float32)[number]
    along, across = along - off[0][number], across - off[1][number]
    length, width = brush.uniform(22, 55), brush.uniform(14, 24)
    bend = np.maximum(np.abs(along) - np.float32(length), 0)
    radius = np.hypot(bend, across)
    trodden = smooth(brush.noise(1.3, 5.0) - radius / np.float32(48), -1.5, 0.5) * there
    mix(paint, tinted(brush, "red_soil", "peach_soil", "gravel"), trodden)
    wall = brush.uniform(6, 11)
    mix(paint, tinted(brush, "red_roof"), brush.inside(width + wall - radius) * there)
    ash = tinted(brush, "dark_roof", "brown_soil", "pale_soil")
    mix(paint, ash, brush.inside(width - radius) * there)
    return mix(paint, tinted(brush, "red_soil"), brush.inside(width * 0.4 - radius) * there)
