"""The seven tasks of GEO-Bench that the procedural Earth paints: those of which a page shows rows.

Table 2's four and m-so2sat give an image one class, m-bigearthnet several, and m-cashew-plant one
per pixel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from datetime import date

import numpy as np
from geobench.dataset import SegmentationClasses
from geobench.label import Classification, MultiLabelClassification
from jaxtyping import Int64, Shaped

from earth import sensors
from earth.landscape.fields import Grid, Rng
from earth.landscape.ground import Brush, Paint
from earth.landscape.themes import THEMES, paint, theme_numbers
from earth.tasks import bands, objects
from earth.tasks.bands import BandLayout
from earth.triples import squares

Bands = Shaped[np.ndarray, "bands rows cols"]
Truth = int | Int64[np.ndarray, "*shape"]
"""Class number, 0/1 of each class, or class of each pixel."""


@dataclass(frozen=True)
class PaintedTask(ABC):
    """A procedural task in GEO-Bench's format.

    Args:
        label: its classes, as the published specification states them.
        bands: what is stored of a sample.
        gsd_m: metres per pixel; m-cashew-plant's label states others.
        finer: the ground is painted so many times as densely and averaged.
        strength: of the weather, 1 as in pretraining scenes.
        when: date that the names of the bands carry.
    """

    name: str
    label: Classification | MultiLabelClassification | SegmentationClasses
    side_px: int
    bands: BandLayout
    _: KW_ONLY
    gsd_m: float = 10.0
    finer: int = 1
    strength: float = 1.0
    when: date | None = None

    @property
    def benchmark(self) -> str:
        """The folder that holds the task."""
        masked = isinstance(self.label, SegmentationClasses)
        return f"{'segmentation' if masked else 'classification'}_v1.0"

    @property
    def strata(self) -> int:
        """Kinds of sample, in equal shares: the classes, or themes near the middle."""
        return self.label.n_classes if type(self.label) is Classification else len(THEMES)

    @abstractmethod
    def draw(self, seed: int, rng: Rng, stratum: int, number: int) -> tuple[Paint, Truth]:
        """Ground of sample `number`, and its label."""

    def chip(self, seed: int, stratum: int, number: int) -> tuple[Bands, Truth]:
        """Bands and label of sample `number`, of one stratum, as they are stored."""
        rng = np.random.default_rng([seed, 31, *self.name.encode(), number])
        fine, truth = self.draw(seed, rng, stratum, number)
        ground = sensors.coarsened(fine, self.side_px)
        ground[:4] = sensors.spread(ground[:4], rng.uniform(0.45, 0.75))
        nir = sensors.near_infrared(ground)
        weather = sensors.Weather.draw(rng, strength=self.strength)
        rgb = sensors.grained(rng, weather.apply(ground[:3]), rng.uniform(0.5, 2.0))
        colours = np.clip(np.concatenate([rgb, (nir * np.mean(weather.gain))[None]]), 0, 400)
        values, dtype = self.bands.values(colours, ground, rng), self.bands.dtype
        if np.dtype(dtype).kind != "f":
            values = np.clip(np.round(values), 0, np.iinfo(dtype).max)
        return values.astype(dtype), truth

    @property
    def window(self) -> Grid:
        """A window around the origin, as finely as the ground is painted."""
        half, side = self.side_px * self.gsd_m / 2, self.side_px * self.finer
        return Grid(x_m=-half, y_m=-half, gsd_m=self.gsd_m / self.finer, rows=side, cols=side)

    def window_of(self, seed: int, theme: str, number: int) -> Grid:
        """A window of the world that shows a theme near its middle; positions differ by sample."""
        salt = int(np.random.SeedSequence([seed, 37, number]).generate_state(1)[0])
        (x, y), *_ = squares(seed, theme, 1, side_m=self.side_px * self.gsd_m, salt=salt)
        return replace(self.window, x_m=x, y_m=y)


_EUROSAT = {
    "Industrial Buildings": ("industrial",),
    "Residential Buildings": ("residential",),
    "Annual Crop": ("arable",),
    "Permanent Crop": ("orchard",),
    "River": ("river",),
    "Sea and Lake": ("water",),
    "Herbaceous Vegetation": ("shrub",),
    "Highway": ("motorway",),
    "Pasture": ("pasture",),
    "Forest": ("forest",),
}
_NO_KILN = ("arable", "arable", "bare", "orchard", "village", "pasture", "shrub", "forest")
_KILN = {"not brick kiln": _NO_KILN, "brick kiln": ("kiln_field",)}
# The classes of CORINE, 43 in BigEarthNet's order, that come nearest to the themes.
_CORINE = {"arable": 11, "forest": 24, "shrub": 26, "pasture": 17, "orchard": 15, "residential": 1}
_CORINE |= {"industrial": 2, "water": 39, "bare": 30, "clearing": 28, "village": 19}
_CORINE |= {"solar_farm": 8, "kiln_field": 6}
# Plantations well and poorly managed, other plants, settlements, background, uncertain; 0: no data.
_CASHEW = {"orchard": 1, "clearing": 2, "shrub": 2, "forest": 3, "pasture": 3, "residential": 4}
_CASHEW |= {"village": 4, "industrial": 4, "arable": 5, "water": 5}
_CASHEW |= {"bare": 6, "solar_farm": 6, "kiln_field": 6}


@dataclass(frozen=True)
class _OfObjects(PaintedTask):
    """A window around the origin with one object in its middle, which is the class."""

    painter: Callable[[Brush, int], Paint]

    def draw(self, seed: int, rng: Rng, stratum: int, number: int) -> tuple[Paint, Truth]:
        return self.painter(Brush(self.window, rng), stratum), stratum


@dataclass(frozen=True)
class _OfThemes(PaintedTask):
    """A window of the world that shows one of the class's themes; few others show lines too."""

    themes: dict[str, tuple[str, ...]]

    def draw(self, seed: int, rng: Rng, stratum: int, number: int) -> tuple[Paint, Truth]:
        theme = rng.choice(list(self.themes.values())[stratum])
        lines = theme in ("river", "motorway") or rng.random() < 0.15
        return paint(seed, self.window_of(seed, theme, number), lines=lines), stratum


