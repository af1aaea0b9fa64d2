"""Rivers, roads and motorways: smooth lines that cross the whole plane in two directions.

A line is `across = base + sum of sines (along)`; its distance needs one subtraction per pixel.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from earth.landscape.fields import Coverage, Grid
from earth.landscape.ground import Material, Paint, inside, mix, tinted

ALONG_X, ALONG_Y = 0, 1


class LineKind(NamedTuple):
    """A family of lines; `bends` are amplitude and wavelength of each sine."""

    name: str
    spacing_m: float  # between neighbours
    reach_m: float  # how far from its middle a line may paint
    half_m: tuple[float, float]  # least and largest half width
    bends: tuple[tuple[float, float], ...]
    materials: tuple[str, ...]


_RIVER_BENDS = ((1500.0, 9000.0), (260.0, 2100.0), (90.0, 900.0))
_LANE_BENDS, _ROAD_BENDS = ((260.0, 3100.0), (50.0, 700.0)), ((700.0, 6100.0), (130.0, 1700.0))
_MOTORWAY_BENDS = ((1500.0, 10100.0), (210.0, 3300.0))
KINDS = (
    LineKind("river", 6800.0, 170.0, (9, 80), _RIVER_BENDS, ("river_water", "sand", "forest")),
    LineKind("lane", 3700.0, 12.0, (1.5, 3), _LANE_BENDS, ("gravel", "pale_soil")),
    LineKind("road", 5300.0, 30.0, (3, 6), _ROAD_BENDS, ("asphalt", "concrete", "dry_grass")),
    LineKind("motorway", 6900.0, 330.0, (5, 9), _MOTORWAY_BENDS, ("asphalt", "grass", "concrete")),
)


class Line(NamedTuple):
    """One line with the materials and widths along it."""

    kind: LineKind
    axis: int
    base: float
    waves: tuple[tuple[float, float, float], ...]
    half_m: float
    colours: tuple[Material, ...]
    traits: tuple[float, ...]

    def across(self, along: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 n"]:
        """Position across the axis, and the slope there, by position along it."""
        position, slope = np.full_like(along, self.base), np.zeros_like(along)
        for amplitude, wave, phase in self.waves:
            turn = along * (2 * np.pi / wave) + phase
            position += amplitude * np.sin(turn)
            slope += amplitude * (2 * np.pi / wave) * np.cos(turn)
        return np.stack([position, slope])


@lru_cache(maxsize=4096)
def line_of(seed: int, kind: LineKind, axis: int, index: int) -> Line:
    """Line number `index` of a family."""
    rng = np.random.default_rng([seed, 7, KINDS.index(kind), axis, index + 2**31])
    waves = tuple(
        (size * rng.uniform(0.4, 1.25), wave * rng.uniform(0.7, 1.4), rng.uniform(0, 2 * np.pi))
        for size, wave in kind.bends
    )
    base = (index + 0.5 + rng.uniform(-0.35, 0.35)) * kind.spacing_m
    half_m = float(np.exp(rng.uniform(*np.log(kind.half_m))))
    colours = tuple(tinted(rng, name, gain=0.16, hue=0.02) for name in kind.materials)
    return Line(kind, axis, base, waves, half_m, colours, tuple(rng.random(6).tolist()))


def overlay(paint: Paint, grid: Grid, seed: int, dry: Coverage) -> None:
    """Paint every line that touches the window; roads stop where `dry` is 0."""
    views = (grid, paint, dry), (grid.swapped, paint.swapaxes(1, 2), dry.T)
    for kind, axis in product(KINDS, (ALONG_X, ALONG_Y)):
        view = views[axis][0]
        length, low, high = view.cols * view.gsd_m, view.y_m, view.y_m + view.rows * view.gsd_m
        swing = 1.25 * sum(size for size, _ in kind.bends) + kind.reach_m
        first = int(np.floor((low - swing) / kind.spacing_m - 0.85))
        last = int(np.ceil((high + swing) / kind.spacing_m - 0.15))
        along, margin = np.linspace(view.x_m, view.x_m + length, 9), kind.reach_m + 0.1 * length
        for index in range(first, last + 1):
            line = line_of(seed, kind, axis, index)
            off = line.across(along)[0]
            if low - margin < off.max() and off.min() < high + margin:
                _draw(line, *views[axis])


def _draw(line: Line, grid: Grid, paint: Paint, dry: Coverage) -> None:
    """Paint a line on a window whose columns run along it, if it touches the window."""
    along, lower = grid.east, grid.south
    position, slope = line.across(along)
    squeeze = 1 / np.hypot(1, slope)
    reach = line.kind.reach_m / squeeze.min()
    near = np.flatnonzero((lower > position.min() - reach) & (lower < position.max() + reach))
    if near.size == 0:
        return
    top, bottom = int(near[0]), int(near[-1]) + 1
    middle = position.mean()
    down, curve = (lower[top:bottom, None] - middle).astype(np.float32), position - middle
    offset = (down - curve.astype(np.float32)) * squeeze.astype(np.float32)
    strip = paint[:, top:bottom]
    _PAINTERS[line.kind.name](_View(strip, dry[top:bottom], grid.gsd_m, line, along, offset))


class _View(NamedTuple):
    """What of a window a line may touch: metres along it by column, off its middle by pixel."""

    strip: Paint
    dry: Coverage
    gsd_m: float
    line: Line
    along: np.ndarray
    offset: Coverage

    def cover(
        self, colour: Material, excess_m: np.ndarray, where: np.ndarray | float = 1.0
    ) -> None:
        """Lay a material on dry pixels that lie inside an edge, by metres inside it."""
        mix(self.strip, colour, inside(excess_m, self.gsd_m) * where * self.dry)


def _river(view: _View) -> None:
    away, (water, bank, wood), traits = np.abs(view.offset), view.line.colours, view.line.traits
    turn = view.along * (2 * np.pi / (700 + 900 * traits[0]))
    half = (view.line.half_m * (1 + 0.25 * np.sin(turn)))[None].astype(np.float32)
    fringe = np.float32(6 + 25 * traits[1])
    ragged = (0.5 + 0.5 * np.sin(turn * 7.3) * np.sin(turn * 2.9))[None].astype(np.float32)
    view.cover(wood, half + fringe * ragged - away)
    view.cover(bank, half + np.float32(6 * traits[2] ** 2) - away)
    view.cover(water, half - away)


def _lane(view: _View) -> None:
    line = view.line
    view.cover(line.colours[int(line.traits[0] < 0.5)], line.half_m - np.abs(view.offset))


def _road(view: _View) -> None:
    line, away = view.line, np.abs(view.offset)
    view.cover(line.colours[2], line.half_m + 4 * line.traits[1] - away)
    view.cover(line.colours[int(line.traits[0] < 0.4)], line.half_m - away)


def _motorway(view: _View) -> None:
    """Two carriageways; loops and a crossing road at some of the positions every 2 km."""
    away, (surface, verge, pale), traits = np.abs(view.offset), view.line.colours, view.line.traits
    surface = surface if traits[0] < 0.6 else pale
    half, median = view.line.half_m, 1 + 5 * traits[1]
    view.cover(verge, half * 2 + median + 14 * traits[2] - away)
    view.cover(surface, half - np.abs(away - np.float32(half + median)))
    period = 1500 + 1500 * traits[3]
    number = np.floor(view.along / period)
    luck = np.modf(np.abs(np.sin(number * 12.9898 + traits[4] * 78.233)) * 43758.5453)[0]
    here = (luck < 0.55)[None] * np.float32(1)
    if not here.any():
        return
    near = (view.along - (number + 0.5) * period)[None].astype(np.float32)
    radius, lean = np.float32(50 + 70 * traits[5]), np.float32(0.6 * (traits[4] - 0.5))
    for side in (-1, 1):
        ring = np.hypot(near + side * radius, view.offset - side * (radius + 2 * half + 6))
        view.cover(surface, 3.5 - np.abs(ring - radius), here)
    end = inside(320 - away, view.gsd_m * 8.0)
    view.cover(surface, 6 - np.abs(near - lean * view.offset), here * end)


_PAINTERS = {"river": _river, "lane": _lane, "road": _road, "motorway": _motorway}
