"""Tasks with one class a sample: the four of the paper's Table 2, and urban form by radar too."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from geobench.dataset import make_rgb_bands, sentinel1_8_bands

from earth import sensors
from earth.landscape import built, land
from earth.landscape.fields import Grid, noise
from earth.landscape.ground import Paint, Rng, flat, mix, shade, smooth, tinted
from earth.landscape.themes import paint
from earth.tasks import bands, objects
from earth.tasks.chips import Painted, Task
from earth.tasks.covers import Canvas
from earth.triples import places

Draw = Callable[[Task, int, Rng, int, int], Painted]

_EUROSAT = (
    ("Industrial Buildings", "industrial"),
    ("Residential Buildings", "residential"),
    ("Annual Crop", "arable"),
    ("Permanent Crop", "orchard"),
    ("River", "river"),
    ("Sea and Lake", "water"),
    ("Herbaceous Vegetation", "shrub"),
    ("Highway", "motorway"),
    ("Pasture", "pasture"),
    ("Forest", "forest"),
)
_WITHOUT_KILNS = ("arable", "arable", "bare", "orchard", "village", "pasture", "shrub", "forest")


def spot(seed: int, number: int) -> int:
    """A draw of places of its own for sample `number`."""
    return int(np.random.SeedSequence([seed, 37, number]).generate_state(1)[0])


def _of_world(themes: tuple[tuple[str, ...], ...]) -> Draw:
    """Windows of the world that show one of the label's themes; few others show lines too."""

    def draw(task: Task, seed: int, rng: Rng, label: int, number: int) -> Painted:
        theme = str(rng.choice(themes[label]))
        (x, y), *_ = places(seed, theme, 1, salt=spot(seed, number))
        side = 2 * task.side_px
        grid = Grid(x_m=x, y_m=y, gsd_m=task.gsd_m / 2, rows=side, cols=side)
        lines = theme in ("river", "motorway") or rng.random() < 0.15
        return Painted(sensors.average(paint(seed, grid, lines=lines), task.side_px), label)

    return draw


def _of_object(painter: Callable[[Grid, Rng, int], Paint]) -> Draw:
    def draw(task: Task, seed: int, rng: Rng, label: int, number: int) -> Painted:
        return Painted(painter(task.window(), rng, label), label)

    return draw


@dataclass(frozen=True, kw_only=True)
class _Zone:
    """A built local climate zone: ground, metres between buildings, share built, heights."""

    name: str
    ground: str
    cell_m: float
    fill: float
    height_m: float
    green: float
    roofs: tuple[str, ...]


def _zone(name: str, ground: str, *numbers: float | int, roofs: tuple[str, ...]) -> _Zone:
    keys = ("cell_m", "fill", "height_m", "green")
    sizes = dict(zip(keys, map(float, numbers), strict=True))
    return _Zone(name=name, ground=ground, roofs=roofs, **sizes)


_TILES, _FLAT = ("red_roof", "tan_roof", "dark_roof"), ("grey_roof", "white_roof", "dark_roof")
_BUILT = (
    _zone("Compact high rise", "concrete", 45, 0.92, 45, -2.0, roofs=_FLAT),
    _zone("Compact middle rise", "concrete", 30, 0.95, 18, -1.5, roofs=_TILES),
    _zone("Compact low rise", "asphalt", 14, 0.95, 6, -1.5, roofs=_TILES),
    _zone("Open high rise", "grass", 65, 0.55, 45, 0.2, roofs=_FLAT),
    _zone("Open mid rise", "grass", 45, 0.6, 18, 0.2, roofs=_TILES),
    _zone("Open low rise", "yard", 24, 0.6, 6, 0.2, roofs=_TILES),
    _zone("Lightweight low rise", "tan_soil", 8, 0.97, 3, -2.0, roofs=("tan_roof", "grey_roof")),
    _zone("Large low rise", "asphalt", 95, 0.75, 10, -2.0, roofs=("white_roof", "grey_roof")),
    _zone("Sparsely built", "meadow", 60, 0.3, 6, 0.5, roofs=_TILES),
    _zone("Heavy industry", "gravel", 70, 0.65, 25, -2.5, roofs=("dark_roof", "blue_roof")),
)
_OPEN = (
    ("Dense trees", land.forest),
    ("Scattered trees", lambda grid, rng: _scattered(grid, rng)),
    ("Bush, scrub", land.shrub),
    ("Low plants", lambda grid, rng: _plain(grid, rng, ("grass", "meadow", "crop"))),
    ("Bare rock or paved", lambda grid, rng: _plain(grid, rng, ("rock", "asphalt", "concrete"))),
    ("Bare soil or sand", lambda grid, rng: _plain(grid, rng, ("sand", "tan_soil", "red_soil"))),
    ("Water", land.water),
)


