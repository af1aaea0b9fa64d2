"""The seven tasks of GEO-Bench that the procedural Earth paints: those of which a page shows rows.

Table 2's four and m-so2sat give an image one class, m-bigearthnet several, and m-cashew-plant one
per pixel.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import numpy as np
from geobench.dataset import SegmentationClasses
from geobench.label import Classification, MultiLabelClassification

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.ground import Paint, Rng
from earth.landscape.lines import ALONG_X, lines_near
from earth.landscape.themes import THEMES, paint, theme_numbers
from earth.tasks import bands, objects, zones
from earth.tasks.chips import Painted, PaintedTask
from earth.triples import places

Themes = Sequence[tuple[str, ...]]
Painter = Callable[[Grid, Rng, int], Paint]
SMALLEST_SHARE = 0.01
_EUROSAT = {
    "Industrial Buildings": "industrial",
    "Residential Buildings": "residential",
    "Annual Crop": "arable",
    "Permanent Crop": "orchard",
    "River": "river",
    "Sea and Lake": "water",
    "Herbaceous Vegetation": "shrub",
    "Highway": "motorway",
    "Pasture": "pasture",
    "Forest": "forest",
}
_WITHOUT_KILNS = ("arable", "arable", "bare", "orchard", "village", "pasture", "shrub", "forest")
# Numbers of the CORINE classes, 43 in BigEarthNet's order, that the themes and lines are seen as.
_CORINE = {
    "arable": 11,  # Non-irrigated arable land
    "forest": 24,  # Mixed forest
    "shrub": 26,  # Moors and heathland
    "pasture": 17,  # Pastures
    "orchard": 15,  # Fruit trees and berry plantations
    "residential": 1,  # Discontinuous urban fabric
    "industrial": 2,  # Industrial or commercial units
    "water": 39,  # Water bodies
    "bare": 30,  # Bare rock
    "clearing": 28,  # Transitional woodland/shrub
    "village": 19,  # Complex cultivation patterns
    "solar_farm": 8,  # Construction sites
    "kiln_field": 6,  # Mineral extraction sites
    "river": 38,  # Water courses
    "motorway": 3,  # Road and rail networks and associated land
}
_CASHEW = {
    "well-managed plantation": ("orchard",),
    "poorly-managed plantation": ("clearing", "shrub"),
    "non-plantation": ("forest", "pasture"),
    "residential": ("residential", "village", "industrial"),
    "background": ("arable", "water"),
    "uncertain": ("bare", "solar_farm", "kiln_field"),
}


def _window(
    task: PaintedTask, seed: int, theme: str, number: int, *, finer: int = 1, side_m: float
) -> Grid:
    """A window of the world that shows a theme near its middle; places differ by sample."""
    salt = int(np.random.SeedSequence([seed, 37, number]).generate_state(1)[0])
    (x, y), *_ = places(seed, theme, 1, side_m=side_m, salt=salt)
    return replace(task.window(finer), x_m=x, y_m=y)


def _of_world(
    task: PaintedTask, seed: int, rng: Rng, label: int, number: int, *, themes: Themes
) -> Painted:
    """A window of the world that shows one of the label's themes; few others show lines too."""
    theme = rng.choice(themes[label])
    grid = _window(task, seed, theme, number, finer=2, side_m=640.0)
    lines = theme in ("river", "motorway") or rng.random() < 0.15
    return Painted(sensors.average(paint(seed, grid, lines=lines), task.side_px), label)


def _of_object(
    task: PaintedTask, seed: int, rng: Rng, label: int, number: int, *, painter: Painter
) -> Painted:
    return Painted(painter(task.window(), rng, label), label)


