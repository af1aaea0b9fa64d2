"""The seven tasks of GEO-Bench that the procedural Earth paints: those of which a page shows rows.

Table 2's four and m-so2sat give an image one class, m-bigearthnet several, and m-cashew-plant one
per pixel.
"""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
from geobench.dataset import CloudProbability, make_rgb_bands, sentinel1_8_bands

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.ground import Paint, Rng
from earth.landscape.lines import ALONG_X, ALONG_Y, KINDS, lines_near
from earth.landscape.themes import THEMES, paint, theme_numbers
from earth.tasks import bands, objects, zones
from earth.tasks.chips import Painted, PaintedTask
from earth.triples import places

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
_CORINE = (
    *("Continuous urban fabric", "Discontinuous urban fabric", "Industrial or commercial units"),
    *("Road and rail networks and associated land", "Port areas", "Airports"),
    *("Mineral extraction sites", "Dump sites", "Construction sites", "Green urban areas"),
    *("Sport and leisure facilities", "Non-irrigated arable land", "Permanently irrigated land"),
    *("Rice fields", "Vineyards", "Fruit trees and berry plantations", "Olive groves", "Pastures"),
    *("Annual crops associated with permanent crops", "Complex cultivation patterns"),
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    *("Agro-forestry areas", "Broad-leaved forest", "Coniferous forest", "Mixed forest"),
    *("Natural grassland", "Moors and heathland", "Sclerophyllous vegetation"),
    *("Transitional woodland/shrub", "Beaches, dunes, sands", "Bare rock"),
    *("Sparsely vegetated areas", "Burnt areas", "Inland marshes", "Peatbogs", "Salt marshes"),
    *("Salines", "Intertidal flats", "Water courses", "Water bodies", "Coastal lagoons"),
    *("Estuaries", "Sea and ocean"),
)
_SEEN_AS = {
    "arable": "Non-irrigated arable land",
    "forest": "Mixed forest",
    "shrub": "Moors and heathland",
    "pasture": "Pastures",
    "orchard": "Fruit trees and berry plantations",
    "residential": "Discontinuous urban fabric",
    "industrial": "Industrial or commercial units",
    "water": "Water bodies",
    "bare": "Bare rock",
    "clearing": "Transitional woodland/shrub",
    "village": "Complex cultivation patterns",
    "solar_farm": "Construction sites",
    "kiln_field": "Mineral extraction sites",
    "river": "Water courses",
    "motorway": "Road and rail networks and associated land",
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
    side = task.side_px * finer
    return Grid(x_m=x, y_m=y, gsd_m=task.gsd_m / finer, rows=side, cols=side)


def _of_world(*themes: tuple[str, ...]):
    """Windows of the world that show one of the label's themes; few others show lines too."""

    def draw(task: PaintedTask, seed: int, rng: Rng, label: int, number: int) -> Painted:
        theme = rng.choice(themes[label])
        grid = _window(task, seed, theme, number, finer=2, side_m=640.0)
        lines = theme in ("river", "motorway") or rng.random() < 0.15
        return Painted(sensors.average(paint(seed, grid, lines=lines), task.side_px), label)

    return draw


def _of_object(painter: Callable[[Grid, Rng, int], Paint]):
    def draw(task: PaintedTask, seed: int, rng: Rng, label: int, number: int) -> Painted:
        return Painted(painter(task.window(), rng, label), label)

    return draw


def _labels_in(task: PaintedTask, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A window of the world and which of its themes and lines are in it."""
    side_m = task.side_px * task.gsd_m
    grid = _window(task, seed, tuple(_SEEN_AS)[stratum], number, side_m=side_m)
    numbers = theme_numbers(seed, grid)
    shares = np.bincount(numbers.ravel(), minlength=len(THEMES)) / numbers.size
    shown = {theme for theme, share in zip(THEMES, shares, strict=True) if share > SMALLEST_SHARE}
    shown |= _lines_in(seed, grid, numbers != THEMES.index("water"))
    present = {_SEEN_AS[name] for name in shown}
    truth = np.array([name in present for name in _CORINE], np.int64)
    return Painted(paint(seed, grid), truth)


def _lines_in(seed: int, grid: Grid, dry: np.ndarray) -> set[str]:
    """Rivers and motorways whose middle runs over land through a tenth of the window."""
    names = set()
    for kind in KINDS:
        for axis in (ALONG_X, ALONG_Y):
            for line in lines_near(seed, grid, kind, axis):
                along, low = (grid.east, grid.y_m) if axis == ALONG_X else (grid.south, grid.x_m)
                at = np.floor((line.across(along)[0] - low) / grid.gsd_m).astype(int)
                land = dry if axis == ALONG_X else dry.T
                inside = np.flatnonzero((at >= 0) & (at < len(land)))
                if land[at[inside], inside].sum() >= 0.1 * len(along):
                    names.add(kind.name)
    return names & _SEEN_AS.keys()


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


PAINTED_TASKS = {
    task.name: task
    for task in (
        PaintedTask(
            name="m-pv4ger",
            side_px=320,
            gsd_m=0.1,
            classes=("no solar pv", "solar pv"),
            bands=tuple(make_rgb_bands(0.1)),
            dtype="uint8",
            draw=_of_object(objects.roof),
            to_bands=bands.rgb,
        ),
        PaintedTask(
            name="m-forestnet",
            side_px=332,
            gsd_m=15.0,
            classes=objects.DRIVERS,
            bands=bands.LANDSAT_6,
            dtype="uint8",
            strength=1.2,
            draw=_of_object(objects.loss_site),
            to_bands=bands.landsat,
            dates=(date(2015, 7, 1),),
        ),
        PaintedTask(
            name="m-eurosat",
            side_px=64,
            gsd_m=10.0,
            classes=tuple(_EUROSAT),
            bands=bands.S2_13,
            dtype="int16",
            strength=1.2,
            draw=_of_world(*((theme,) for theme in _EUROSAT.values())),
            to_bands=bands.top_of_atmosphere,
        ),
        PaintedTask(
            name="m-brick-kiln",
            side_px=64,
            gsd_m=10.0,
            classes=("not brick kiln", "brick kiln"),
            bands=bands.S2_13,
            dtype="float64",
            draw=_of_world(_WITHOUT_KILNS, ("kiln_field",)),
            to_bands=bands.surface_13,
        ),
        PaintedTask(
            name="m-so2sat",
            side_px=32,
            gsd_m=10.0,
            classes=zones.ZONES,
            bands=(*sentinel1_8_bands, *bands.S2_10),
            dtype="float32",
            whole=False,
            draw=zones.draw_zone,
            to_bands=bands.radar_and_optical,
        ),
        PaintedTask(
            name="m-bigearthnet",
            kind="multilabel",
            side_px=120,
            gsd_m=10.0,
            classes=_CORINE,
            bands=bands.S2_12,
            dtype="float32",
            strata=len(_SEEN_AS),
            draw=_labels_in,
            to_bands=bands.surface_12,
        ),
        PaintedTask(
            name="m-cashew-plant",
            kind="segmentation",
            side_px=256,
            gsd_m=10.0,
            stated_gsd_m=0.5,
            classes=("no data", *_CASHEW),
            named=False,
            bands=(*bands.S2_12, CloudProbability(("CPL", "CLD"), 10)),
            dtype="float32",
            strata=len(_CASHEW),
            draw=_plantations,
            to_bands=bands.surface_and_clouds,
            dates=tuple(date(2019, 11, 15) + timedelta(days=5 * step) for step in range(20)),
        ),
    )
}
