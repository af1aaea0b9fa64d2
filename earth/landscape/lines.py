"""Rivers, roads and motorways: smooth paths that cross the whole plane in two directions.

A path is `across = base + sum of sines (along)`; the distance to it needs one subtraction a pixel.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from earth.landscape.fields import Grid
from earth.landscape.ground import Mask, Material, Paint, inside, mix, tinted

ALONG_X, ALONG_Y = 0, 1


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A family of paths: metres between neighbours, and amplitude and wavelength of their bends."""

    name: str
    spacing_m: float
    bends: tuple[tuple[float, float], ...]
    reach_m: float


KINDS = (
    Kind(
        name="river",
        spacing_m=6800.0,
        reach_m=170.0,
        bends=((1500.0, 9000.0), (260.0, 2100.0), (90.0, 900.0)),
    ),
    Kind(name="lane", spacing_m=3700.0, reach_m=12.0, bends=((260.0, 3100.0), (50.0, 700.0))),
    Kind(name="road", spacing_m=5300.0, reach_m=30.0, bends=((700.0, 6100.0), (130.0, 1700.0))),
    Kind(
        name="motorway", spacing_m=6900.0, reach_m=330.0, bends=((1500.0, 10100.0), (210.0, 3300.0))
    ),
)


@dataclass(frozen=True, kw_only=True)
class Path:
    """One path with the materials and widths along it."""

    kind: Kind
    axis: int
    base: float
    waves: tuple[tuple[float, float, float], ...]
    half_m: float
    colours: tuple[Material, ...]
    traits: tuple[float, ...]

    def across(self, along: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 n"]:
        """Position across the axis at places along it, and its slope there."""
        place, slope = np.full_like(along, self.base), np.zeros_like(along)
        for amplitude, wave, phase in self.waves:
            turn = along * (2 * np.pi / wave) + phase
            place += amplitude * np.sin(turn)
            slope += amplitude * (2 * np.pi / wave) * np.cos(turn)
        return np.stack([place, slope])


_COLOURS = {
    "river": ("river_water", "sand", "forest"),
    "lane": ("gravel", "pale_soil"),
    "road": ("asphalt", "concrete", "dry_grass"),
    "motorway": ("asphalt", "grass", "concrete"),
}


@lru_cache(maxsize=4096)
def path(seed: int, kind: Kind, axis: int, index: int) -> Path:
    """Path number `index` of a family."""
    rng = np.random.default_rng([seed, 7, KINDS.index(kind), axis, index + 2**31])
    waves = tuple(
        (size * rng.uniform(0.4, 1.25), wave * rng.uniform(0.7, 1.4), rng.uniform(0, 2 * np.pi))
        for size, wave in kind.bends
    )
    low, high = {"river": (9, 80), "lane": (1.5, 3), "road": (3, 6), "motorway": (5, 9)}[kind.name]
    return Path(
        kind=kind,
        axis=axis,
        base=(index + 0.5 + rng.uniform(-0.35, 0.35)) * kind.spacing_m,
        waves=waves,
        half_m=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        colours=tuple(tinted(rng, name, gain=0.16, hue=0.02) for name in _COLOURS[kind.name]),
        traits=tuple(rng.random(6).tolist()),
    )


def paths_near(seed: int, grid: Grid, kind: Kind, axis: int) -> list[Path]:
    """Paths of a family that may touch a window."""
    start, side = ((grid.x_m, grid.cols), (grid.y_m, grid.rows))[axis]
    low, deep = ((grid.y_m, grid.rows), (grid.x_m, grid.cols))[axis]
    high = low + deep * grid.gsd_m
    swing = 1.25 * sum(size for size, _ in kind.bends) + kind.reach_m
    first = int(np.floor((low - swing) / kind.spacing_m - 0.85))
    last = int(np.ceil((high + swing) / kind.spacing_m - 0.15))
    along = np.linspace(start, start + side * grid.gsd_m, 9)
    margin = kind.reach_m + 0.1 * side * grid.gsd_m
    found = []
    for index in range(first, last + 1):
        line = path(seed, kind, axis, index)
        place = line.across(along)[0]
        if place.max() + margin > low and place.min() - margin < high:
            found.append(line)
    return found


def overlay(paint: Paint, grid: Grid, seed: int, dry: Mask) -> None:
    """Paint every path that touches the window; roads stop where `dry` is 0."""
    for kind in KINDS:
        for axis in (ALONG_X, ALONG_Y):
            for line in paths_near(seed, grid, kind, axis):
                _draw(paint, grid, line, dry)


def _draw(paint: Paint, grid: Grid, line: Path, dry: Mask) -> None:
    along, lower = (grid.east, grid.south) if line.axis == ALONG_X else (grid.south, grid.east)
    place, slope = line.across(along)
    squeeze = 1 / np.hypot(1, slope)
    reach = line.kind.reach_m / squeeze.min()
    near = np.flatnonzero((lower > place.min() - reach) & (lower < place.max() + reach))
    if near.size == 0:
        return
    top, bottom = int(near[0]), int(near[-1]) + 1
    view, wet = (paint, dry) if line.axis == ALONG_X else (paint.swapaxes(1, 2), dry.T)
    middle = place.mean()
    offset = (lower[top:bottom, None] - middle).astype(np.float32)
    offset = (offset - (place - middle)[None].astype(np.float32)) * squeeze[None].astype(np.float32)
    strip = view[:, top:bottom]
    _PAINTERS[line.kind.name](strip, offset, along, line, grid.gsd_m, wet[top:bottom])


def _river(
    strip: Paint, offset: Mask, along: np.ndarray, line: Path, gsd_m: float, dry: Mask
) -> None:
    water, bank, wood = line.colours
    turn = along * (2 * np.pi / (700 + 900 * line.traits[0]))
    half = (line.half_m * (1 + 0.25 * np.sin(turn)))[None].astype(np.float32)
    away = np.abs(offset)
    fringe = np.float32(6 + 25 * line.traits[1])
    ragged = (0.5 + 0.5 * np.sin(turn * 7.3) * np.sin(turn * 2.9))[None].astype(np.float32)
    mix(strip, wood, inside(half + fringe * ragged - away, gsd_m) * dry)
    mix(strip, bank, inside(half + np.float32(6 * line.traits[2] ** 2) - away, gsd_m) * dry)
    mix(strip, water, inside(half - away, gsd_m) * dry)


def _lane(
    strip: Paint, offset: Mask, along: np.ndarray, line: Path, gsd_m: float, dry: Mask
) -> None:
    colour = line.colours[int(line.traits[0] < 0.5)]
    mix(strip, colour, inside(line.half_m - np.abs(offset), gsd_m) * dry)


def _road(
    strip: Paint, offset: Mask, along: np.ndarray, line: Path, gsd_m: float, dry: Mask
) -> None:
    away = np.abs(offset)
    colour = line.colours[int(line.traits[0] < 0.4)]
    mix(strip, line.colours[2], inside(line.half_m + 4 * line.traits[1] - away, gsd_m) * dry)
    mix(strip, colour, inside(line.half_m - away, gsd_m) * dry)


def _motorway(
    strip: Paint, offset: Mask, along: np.ndarray, line: Path, gsd_m: float, dry: Mask
) -> None:
    surface, verge, pale = line.colours
    surface = surface if line.traits[0] < 0.6 else pale
    half, median = line.half_m, 1 + 5 * line.traits[1]
    away = np.abs(offset)
    mix(strip, verge, inside(half * 2 + median + 14 * line.traits[2] - away, gsd_m) * dry)
    away -= np.float32(half + median)
    mix(strip, surface, inside(half - np.abs(away), gsd_m) * dry)
    _ramps(strip, offset, along, line, surface, gsd_m, dry)


def _ramps(
    strip: Paint,
    offset: Mask,
    along: np.ndarray,
    line: Path,
    surface: Material,
    gsd_m: float,
    dry: Mask,
) -> None:
    """Loops and a crossing road, at some of the places every 2 km along the motorway."""
    period, ramp = 1500 + 1500 * line.traits[3], 3.5
    number = np.floor(along / period)
    luck = np.modf(np.abs(np.sin(number * 12.9898 + line.traits[4] * 78.233)) * 43758.5453)[0]
    near = (along - (number + 0.5) * period)[None].astype(np.float32)
    there = (luck < 0.55)[None] * dry
    if not there.any():
        return
    radius = np.float32(50 + 70 * line.traits[5])
    lean = np.float32(0.6 * (line.traits[4] - 0.5))
    bridge = inside(6 - np.abs(near - lean * offset), gsd_m)
    bridge *= inside(320 - np.abs(offset), gsd_m * 8.0)
    for side in (-1, 1):
        ring = np.hypot(near + side * radius, offset - side * (radius + 2 * line.half_m + 6))
        mix(strip, surface, inside(ramp - np.abs(ring - radius), gsd_m) * there)
    mix(strip, surface, bridge * there)


_PAINTERS = {"river": _river, "lane": _lane, "road": _road, "motorway": _motorway}