@dataclass(frozen=True)
class _OfRegions(PaintedTask):
    """A window of the world without lines: the class of each pixel, or which classes it has."""

    class_of: dict[str, int]

    def draw(self, seed: int, rng: Rng, stratum: int, number: int) -> tuple[Paint, Truth]:
        grid = self.window_of(seed, THEMES[stratum], number)
        truth = np.array([self.class_of[theme] for theme in THEMES])[theme_numbers(seed, grid)]
        if isinstance(self.label, MultiLabelClassification):
            shares = np.bincount(truth.ravel(), minlength=self.label.n_classes) / truth.size
            truth = (shares > 0.01).astype(np.int64)
        return paint(seed, grid, lines=False), truth


def _one_of(*names: str) -> Classification:
    return Classification(len(names), list(names))


_TASKS = (
    _OfObjects("m-pv4ger", _one_of(*objects.ROOFS), 320, bands.AERIAL, objects.roof, gsd_m=0.1),
    _OfObjects(
        "m-forestnet",
        _one_of(*objects.DRIVERS),
        332,
        bands.LANDSAT,
        objects.loss_site,
        gsd_m=15.0,
        strength=1.2,
        when=date(2015, 7, 1),
    ),
    _OfThemes("m-eurosat", _one_of(*_EUROSAT), 64, bands.EUROSAT, _EUROSAT, finer=2, strength=1.2),
    _OfThemes("m-brick-kiln", _one_of(*_KILN), 64, bands.SURFACE_13, _KILN, finer=2),
    _OfObjects("m-so2sat", _one_of(*objects.ZONES), 32, bands.SO2SAT, objects.zone, finer=2),
    _OfRegions("m-bigearthnet", MultiLabelClassification(43), 120, bands.SURFACE_12, _CORINE),
    _OfRegions(
        "m-cashew-plant",
        SegmentationClasses("label", 0.5, 7),
        256,
        bands.SURFACE_AND_CLOUDS,
        _CASHEW,
        when=date(2019, 11, 15),
    ),
)
PAINTED_TASKS = {task.name: task for task in _TASKS}
