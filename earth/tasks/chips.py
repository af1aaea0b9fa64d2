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
from earth.landscape.ground import Mask, Paint, Rng

Kind = Literal["classification", "multilabel", "segmentation"]
Levels = Float[np.ndarray, "4 rows cols"]


class Painted(NamedTuple):
    """The ground of one sample and what is true of it.

    Args:
        truth: class number, 0/1 of each class, or class of each pixel.
        height_m: metres above ground, where the task has a band for it.
        unseen: pixels without data, zero in every band.
    """

    ground: Paint
    truth: int | Int64[np.ndarray, "*shape"]
    height_m: Mask | None = None
    unseen: Bool[np.ndarray, "rows cols"] | None = None


class Chip(NamedTuple):
    """A sample as it is stored: bands in the task's order, label, date."""

    bands: list[np.ndarray]
    label: int | Int64[np.ndarray, "*shape"]
    when: date | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Args:
        classes: class names, in the order of the numbers.
        named: whether the published specification holds them.
        gsd_m: metres of ground a pixel of the largest band.
        stated_gsd_m: what the published specification states instead.
        dtype: of the bands; one for all or one each.
        whole: whether floating-point values are rounded to whole numbers.
        strength: of the weather, 1 as in pretraining scenes.
        draw: `draw(task, seed, rng, stratum, number)` paints a sample.
        bring: `bring(levels, painted, rng)` makes the bands of red, green, blue and near infrared.
        strata: kinds of sample that `draw` knows, in equal shares; the classes if not given.
        dates: a sample has one of them; its bands then carry it in their names.
        dated_label: whether the label band carries it too.
        label_dtype: of a label that is a band.
    """

    name: str
    kind: Kind = "classification"
    classes: tuple[str, ...]
    named: bool = True
    side_px: int
    gsd_m: float
    stated_gsd_m: float | None = None
    bands: tuple[BandInfo, ...]
    dtype: str | tuple[str, ...]
    whole: bool = True
    strength: float
    draw: Callable[["Task", int, Rng, int, int], Painted]
    bring: Callable[[Levels, Painted, Rng], list[np.ndarray]]
    strata: int | None = None
    dates: tuple[date, ...] = ()
    dated_label: bool = False
    label_dtype: str = "uint8"

    @property
    def benchmark(self) -> str:
        """The folder that holds the task."""
        return f"{'segmentation' if self.kind == 'segmentation' else 'classification'}_v1.0"

    @property
    def spec_gsd_m(self) -> float:
        """Metres a pixel as the specification states them."""
        return self.gsd_m if self.stated_gsd_m is None else self.stated_gsd_m

    def chip(self, seed: int, stratum: int, number: int) -> Chip:
        """Sample `number`, of one stratum, in the task's units and types."""
        rng = np.random.default_rng([seed, 31, *self.name.encode(), number])
        painted = self.draw(self, seed, rng, stratum, number)
        ground = painted.ground
        ground[:4] = sensors.spread(ground[:4], float(rng.uniform(0.45, 0.75)))
        nir = sensors.near_infrared(ground)
        weather = sensors.Weather.draw(rng, strength=self.strength)
        rgb = sensors.grained(rng, weather.apply(ground[:3]), float(rng.uniform(0.5, 2.0)))
        levels = np.clip(np.concatenate([rgb, (nir * np.mean(weather.gain))[None]]), 0, 400)
        bands = list(self.bring(levels, painted, rng))
        types = (self.dtype,) * len(bands) if isinstance(self.dtype, str) else self.dtype
        stored = [self._stored(band, dtype) for band, dtype in zip(bands, types, strict=True)]
        if painted.unseen is not None:
            for band in stored:
                band[painted.unseen] = 0
        when = self.dates[number % len(self.dates)] if self.dates else None
        return Chip(stored, painted.truth, when)

    def window(self, finer: int = 1) -> Grid:
        """The sample's window around the origin, sampled `finer` times as densely."""
        half, side = self.side_px * self.gsd_m / 2, self.side_px * finer
        return Grid(x_m=-half, y_m=-half, gsd_m=self.gsd_m / finer, rows=side, cols=side)

    def _stored(self, band: np.ndarray, dtype: str) -> np.ndarray:
        if np.dtype(dtype).kind not in "iu":
            return (np.round(band) if self.whole else band).astype(dtype)
        limits = np.iinfo(dtype)
        return np.clip(np.round(band), max(limits.min, 0), limits.max).astype(dtype)
