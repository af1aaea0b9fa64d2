"""Ground painted in layers whose class is known at every pixel: trees, cattle, covers, crops."""

import numpy as np

from earth.landscape.built import SUN, Lattice, cells
from earth.landscape.fields import Grid, Lay, leaves_pyramid, noise, parcel_numbers, sample
from earth.landscape.ground import (
    Mask,
    Material,
    Rng,
    flat,
    inside,
    material,
    mix,
    shade,
    smooth,
    tinted,
)
from earth.landscape.land import stripes
from earth.tasks.chips import Painted


class Canvas:
    """A window painted in layers, and the class of the topmost one at each pixel.

    Args:
        colour: what lies lowest.
        cover: its class.
    """

    def __init__(self, grid: Grid, colour: Material, cover: int = 0) -> None:
        """Start with bare ground."""
        self.paint = flat(grid, colour)
        self.cover = np.full((grid.rows, grid.cols), cover, np.int64)

    def lay(
        self,
        layer: np.ndarray,
        mask: Mask,
        cover: int | None = None,
        box: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Lay a material or a window where `mask` is 1; without a class that below stays.

        Args:
            box: rows and columns that layer and mask stand for.
        """
        mix(self.paint[:, box[0], box[1]], layer, mask)
        if cover is not None:
            self.cover[box][mask > 0.5] = cover


def _around(grid: Grid, x_m: float, y_m: float, reach_m: float) -> tuple[slice, slice]:
    """Rows and columns of a window that lie within `reach_m` of a place; maybe none."""
    sides = []
    for middle, start, count in ((y_m, grid.y_m, grid.rows), (x_m, grid.x_m, grid.cols)):
        low = int(np.clip((middle - reach_m - start) // grid.gsd_m, 0, count))
        high = int(np.clip((middle + reach_m - start) // grid.gsd_m + 1, 0, count))
        sides.append(slice(low, high))
    return sides[0], sides[1]


def trees(grid: Grid, rng: Rng) -> Painted:
    """Trees (class 1) over grass and low shrubs seen from 0.1 m, and how high they stand."""
    names = ["dry_grass", "grass", "tan_soil", "heath"]
    canvas = Canvas(grid, tinted(rng, str(rng.choice(names))))
    shade(canvas.paint, 1 + 0.12 * noise(grid, rng, 1.0, 0.1) + 0.08 * noise(grid, rng, 1.6, 0.4))
    canvas.lay(tinted(rng, "shrub"), smooth(noise(grid, rng, 1.3, 0.3), rng.uniform(0.8, 2), 0.3))
    height = np.full((grid.rows, grid.cols), 0.1, np.float32)
    leaves = sample(leaves_pyramid(1), grid, Lay.draw(rng, 0.09))
    ragged = noise(grid, rng, 1.6, 0.1)
    half = grid.rows * grid.gsd_m / 2
    kind = str(rng.choice(["forest", "conifer", "maquis"]))
    for _ in range(int(rng.integers(4, 28))):
        x, y = rng.uniform(-half, half, 2)
        radius = float(rng.uniform(1.2, 3.8))
        tall = radius * float(rng.uniform(1.5, 3.0))
        colour = tinted(rng, kind, gain=0.2)
        _shadow(canvas, grid, x + 0.4 * tall * SUN[0], y + 0.4 * tall * SUN[1], (radius, radius))
        box = _around(grid, x, y, 1.4 * radius)
        u, v = grid.xs[box[1]][None] - np.float32(x), grid.ys[box[0]][:, None] - np.float32(y)
        away = np.hypot(u, v) + np.float32(0.1 * radius) * ragged[box]
        lit = 1 + 0.3 * leaves[box] - 0.25 * (SUN[0] * u + SUN[1] * v) / np.float32(radius)
        crown = np.broadcast_to(colour[:, None, None], (6, *away.shape)).copy()
        shade(crown, np.maximum(lit, 0.25).astype(np.float32))
        canvas.lay(crown, inside(radius - away, grid.gsd_m), 1, box)
        dome = np.float32(tall) * np.sqrt(np.maximum(1 - (away / np.float32(radius)) ** 2, 0))
        np.maximum(height[box], dome.astype(np.float32), out=height[box])
    return Painted(canvas.paint, canvas.cover, height_m=height)


def cattle(grid: Grid, rng: Rng) -> Painted:
    """Cattle (class 1) on a pasture seen from 0.1 m, among stones and tufts of the same sizes."""
    canvas = Canvas(grid, tinted(rng, str(rng.choice(["grass", "meadow", "dry_grass"]))))
    shade(canvas.paint, 1 + 0.10 * noise(grid, rng, 1.0, 0.1) + 0.08 * noise(grid, rng, 2.0, 0.5))
    tufts = smooth(noise(grid, rng, 1.0, 0.25), float(rng.uniform(1.6, 2.6)), 0.4)
    canvas.lay(tinted(rng, "maquis"), tufts)
    half = grid.rows * grid.gsd_m / 2
    for _ in range(int(rng.integers(0, 9))):
        size = float(rng.uniform(0.2, 0.7))
        stone = tinted(rng, str(rng.choice(["rock", "concrete", "brown_soil"])))
        _body(canvas, grid, rng, rng.uniform(-half, half, 2), (size, size), stone, None)
    herd = rng.uniform(-half, half, 2)
    for _ in range(int(rng.integers(3, 30))):
        place = herd + rng.normal(0, half / 2, 2)
        hide = tinted(rng, str(rng.choice(["shade", "white_roof", "red_soil", "shade"])), gain=0.3)
        size = float(rng.uniform(0.95, 1.3)), float(rng.uniform(0.35, 0.5))
        _body(canvas, grid, rng, place, size, hide, 1)
    return Painted(canvas.paint, canvas.cover)


def _shadow(canvas: Canvas, grid: Grid, x: float, y: float, half: tuple[float, float]) -> None:
    """A round shadow; what it falls on keeps its class."""
    box = _around(grid, x, y, 1.2 * max(half))
    away = np.hypot(grid.xs[box[1]][None] - x, grid.ys[box[0]][:, None] - y)
    canvas.lay(material("shade"), 0.6 * inside(max(half) - away, grid.gsd_m), None, box)


def _body(
    canvas: Canvas,
    grid: Grid,
    rng: Rng,
    place: np.ndarray,
    half: tuple[float, float],
    colour: Material,
    cover: int | None,
) -> None:
    """An ellipse with a shadow beside it; `half` are its half axes in metres."""
    angle = float(rng.uniform(0, np.pi))
    for shift, look, number in ((0.35, None, None), (0.0, colour, cover)):
        x, y = place[0] + shift * SUN[0], place[1] + shift * SUN[1]
        box = _around(grid, x, y, 1.2 * half[0])
        u, v = grid.xs[box[1]][None] - np.float32(x), grid.ys[box[0]][:, None] - np.float32(y)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        away = np.hypot((cos * u + sin * v) / half[0], (cos * v - sin * u) / half[1])
        mask = inside((1 - away) * half[1], grid.gsd_m)
        if look is None:
            canvas.lay(material("shade"), 0.6 * mask, None, box)
        else:
            canvas.lay(look, mask, number, box)


WATER, TREES, LOW, BARREN, BUILT, ROADS, NOTHING = range(7)


def land_cover(grid: Grid, rng: Rng) -> Painted:
    """Six covers seen from 1 m, in the order of m-chesapeake; in some a corner without data."""
    low = str(rng.choice(["grass", "meadow", "crop", "dry_grass"]))
    canvas = Canvas(grid, tinted(rng, low), LOW)
    shade(canvas.paint, 1 + 0.06 * noise(grid, rng, 1.0, 1.0) + 0.05 * noise(grid, rng, 2.0, 3.0))
    bare = smooth(noise(grid, rng, 2.0, 3.0), float(rng.uniform(0.6, 1.6)), 0.05)
    canvas.lay(tinted(rng, str(rng.choice(["sand", "tan_soil", "red_soil"]))), bare, BARREN)
    crowns = flat(grid, tinted(rng, str(rng.choice(["forest", "conifer"]))))
    leaves = sample(leaves_pyramid(1), grid, Lay.draw(rng, 0.7))
    shade(crowns, np.maximum(1 + 0.3 * leaves, 0.2))
    wood = smooth(noise(grid, rng, 1.6, 2.5), float(rng.uniform(-0.4, 0.9)), 0.1)
    canvas.lay(crowns, wood, TREES)
    water = smooth(noise(grid, rng, 2.4, 3.0), float(rng.uniform(0.5, 2.2)), 0.05)
    names = ["river_water", "silt_water", "deep_water"]
    canvas.lay(tinted(rng, str(rng.choice(names))), water, WATER)
    dry = 1 - (water > 0.02).astype(np.float32)
    _town(canvas, grid, rng, dry * smooth(noise(grid, rng, 2.0, 3.0), rng.uniform(-0.5, 1), 0.1))
    for _ in range(int(rng.integers(1, 3))):
        along, across = grid.turned(float(rng.uniform(0, np.pi)))
        bend = 12 * np.sin(along / np.float32(rng.uniform(40, 120)))
        away = np.abs(across + bend - np.float32(rng.uniform(-80, 80)))
        road = inside(float(rng.uniform(3, 6)) - away, grid.gsd_m)
        canvas.lay(tinted(rng, "asphalt", gain=0.1), road, ROADS)
    return cut(Painted(canvas.paint, canvas.cover), grid, rng, NOTHING)


def _town(canvas: Canvas, grid: Grid, rng: Rng, keep: Mask) -> None:
    """Houses and yards of concrete, where `keep` is 1."""
    cell = float(rng.uniform(20, 34))
    angle = float(rng.uniform(0, np.pi))
    lattice = Lattice(angle=angle, cell_u=cell, cell_v=cell, fill=1.0, height_m=6.0, roofs=())
    along, across, number = cells(grid, lattice)
    half = 0.5 * cell * rng.uniform(0.4, 0.8, (2, 4096)).astype(np.float32)
    there = (rng.random(4096) < 0.7).astype(np.float32)
    house = inside(half[0][number] - np.abs(along), grid.gsd_m)
    house *= inside(half[1][number] - np.abs(across), grid.gsd_m) * there[number] * (keep > 0.5)
    roofs = np.stack(
        [tinted(rng, str(rng.choice(["red_roof", "grey_roof", "white_roof"]))) for _ in range(64)]
    )
    canvas.lay(roofs.T[:, number & 63], house, BUILT)


# What grows on each class of m-SA-crop-type; the first is ground that is not farmed.
CROPS = (
    "rock",
    "crop",
    "meadow",
    "brown_soil",
    "maquis",
    "dry_grass",
    "young_crop",
    "straw",
    "canola",
    "heath",
)
_CANOLA = np.array([186, 178, 70, 0.55, -10.5, -16.0], np.float32)


def crops(grid: Grid, rng: Rng) -> Painted:
    """Fields of the nine crops of m-SA-crop-type between ground that is not farmed (class 0)."""
    grown = np.where(rng.random(1024) < 0.35, 0, rng.integers(1, len(CROPS), 1024))
    table = np.stack(
        [
            _CANOLA if CROPS[cover] == "canola" else tinted(rng, CROPS[cover], 0.08)
            for cover in grown
        ],
        axis=1,
    )
    lay = Lay.draw(rng, float(rng.uniform(3, 6)))
    ids = parcel_numbers(int(rng.choice([0, 4])), grid, lay) & 1023
    canvas = Canvas(grid, material("rock"))
    canvas.paint[:] = table[:, ids]
    canvas.cover[:] = grown[ids]
    rough = 0.05 * noise(grid, rng, 1.3, 6.0) + 0.04 * noise(grid, rng, 2.4, 4.0)
    rows = 0.06 * stripes(grid, rng, float(rng.uniform(30, 70)), ids)
    shade(canvas.paint, 1 + rough + rows * (canvas.cover == CROPS.index("maquis")))
    return Painted(canvas.paint, canvas.cover)


def cut(painted: Painted, grid: Grid, rng: Rng, nothing: int) -> Painted:
    """The sample with a corner beyond the edge of the scene, of class `nothing`, in one of six."""
    luck, angle, share = rng.random(), float(rng.uniform(0, 2 * np.pi)), rng.uniform(0.2, 0.42)
    if luck > 1 / 6:
        return painted
    side_m = grid.cols * grid.gsd_m
    along, _ = grid.shifted(grid.x_m + side_m / 2, grid.y_m + side_m / 2).turned(angle)
    unseen = along > np.float32(share * side_m)
    return painted._replace(truth=np.where(unseen, nothing, painted.truth), unseen=unseen)
