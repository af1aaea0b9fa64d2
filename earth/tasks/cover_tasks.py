"""Tasks whose label is the ground itself: six of segmentation, and the covers in a window."""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
from geobench.dataset import (
    CloudProbability,
    ElevationBand,
    HyperSpectralBands,
    SpectralBand,
    make_rgb_bands,
)

from earth.landscape.fields import Grid
from earth.landscape.ground import Rng
from earth.landscape.lines import ALONG_X, ALONG_Y, KINDS, paths_near
from earth.landscape.themes import THEMES, paint, theme_numbers
from earth.tasks import bands, covers, objects
from earth.tasks.chip_tasks import spot
from earth.tasks.chips import Painted, Task
from earth.triples import places

SMALLEST_SHARE = 0.01
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
_CROP_NAMES = (
    *("No Data", "Lucerne/Medics", "Planted pastures (perennial)", "Fallow", "Wine grapes"),
    *("Weeds", "Small grain grazing", "Wheat", "Canola", "Rooibos"),
)


def _window_of(task: Task, seed: int, theme: str, number: int, finer: int) -> Grid:
    """A window of the world that shows a theme near its middle."""
    width_m = task.side_px * task.gsd_m
    (x, y), *_ = places(seed, theme, 1, side_m=width_m, salt=spot(seed, number))
    side = task.side_px * finer
    return Grid(x_m=x, y_m=y, gsd_m=task.gsd_m / finer, rows=side, cols=side)


def _labels_in(task: Task, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A window of the world and which of its themes and lines are in it."""
    grid = _window_of(task, seed, tuple(_SEEN_AS)[stratum], number, 1)
    numbers = theme_numbers(seed, grid)
    shares = np.bincount(numbers.ravel(), minlength=len(THEMES)) / numbers.size
    found = {theme for theme, share in zip(THEMES, shares, strict=True) if share > SMALLEST_SHARE}
    found |= _lines_in(seed, grid, numbers != THEMES.index("water"))
    present = {_SEEN_AS[name] for name in found}
    truth = np.array([name in present for name in _CORINE], np.int64)
    return Painted(paint(seed, grid), truth)


def _lines_in(seed: int, grid: Grid, dry: np.ndarray) -> set[str]:
    """Rivers and motorways whose middle runs over land through a tenth of the window."""
    found = set()
    for kind in KINDS:
        for axis in (ALONG_X, ALONG_Y):
            for line in paths_near(seed, grid, kind, axis):
                along, low = (grid.east, grid.y_m) if axis == ALONG_X else (grid.south, grid.x_m)
                at = np.floor((line.across(along)[0] - low) / grid.gsd_m).astype(int)
                land = dry if axis == ALONG_X else dry.T
                inside = np.flatnonzero((at >= 0) & (at < len(land)))
                if land[at[inside], inside].sum() >= 0.1 * len(along):
                    found.add(kind.name)
    return found & _SEEN_AS.keys()


def _plantations(task: Task, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A window of the world without lines; its themes are the classes after "no data"."""
    grid = _window_of(task, seed, tuple(_CASHEW.values())[stratum][0], number, 1)
    class_of = {theme: n for n, group in enumerate(_CASHEW.values(), 1) for theme in group}
    table = np.array([class_of[theme] for theme in THEMES])
    painted = Painted(paint(seed, grid, lines=False), table[theme_numbers(seed, grid)])
    return covers.cut(painted, grid, rng, 0)


def _panels(task: Task, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
    """A roof with solar panels, and one without in one sample of eight."""
    ground, share = objects.roof_and_panels(task.window(), rng, int(rng.random() < 7 / 8))
    return Painted(ground, (share > 0.5).astype(np.int64))


def _scene(painter: Callable[[Grid, Rng], Painted]):
    def draw(task: Task, seed: int, rng: Rng, stratum: int, number: int) -> Painted:
        return painter(task.window(), rng)

    return draw


_CLOUD_FREE = tuple(date(2019, 11, 15) + timedelta(days=5 * step) for step in range(20))
_CHM = ElevationBand("Canopy Height Model", alt_names=("lidar", "CHM"), spatial_resolution=0.1)
_NEON = HyperSpectralBands("Neon", n_bands=bands.HYPERSPECTRAL, spatial_resolution=1)

COVER_TASKS = (
    Task(
        name="m-bigearthnet",
        kind="multilabel",
        side_px=120,
        gsd_m=10.0,
        classes=_CORINE,
        bands=bands.S2_12,
        dtype="float32",
        strength=1.0,
        strata=len(_SEEN_AS),
        draw=_labels_in,
        bring=bands.surface_12,
    ),
    Task(
        name="m-pv4ger-seg",
        kind="segmentation",
        side_px=320,
        gsd_m=0.1,
        classes=("no solar pv", "solar pv"),
        bands=tuple(make_rgb_bands(0.1)),
        dtype="uint8",
        strength=1.0,
        strata=1,
        draw=_panels,
        bring=bands.rgb,
    ),
    Task(
        name="m-chesapeake",
        kind="segmentation",
        side_px=256,
        gsd_m=1.0,
        classes=(
            *("water", "tree-canopy-forest", "low-vegetation-field", "barren-land"),
            *("impervious-other", "impervious-roads", "no-data"),
        ),
        named=False,
        bands=(*make_rgb_bands(1), SpectralBand("NearInfrared", ("nir",), 1, 0.876)),
        dtype="float32",
        strength=1.0,
        strata=1,
        draw=_scene(covers.land_cover),
        bring=bands.rgb_and_infrared,
        label_dtype="int64",
    ),
    Task(
        name="m-cashew-plant",
        kind="segmentation",
        side_px=256,
        gsd_m=10.0,
        stated_gsd_m=0.5,
        classes=("no data", *_CASHEW),
        named=False,
        bands=(*bands.S2_12, CloudProbability(("CPL", "CLD"), 10)),
        dtype="float32",
        strength=1.0,
        strata=len(_CASHEW),
        draw=_plantations,
        bring=bands.surface_and_clouds,
        dates=_CLOUD_FREE,
        label_dtype="int64",
    ),
    Task(
        name="m-SA-crop-type",
        kind="segmentation",
        side_px=256,
        gsd_m=10.0,
        classes=_CROP_NAMES,
        named=False,
        bands=(*bands.S2_12, CloudProbability(("CPL", "CLM"))),
        dtype="int16",
        strength=1.0,
        strata=1,
        draw=_scene(covers.crops),
        bring=bands.eight_bit_surface,
        label_dtype="int16",
    ),
    Task(
        name="m-nz-cattle",
        kind="segmentation",
        side_px=500,
        gsd_m=0.1,
        classes=("no cattle", "cattle"),
        bands=tuple(make_rgb_bands(0.1)),
        dtype="uint8",
        strength=1.0,
        strata=1,
        draw=_scene(covers.cattle),
        bring=bands.rgb,
        dates=tuple(date(year, 1, 1) for year in range(2013, 2020)),
        dated_label=True,
    ),
    Task(
        name="m-NeonTree",
        kind="segmentation",
        side_px=400,
        gsd_m=0.1,
        classes=("no tree", "tree"),
        bands=(*make_rgb_bands(0.1), _CHM, _NEON),
        dtype=("uint8", "uint8", "uint8", "float32", "int16"),
        whole=False,
        strength=1.0,
        strata=1,
        draw=_scene(covers.trees),
        bring=bands.neon,
    ),
)