def _labels_in(task: PaintedTask, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A window of the world and which of its themes and lines are in it."""
    side_m = task.side_px * task.gsd_m
    grid = _window(task, seed, tuple(_CORINE)[stratum], number, side_m=side_m)
    numbers = theme_numbers(seed, grid)
    shares = np.bincount(numbers.ravel(), minlength=len(THEMES)) / numbers.size
    shown = {theme for theme, share in zip(THEMES, shares, strict=True) if share > SMALLEST_SHARE}
    shown |= _lines_in(seed, grid, numbers != THEMES.index("water"))
    truth = np.zeros(task.label.n_classes, np.int64)
    truth[[_CORINE[name] for name in shown]] = 1
    return Painted(paint(seed, grid), truth)


def _lines_in(seed: int, grid: Grid, dry: np.ndarray) -> set[str]:
    """Rivers and motorways whose middle runs over land through a tenth of the window."""
    names = set()
    for line in lines_near(seed, grid):
        view, land = (grid, dry) if line.axis == ALONG_X else (grid.swapped, dry.T)
        at = np.floor((line.across(view.east)[0] - view.y_m) / grid.gsd_m).astype(int)
        inside = np.flatnonzero((at >= 0) & (at < len(land)))
        if land[at[inside], inside].sum() >= 0.1 * view.cols:
            names.add(line.kind.name)
    return names & _CORINE.keys()


def _plantations(task: PaintedTask, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A window of the world without lines; its themes are the classes after "no data".

    In one of six a corner lies beyond the edge of the scene and has no data.
    """
    side_m = task.side_px * task.gsd_m
    grid = _window(task, seed, tuple(_CASHEW.values())[stratum][0], number, side_m=side_m)
    class_of = {theme: n for n, group in enumerate(_CASHEW.values(), 1) for theme in group}
    table = np.array([class_of[theme] for theme in THEMES])
    ground, truth = paint(seed, grid, lines=False), table[theme_numbers(seed, grid)]
    luck, angle, share = rng.random(), rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.42)
    if luck > 1 / 6:
        return Painted(ground, truth)
    along, _ = grid.shifted(grid.x_m + side_m / 2, grid.y_m + side_m / 2).turned(angle)
    unseen = along > np.float32(share * side_m)
    return Painted(ground, np.where(unseen, 0, truth), unseen)


_TASKS = (
    PaintedTask(
        name="m-pv4ger",
        label=Classification(2, ["no solar pv", "solar pv"]),
        side_px=320,
        gsd_m=0.1,
        bands=bands.AERIAL,
        draw=partial(_of_object, painter=objects.roof),
    ),
    PaintedTask(
        name="m-forestnet",
        label=Classification(len(objects.DRIVERS), list(objects.DRIVERS)),
        side_px=332,
        gsd_m=15.0,
        bands=bands.LANDSAT,
        draw=partial(_of_object, painter=objects.loss_site),
        strength=1.2,
        dates=(date(2015, 7, 1),),
    ),
    PaintedTask(
        name="m-eurosat",
        label=Classification(len(_EUROSAT), list(_EUROSAT)),
        side_px=64,
        gsd_m=10.0,
        bands=bands.EUROSAT,
        draw=partial(_of_world, themes=[(theme,) for theme in _EUROSAT.values()]),
        strength=1.2,
    ),
    PaintedTask(
        name="m-brick-kiln",
        label=Classification(2, ["not brick kiln", "brick kiln"]),
        side_px=64,
        gsd_m=10.0,
        bands=bands.SURFACE_13,
        draw=partial(_of_world, themes=(_WITHOUT_KILNS, ("kiln_field",))),
    ),
    PaintedTask(
        name="m-so2sat",
        label=Classification(len(zones.ZONES), list(zones.ZONES)),
        side_px=32,
        gsd_m=10.0,
        bands=bands.SO2SAT,
        draw=zones.draw_zone,
    ),
    PaintedTask(
        name="m-bigearthnet",
        label=MultiLabelClassification(43),
        side_px=120,
        gsd_m=10.0,
        bands=bands.SURFACE_12,
        draw=_labels_in,
        strata=len(_CORINE),
    ),
    PaintedTask(
        name="m-cashew-plant",
        label=SegmentationClasses("label", 0.5, 1 + len(_CASHEW)),
        side_px=256,
        gsd_m=10.0,
        bands=bands.SURFACE_AND_CLOUDS,
        draw=_plantations,
        strata=len(_CASHEW),
        dates=tuple(date(2019, 11, 15) + timedelta(days=5 * step) for step in range(20)),
    ),
)
PAINTED_TASKS = {task.name: task for task in _TASKS}
