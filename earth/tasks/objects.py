"""What tasks paint around a middle: a roof, what replaced a forest, a local climate zone."""

from collections.abc import Callable

import numpy as np

from earth.landscape import built, land
from earth.landscape.fields import Coverage
from earth.landscape.ground import Brush, Paint, fold, material, mix, shade, smooth, tinted

ROOFS = ("no solar pv", "solar pv")
Axes = tuple[Coverage, Coverage]
Half = tuple[float, float]


def roof(brush: Brush, label: int) -> Paint:
    """A house seen from 0.1 m: two slopes, tiles, garden, trees; label 1 has solar panels on it.

    Roofs without panels often carry skylights and all-dark slopes, so that darkness is no clue.
    """
    paint = brush.flat("grass", "yard", "asphalt", "tan_soil")
    shade(paint, 1 + 0.10 * brush.noise(1.0, 0.12) + 0.08 * brush.noise(1.6, 0.3))
    angle, x, y = brush.uniform(0, np.pi), *brush.uniform(-5, 5, 2)
    along, across = brush.grid.shifted(x, y).turned(angle)
    half = brush.uniform(8, 14), brush.uniform(5, 9)
    shadow = brush.grid.shifted(x + 2.2 * built.SUN[0], y + 2.2 * built.SUN[1]).turned(angle)
    mix(paint, material("shade"), 0.8 * brush.box(*shadow, half))
    top = brush.flat("red_roof", "dark_roof", "grey_roof", "tan_roof", "white_roof", gain=0.2)
    lit = np.where(across > 0, 1 + brush.uniform(0, 0.25), 1 - brush.uniform(0, 0.25))
    tiles = np.sin(across * np.float32(2 * np.pi / brush.uniform(0.3, 0.6)))
    fine = 0.05 * tiles + 0.05 * brush.noise(0.6, 0.1) + 0.05 * brush.noise(1.6, 0.2)
    shade(top, (lit * (1 + fine)).astype(np.float32))
    mix(paint, top, brush.box(along, across, half))
    on_roof = _panels if label else _skylights
    on_roof(paint, brush, (along, across), half)
    amount, lit = brush.uniform(1.6, 3.0), brush.leaves(1, 0.12)
    stand = smooth(brush.noise(1.6, 1.2), amount, 0.2)
    tree = brush.flat("forest")
    shade(tree, np.maximum(1 + 0.35 * lit, 0.2))
    return mix(paint, tree, stand)


