"""A task in GEO-Bench's format: what its samples show, in which bands, sizes and units."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

import numpy as np
from geobench.dataset import BandInfo
from jaxtyping import Bool, Float, Int64

from earth import sensors
from earth.landscape.fields import Grid
from earth.landscape.ground import Paint, Rng

Colours = Float[np.ndarray, "4 rows cols"]
"""Red, green, blue and near infrared, 0..255 of a usual true-colour stretch."""


class Painted(NamedTuple):
    """The ground of one sample and what is true of it.

    Args:
        truth: class number, 0/1 of each class, or class of each pixel.
        unseen: pixels without data, zero in every band.
    """

    ground: Paint
    truth: int | Int64[np.ndarray, "*shape"]
    unseen: Bool[np.ndarray, "rows cols"] | None = None


class Chip(NamedTuple):
    """A sample as it is stored: bands in the task's order, label, date."""

    bands: list[np.ndarray]
    label: int | Int64[np.ndarray, "*shape"]
    when: date | None


@dataclass(frozen=True, kw_only=True)
class PaintedTask:
    """A procedural task.

    Args:
        classes: class names, in the order of the numbers.
        named: whether the published specification holds them.
        gsd_m: metres per pixel.
        stated_gsd_m: what the published specification states instead.
        whole: whether floating-point values are rounded to whole numbers.
        strength: of the weather, 1 as in pretraining scenes.
        draw: `draw(task, seed, rng, stratum, number)` paints a sample.
        to_bands: `to_bands(colours, ground, rng)` gives the task's bands.
        strata: kinds of sample that `draw` knows, in equal shares; the classes if not given.
        dates: a sample has one of them; its bands then carry it in their names.
    """

    name: str
    kind: Literal["classification", "multilabel", "segmentation"] = "classification"
    classes: tuple[str, ...]
    named: bool = True
    side_px: int
    gsd_m: float
    stated_gsd_m: float | None = None
    bands: tuple[BandInfo, ...]
    dtype: str
    whole: bool = True
    strength: float = 1.0
    draw: Callable[["PaintedTask", int, Rng, int, int], Painted]
    to_bands: Callable[[Colours, Paint, Rng], list[np.ndarray]]
    strata: int | None = None
    dates: tuple[date, ...] = ()

    @property
    def benchmark(self) -> str:
        """The folder that holds the task."""
        return f"{'segmentation' if self.kind == 'segmentation' else 'classification'}_v1.0"

    @property
    def spec_gsd_m(self) -> float:
        """Metres per pixel as the specification states them."""
        return self.gsd_m if self.stated_gsd_m is None else self.stated_gsd_m

    def chip(self, seed: int, stratum: int, number: int) -> Chip:
        """Sample `number`, of one stratum, in the task's units and types."""
        rng = np.random.default_rng([seed, 31, *self.name.encode(), number])
        painted = self.draw(self, seed, rng, stratum, number)
        ground = painted.ground
        ground[:4] = sensors.spread(ground[:4], rng.uniform(0.45, 0.75))
        nir = sensors.near_infrared(ground)
        weather = sensors.Weather.draw(rng, strength=self.strength)
        rgb = sensors.grained(rng, weather.apply(ground[:3]), rng.uniform(0.5, 2.0))
        colours = np.clip(np.concatenate([rgb, (nir * np.mean(weather.gain))[None]]), 0, 400)
        bands = [self._stored(band) for band in self.to_bands(colours, ground, rng)]
        if painted.unseen is not None:
            for band in bands:
                band[painted.unseen] = 0
        when = self.dates[number % len(self.dates)] if self.dates else None
        return Chip(bands, painted.truth, when)

    def window(self, finer: int = 1) -> Grid:
        """The sample's window around the origin, sampled `finer` times as densely."""
        half, side = self.side_px * self.gsd_m / 2, self.side_px * finer
        return Grid(x_m=-half, y_m=-half, gsd_m=self.gsd_m / finer, rows=side, cols=side)

    def _stored(self, band: np.ndarray) -> np.ndarray:
        if np.dtype(self.dtype).kind == "f":
            return (np.round(band) if self.whole else band).astype(self.dtype)
        return np.clip(np.round(band), 0, np.iinfo(self.dtype).max).astype(self.dtype)
