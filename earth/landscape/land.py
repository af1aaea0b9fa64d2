"""Open land: fields, orchards, pasture, forest, shrub, clearings, bare ground and water."""

import numpy as np

from earth.landscape.ground import Brush, Paint, material, mix, shade, smooth, tinted

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


def arable(brush: Brush) -> Paint:
    """Large fields of one or two soils with some crops, drill lines and farm tracks."""
    soils = _SOILS[brush.integers(len(_SOILS))]
    crops = tuple(brush.choice(_CROPS, 2))[: int(brush.integers(1, 3))]
    kind = int(brush.choice([0, 0, 1, 2, 4]))
    table = brush.palette(*soils, *soils[:2], *crops, gain=0.10, hue=0.022)
    paint, ids, edge = brush.mosaic(kind, brush.around(4.4, 0.35), table)
    rough = brush.noise(1.3, 6.0) * (0.02 + 0.05 * brush.random())
    patchy = brush.noise(2.4, 3.0) * (0.02 + 0.07 * brush.random())
    lines = brush.stripes(brush.uniform(14, 70), ids) * (0.05 * brush.random())
    shade(paint, 1 + rough + patchy + lines)
    _margins(paint, brush, edge)
    _pivot(paint, brush)
    return paint


def _margins(paint: Paint, brush: Brush, edge: np.ndarray) -> None:
    """Tracks, ditches and broken hedges between parcels."""
    name = brush.choice(["gravel", "grass", "forest", "dry_grass", "brown_soil", "pale_soil"])
    width = brush.uniform(1.5, 6.0)
    broken = brush.patches(1.6, 8.0, (-1.0, 1.0), 0.4)
    mix(paint, tinted(brush, name), brush.inside(width - edge) * broken)


def _pivot(paint: Paint, brush: Brush) -> None:
    """One field under a centre pivot, in some regions."""
    share, x, y, radius = brush.random(), *brush.uniform(-300, 300, 2), brush.uniform(150, 330)
    colour = tinted(brush, *_CROPS)
    if share > 0.12:
        return
    distance = brush.grid.distance(x, y)
    mix(paint, colour, brush.inside(np.float32(radius) - distance))
    ring = 1 + 0.04 * np.sin(distance * np.float32(2 * np.pi / 45))
    shade(paint, np.where(distance < radius, ring, np.float32(1)).astype(np.float32))


def orchard(brush: Brush) -> Paint:
    """Small parcels of permanent crops: planted rows over bare soil, with trees and huts."""
    soils = _SOILS[brush.integers(len(_SOILS))]
    extra = tuple(brush.choice(["shrub", "maquis", "dry_grass", "young_crop", "crop"], 3))
    kind = int(brush.choice([0, 2, 2, 4, 1]))
    table = brush.palette(*soils, *extra, gain=0.10, hue=0.018, unity=0.5)
    paint, ids, edge = brush.mosaic(kind, brush.around(1.5, 0.35), table)
    tree = tinted(brush, "maquis", "forest", "shrub")
    rows = brush.stripes(brush.uniform(6, 13), ids)
    broad = brush.stripes(brush.uniform(16, 34), ids)
    planted = (brush.random(2048) < 0.75)[ids & 2047]
    crowns = brush.leaves(0, 1.6)
    trees = (
        smooth(rows + 0.6 * crowns + 0.25 * broad, 0.2, 1.0) * planted * brush.uniform(0.2, 0.55)
    )
    mix(paint, tree, trees.astype(np.float32))
    lift = brush.noise(1.0, 7.0) * (0.04 + 0.05 * brush.random())
    shade(paint, 1 + lift + (0.03 + 0.04 * brush.random()) * broad * planted)
    _margins(paint, brush, edge)
    return mix(paint, tree, brush.patches(1.3, 6.0, (1.2, 2.2), 0.4))


def pasture(brush: Brush) -> Paint:
    """Meadows that differ little, behind hedges and scattered trees."""
    names = (("grass",), ("meadow",), ("grass", "meadow"), ("grass", "dry_grass"), ("meadow",))
    picked = names[brush.integers(len(names))]
    table = brush.palette(*picked * 2, "crop", gain=0.07, hue=0.015, unity=0.4)
    kind = int(brush.choice([0, 1, 1, 4, 1]))
    paint, _, edge = brush.mosaic(kind, brush.around(3.4, 0.4), table)
    shade(paint, 1 + brush.noise(2.0, 5.0) * (0.02 + 0.06 * brush.random()))
    shade(paint, 1 + brush.noise(1.0, 8.0) * 0.03)
    tree = tinted(brush, "forest", "conifer", "maquis")
    broken = brush.patches(1.3, 8.0, (-1.4, 1.0), 0.5)
    mix(paint, tree, brush.inside(brush.uniform(2, 7) - edge) * broken)
    return mix(paint, tree, brush.patches(1.6, 6.0, (1.5, 2.8), 0.3))