def _scattered(grid: Grid, rng: Rng) -> Paint:
    ground = _plain(grid, rng, ("grass", "meadow", "dry_grass"))
    mix(ground, tinted(rng, "forest"), smooth(noise(grid, rng, 0.6, 3.0), 0.6, 0.4))
    return ground


def _plain(grid: Grid, rng: Rng, names: tuple[str, ...]) -> Paint:
    ground = flat(grid, tinted(rng, str(rng.choice(names))))
    shade(ground, 1 + 0.06 * noise(grid, rng, 1.3, 5.0))
    return ground


def _settled(grid: Grid, rng: Rng, zone: _Zone) -> Paint:
    canvas = Canvas(grid, tinted(rng, zone.ground))
    trees = smooth(noise(grid, rng, 1.0, 4.0), 1.2 - zone.green, 0.5)
    canvas.lay(tinted(rng, "forest"), trees)
    lattice = built.Lattice(
        angle=float(rng.uniform(0, np.pi)),
        cell_u=zone.cell_m * float(rng.uniform(0.9, 1.1)),
        cell_v=zone.cell_m * float(rng.uniform(0.8, 1.3)),
        fill=zone.fill,
        height_m=zone.height_m * float(rng.uniform(0.8, 1.2)),
        roofs=zone.roofs,
    )
    keep = built.streets(canvas.paint, grid, rng, lattice, (3, 2)) if zone.fill > 0.5 else None
    built.buildings(canvas.paint, grid, rng, lattice, keep)
    return canvas.paint


def _local_climate(task: Task, seed: int, rng: Rng, label: int, number: int) -> Painted:
    """A climate zone at 5 m, averaged to 10 m; backscatter averages as power."""
    grid = task.window(finer=2)
    if label < len(_BUILT):
        fine = _settled(grid, rng, _BUILT[label])
    else:
        fine = _OPEN[label - len(_BUILT)][1](grid, rng)
    fine[4:] = sensors.backscatter(fine)
    ground = sensors.average(fine, task.side_px)
    ground[4:] = 10 * np.log10(ground[4:])
    return Painted(ground, label)


CHIP_TASKS = (
    Task(
        name="m-pv4ger",
        side_px=320,
        gsd_m=0.1,
        classes=("no solar pv", "solar pv"),
        bands=tuple(make_rgb_bands(0.1)),
        dtype="uint8",
        strength=1.0,
        draw=_of_object(objects.roof),
        bring=bands.rgb,
    ),
    Task(
        name="m-forestnet",
        side_px=332,
        gsd_m=15.0,
        classes=objects.DRIVERS,
        bands=bands.landsat_bands(),
        dtype="uint8",
        strength=1.2,
        draw=_of_object(objects.loss_site),
        bring=bands.landsat,
        dates=(date(2015, 7, 1),),
    ),
    Task(
        name="m-eurosat",
        side_px=64,
        gsd_m=10.0,
        classes=tuple(name for name, _ in _EUROSAT),
        bands=bands.S2_13,
        dtype="int16",
        strength=1.2,
        draw=_of_world(tuple((theme,) for _, theme in _EUROSAT)),
        bring=bands.top_of_atmosphere,
    ),
    Task(
        name="m-brick-kiln",
        side_px=64,
        gsd_m=10.0,
        classes=("not brick kiln", "brick kiln"),
        bands=bands.S2_13,
        dtype="float64",
        strength=1.0,
        draw=_of_world((_WITHOUT_KILNS, ("kiln_field",))),
        bring=bands.surface,
    ),
    Task(
        name="m-so2sat",
        side_px=32,
        gsd_m=10.0,
        classes=(*(zone.name for zone in _BUILT), *(name for name, _ in _OPEN)),
        bands=(*sentinel1_8_bands, *bands.S2_10),
        dtype="float32",
        whole=False,
        strength=1.0,
        draw=_local_climate,
        bring=bands.radar_and_optical,
    ),
)
