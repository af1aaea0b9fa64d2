"""A task in GEO-Bench's format: what its samples show, in which bands, sizes and units."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
from geobench.dataset import SegmentationClasses
from geobench.label import Classification, MultiLabelClassification
from jaxtyping import Bool, Int64, Shaped

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.ground import Paint, Rng
from earth.tasks.bands import BandLayout

Truth = int | Int64[np.ndarray, "*shape"]
"""Class number, 0/1 of each class, or class of each pixel."""


class Painted(NamedTuple):
    """The ground of one sample and what is true of it; `unseen` pixels are zero in every band."""

    ground: Paint
    truth: Truth
    unseen: Bool[np.ndarray, "rows cols"] | None = None


class Chip(NamedTuple):
    """A sample as it is stored."""

    bands: Shaped[np.ndarray, "bands rows cols"]
    label: Truth


@dataclass(frozen=True, kw_only=True)
class PaintedTask:
    """A procedural task.

    Args:
        label: what is to be told, as the published specification states it.
        gsd_m: metres per pixel; m-cashew-plant's label states others.
        bands: what is stored of a sample.
        draw: `draw(task, seed, rng, stratum, number)` paints a sample.
        strata: kinds of sample that `draw` knows, in equal shares; the classes if not given.
        strength: of the weather, 1 as in pretraining scenes.
        dates: a sample has one of them; its bands then carry it in their names.
    """

    name: str
    label: Classification | MultiLabelClassification | SegmentationClasses
    side_px: int
    gsd_m: float
    bands: BandLayout
    draw: Callable[["PaintedTask", int, Rng, int, int], Painted]
    strata: int | None = None
    strength: float = 1.0
    dates: tuple[date, ...] = ()

    @property
    def benchmark(self) -> str:
        """The folder that holds the task."""
        masked = isinstance(self.label, SegmentationClasses)
        return f"{'segmentation' if masked else 'classification'}_v1.0"

    @property
    def stated_gsd_m(self) -> float:
        """Metres per pixel as the published specification states them."""
        return getattr(self.label, "spatial_resolution", self.gsd_m)

    def chip(self, seed: int, stratum: int, number: int) -> Chip:
        """Sample `number`, of one stratum, in the task's units and types."""
        rng = np.random.default_rng([seed, 31, *self.name.encode(), number])
        ground, truth, unseen = self.draw(self, seed, rng, stratum, number)
        ground[:4] = sensors.spread(ground[:4], rng.uniform(0.45, 0.75))
        nir = sensors.near_infrared(ground)
        weather = sensors.Weather.draw(rng, strength=self.strength)
        rgb = sensors.grained(rng, weather.apply(ground[:3]), rng.uniform(0.5, 2.0))
        colours = np.clip(np.concatenate([rgb, (nir * np.mean(weather.gain))[None]]), 0, 400)
        bands = self.bands.stored(colours, ground, rng)
        if unseen is not None:
            bands[:, unseen] = 0
        return Chip(bands, truth)

    def window(self, finer: int = 1) -> Grid:
        """The sample's window around the origin, sampled `finer` times as densely."""
        half, side = self.side_px * self.gsd_m / 2, self.side_px * finer
        return Grid(x_m=-half, y_m=-half, gsd_m=self.gsd_m / finer, rows=side, cols=side)