def forest(brush: Brush) -> Paint:
    """Two greens mixed by noise, crowns, hillshade; rides cut through it in places."""
    paint = brush.flat("forest", gain=0.12, hue=0.035)
    other = tinted(brush, "conifer", "forest", gain=0.24, hue=0.03)
    mix(paint, other, brush.patches(brush.choice([1.6, 2.0, 2.4]), 5.0, (-1.0, 0.6), 0.7))
    crowns = brush.leaves(int(brush.integers(2)), 1.1)
    grain = brush.noise(0.6, 5.0)
    hills = brush.relief(brush.uniform(9, 25))
    steep = 0.10 * brush.random() ** 1.5
    shade(paint, np.maximum(1 + 0.12 * crowns + 0.035 * grain + steep * hills, 0.3))
    paint[4:] += 0.8 * steep * 10 * hills
    ride = np.abs(brush.noise(2.4, 12.0))
    if brush.random() < 0.4:
        mix(paint, tinted(brush, "heath"), brush.inside(2.5 - 260 * ride) * 0.7)
    return paint


def shrub(brush: Brush) -> Paint:
    """Herbaceous and shrubby slopes: two covers, hillshade, gullies and paths."""
    first, second = _COVERS[brush.integers(len(_COVERS))]
    paint = brush.flat(first, gain=0.24, hue=0.03)
    cover = brush.noise(float(brush.choice([1.0, 1.3, 1.6, 2.0])), brush.uniform(3, 9))
    other = tinted(brush, second, gain=0.24, hue=0.03)
    mix(paint, other, smooth(cover, brush.uniform(-0.8, 1.2), 1.2))
    hills = brush.relief(brush.uniform(5, 20))
    steep = 0.03 + 0.22 * brush.random() ** 2
    tufts = brush.leaves(0, 1.3)
    grain = brush.noise(1.0, 5.0)
    grained = 0.05 * tufts + (0.02 + 0.05 * brush.random()) * grain
    shade(paint, np.maximum(1 + steep * hills + grained, 0.25))
    paint[4:] += 10 * steep * hills
    trees = brush.patches(1.0, 6.0, (1.0, 2.6), 0.6)
    mix(paint, tinted(brush, "maquis"), trees)
    gully = np.abs(brush.noise(2.0, 9.0))
    name = brush.choice(["pale_soil", "rock", "forest", "tan_soil", "heath"])
    width = float(brush.uniform(1.5, 6.0) * (brush.random() < 0.6))
    return mix(paint, tinted(brush, name), brush.inside(width - 150 * gully) * (width > 0))


def clearing(brush: Brush) -> Paint:
    """Forest in which straight blocks were felled or replanted."""
    paint = forest(brush)
    table = brush.palette("heath", "grass", "brown_soil", "shrub", "dry_grass")
    kind = int(brush.choice([0, 1, 4]))
    felled, ids, edge = brush.mosaic(kind, brush.uniform(2, 5), table)
    shade(felled, 1 + 0.10 * brush.noise(1.0, 6.0))
    gone = (brush.random(2048) < brush.uniform(0.1, 0.4))[ids & 2047]
    return mix(paint, felled, brush.inside(edge - 3) * gone)


def bare(brush: Brush) -> Paint:
    """Bare, quarried or eroded ground, with terraces and dumps."""
    paint = brush.flat("sand", "rock", "pale_soil", "red_soil")
    other = tinted(brush, "gravel", "rock", "dry_grass", "tan_soil")
    mix(paint, other, brush.patches(1.6, 6.0, (-0.5, 0.8), 0.8))
    hills = brush.relief(brush.uniform(3, 9))
    height = brush.noise(2.4, 5.0)
    benches = np.sin(height * np.float32(brush.uniform(4, 14)))
    grain = brush.noise(1.0, 5.0)
    shade(paint, np.maximum(1 + 0.10 * hills + 0.05 * benches + 0.05 * grain, 0.25))
    paint[4:] += hills
    pond = smooth(-height, brush.uniform(1.3, 2.6), 0.05)
    return mix(paint, tinted(brush, "teal_water"), pond)


def water(brush: Brush) -> Paint:
    """Lake or sea: flat colour, faint plumes and waves, sometimes shoals or a shore."""
    names = ("deep_water", "deep_water", "teal_water", "silt_water", "river_water")
    paint = brush.flat(*names, gain=0.22, hue=0.045)
    plume = brush.noise(3.0, brush.uniform(5, 15))
    shade(paint, 1 + 0.05 * brush.random() ** 2 * plume)
    shade(paint, 1 + 0.006 * brush.noise(1.0, 5.0))
    wind = brush.normal(0, 1.6)
    paint[4] += wind + 0.8 * plume
    paint[5] += 0.3 * wind
    land = brush.noise(2.4, brush.uniform(6, 12))
    if brush.random() < 0.35:
        level = brush.uniform(1.2, 2.0)
        mix(paint, material("sand"), smooth(land, level - 0.04, 0.03))
        mix(paint, tinted(brush, "grass", "maquis"), smooth(land, level, 0.03))
    return paint