def _panels(paint: Paint, brush: Brush, axes: Axes, half: Half) -> None:
    """Rows of modules with pale frames on one slope."""
    along, across = axes
    wide, high = brush.uniform(0.9, 1.1), brush.uniform(1.4, 1.8)
    rows = max(1, int((half[1] - 0.6) // high))
    rows = int(brush.integers(max(1, rows // 2), rows + 1))
    cols = int(brush.integers(int(0.9 * half[0]), int(1.8 * half[0])))
    x = along - np.float32(brush.uniform(-0.2, 0.2) * half[0])
    y = across - np.float32(0.3 + rows * high / 2)
    edge = np.minimum(fold(x + cols * wide / 2, wide), fold(y + rows * high / 2, high))
    modules = brush.flat("panel", gain=0.25)
    frame = tinted(brush, "grey_roof", gain=0.2)
    mix(modules, frame, brush.inside(0.06 - edge) * brush.uniform(0.4, 1))
    mix(paint, modules, brush.box(x, y, (cols * wide / 2, rows * high / 2)))


def _skylights(paint: Paint, brush: Brush, axes: Axes, half: Half) -> None:
    """Windows and vents, and sometimes one dark patch as large as an array."""
    along, across = axes
    for _ in range(int(brush.integers(0, 5))):
        u, v = brush.uniform(-0.8, 0.8, 2) * np.array(half)
        light = brush.box(along - np.float32(u), across - np.float32(v), (0.4, 0.6))
        mix(paint, tinted(brush, "panel", "white_roof", "shade"), light)
    if brush.random() < 0.3:
        u, v = brush.uniform(-0.3, 0.3) * half[0], 0.5 * half[1]
        size = brush.uniform(1.5, 0.6 * half[0]), brush.uniform(0.7, 0.45 * half[1])
        dark = brush.box(along - np.float32(u), across - np.float32(v), size)
        patch = brush.flat("panel", "dark_roof", gain=0.25)
        shade(patch, 1 + 0.08 * brush.noise(1.0, 0.1))
        mix(paint, patch, dark)


def loss_site(brush: Brush, label: int) -> Paint:
    """Forest lost in the middle and what replaced it; ground outside the loss is faded to white."""
    paint = land.forest(brush)
    after = _AFTER[DRIVERS[label]](brush)
    radius = brush.grid.distance()
    size, ragged = brush.uniform(900, 2000), brush.uniform(200, 500)
    within = np.float32(size) - radius + brush.noise(1.6, 30.0) * np.float32(ragged)
    lost = smooth(within, 0.0, 15.0)
    mix(paint, after, lost)
    white = np.array([250, 250, 250, 0, -10, -16], np.float32)
    return mix(paint, white, 0.7 * (1 - smooth(lost, 0.0, 0.2)))


def _planted(brush: Brush, name: str, block_m: float, row_m: float, regular: bool = True) -> Paint:
    table = brush.palette(name, name, "forest", gain=0.07, hue=0.015, unity=0.4)
    kind = int(brush.choice([0, 4])) if regular > brush.random() else 1
    paint, ids, edge = brush.mosaic(kind, block_m / 45, table)
    shade(paint, 1 + 0.08 * brush.stripes(row_m, ids))
    mix(paint, tinted(brush, "red_soil"), brush.inside(14.0 - edge))
    return shade(paint, 1 + 0.06 * brush.noise(0.6, 12.0))


def _small_farms(brush: Brush) -> Paint:
    names = ("young_crop", "crop", "tan_soil", "brown_soil", "straw", "forest")
    paint, _, edge = brush.mosaic(2, 3.5, brush.palette(*names, unity=0.2))
    return mix(paint, tinted(brush, "forest"), brush.inside(8.0 - edge))


def _ponds(brush: Brush) -> Paint:
    paint, _, edge = brush.mosaic(0, 5.0, brush.palette("teal_water", "silt_water", "river_water"))
    return mix(paint, tinted(brush, "tan_soil"), brush.inside(22.0 - edge))


def _mixed(brush: Brush) -> Paint:
    paint = land.forest(brush)
    farms, ids, _ = brush.mosaic(1, 4.0, brush.palette("crop", "shrub", "dark_crop", "tan_soil"))
    return mix(paint, farms, (brush.random(2048) < 0.5)[ids & 2047].astype(np.float32))


def _logging(brush: Brush) -> Paint:
    paint = land.forest(brush)
    track = np.abs(brush.noise(2.0, 22.0))
    mix(paint, tinted(brush, "red_soil"), brush.inside(12.0 - 420 * track))
    gaps = smooth(brush.noise(0.6, 14.0), 1.0, 0.5)
    return mix(paint, tinted(brush, "heath"), gaps)


def _regrowth(brush: Brush) -> Paint:
    paint = land.forest(brush)
    young = brush.flat("grass")
    shade(young, 1 + 0.1 * brush.leaves(0, 6.0))
    return mix(paint, young, 0.7 * smooth(brush.noise(1.6, 18.0), -0.4, 1.2))


_AFTER: dict[str, Callable[[Brush], Paint]] = {
    "Oil palm plantation": lambda brush: _planted(brush, "crop", 700.0, 90.0),
    "Timber plantation": lambda brush: _planted(brush, "dark_crop", 420.0, 50.0),
    "Other large-scale plantations": lambda brush: _planted(brush, "young_crop", 1100.0, 140.0),
    "Grassland shrubland": land.shrub,
    "Small-scale agriculture": _small_farms,
    "Small-scale mixed plantation": _mixed,
    "Small-scale oil palm plantation": lambda brush: _planted(brush, "crop", 220.0, 60.0, False),
    "Mining": land.bare,
    "Fish pond": _ponds,
    "Logging": _logging,
    "Secondary forest": _regrowth,
    "Other": built.residential,
}
DRIVERS = tuple(_AFTER)


def zone(brush: Brush, label: int) -> Paint:
    """A local climate zone: one of ten with buildings, or of seven of open ground."""
    name = ZONES[label]
    if name in _OPEN:
        return _OPEN[name](brush)
    ground, side_m, fill, height_m, green, roofs = _SETTLED[name]
    paint = brush.flat(ground)
    trees = smooth(brush.noise(1.0, 4.0), 1.2 - green, 0.5)
    mix(paint, tinted(brush, "forest"), trees)
    angle = brush.uniform(0, np.pi)
    cell = side_m * brush.uniform(0.9, 1.1), side_m * brush.uniform(0.8, 1.3)
    how = {"fill": fill, "height_m": height_m * brush.uniform(0.8, 1.2), "roofs": roofs}
    keep = built.streets(paint, brush, angle, cell, (3, 2)) if fill > 0.5 else None
    built.buildings(paint, brush, angle, cell, **how, keep=keep)
    return paint


_TILES, _FLAT = ("red_roof", "tan_roof", "dark_roof"), ("grey_roof", "white_roof", "dark_roof")
# Ground, metres between buildings, share of cells built, heights in metres, trees, roofs.
_SETTLED = {
    "Compact high rise": ("concrete", 45, 0.92, 45, -2.0, _FLAT),
    "Compact middle rise": ("concrete", 30, 0.95, 18, -1.5, _TILES),
    "Compact low rise": ("asphalt", 14, 0.95, 6, -1.5, _TILES),
    "Open high rise": ("grass", 65, 0.55, 45, 0.2, _FLAT),
    "Open mid rise": ("grass", 45, 0.6, 18, 0.2, _TILES),
    "Open low rise": ("yard", 24, 0.6, 6, 0.2, _TILES),
    "Lightweight low rise": ("tan_soil", 8, 0.97, 3, -2.0, ("tan_roof", "grey_roof")),
    "Large low rise": ("asphalt", 95, 0.75, 10, -2.0, ("white_roof", "grey_roof")),
    "Sparsely built": ("meadow", 60, 0.3, 6, 0.5, _TILES),
    "Heavy industry": ("gravel", 70, 0.65, 25, -2.5, ("dark_roof", "blue_roof")),
}
_OPEN: dict[str, Callable[[Brush], Paint]] = {
    "Dense trees": land.forest,
    "Scattered trees": land.orchard,
    "Bush, scrub": land.shrub,
    "Low plants": land.pasture,
    "Bare rock or paved": land.bare,
    "Bare soil or sand": land.arable,
    "Water": land.water,
}
ZONES = (*_SETTLED, *_OPEN)
