"""Four GEO-Bench-format tasks: what each shows, its bands, and its units."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import cv2
import numpy as np
from geobench.dataset import BandInfo, landsat8_9_bands, make_rgb_bands, sentinel2_13_bands
from jaxtyping import Float32

from salib.world import objects, sensors
from salib.world.fields import Grid
from salib.world.landscape import paint
from salib.world.triples import places

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
# Surface reflectance of a band as red, green, blue, near infrared and bare-soil shares; documented
# stand-ins for a spectral library, in the units of the 8-bit levels.
_S2_SHARES: dict[str, tuple[float, float, float, float]] = {
    "01": (0.05, 0.05, 0.95, 0.0),
    "02": (0.0, 0.0, 1.0, 0.0),
    "03": (0.0, 1.0, 0.0, 0.0),
    "04": (1.0, 0.0, 0.0, 0.0),
    "05": (0.75, 0.15, 0.0, 0.2),
    "06": (0.3, 0.05, 0.0, 0.65),
    "07": (0.1, 0.0, 0.0, 0.9),
    "08": (0.0, 0.0, 0.0, 1.0),
    "8A": (0.0, 0.0, 0.0, 1.03),
    "09": (0.0, 0.0, 0.05, 0.3),
    "10": (0.0, 0.0, 0.004, 0.002),
    "11": (0.85, 0.0, -0.2, 0.45),
    "12": (0.95, 0.0, -0.15, 0.15),
}
# The published m-eurosat stores the channels in this order under the names of GEO-Bench's list.
_STORED = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "8A")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: `draw(seed, rng, label, place)` paints a sample's ground."""

    name: str
    side_px: int
    gsd_m: float
    classes: tuple[str, ...]
    bands: tuple[BandInfo, ...]
    dtype: str
    strength: float
    draw: Callable[["Task", int, np.random.Generator, int, int], np.ndarray]
    bring: Callable[[np.ndarray, np.ndarray], Float32[np.ndarray, "bands rows cols"]]
    when: date | None = None

    def sample(self, seed: int, label: int, number: int) -> np.ndarray:
        """Bands of sample `number`, in the task's units and type."""
        rng = np.random.default_rng([seed, 31, *self.name.encode(), number])
        ground = self.draw(self, seed, rng, label, number)
        ground[:4] = sensors.spread(ground[:4], float(rng.uniform(0.45, 0.75)))
        nir = sensors.near_infrared(ground)
        weather = sensors.Weather.draw(rng, strength=self.strength)
        rgb = sensors.grained(rng, weather.apply(ground[:3]), float(rng.uniform(0.5, 2.0)))
        veil = np.clip(np.concatenate([rgb, (nir * np.mean(weather.gain))[None]]), 0, 400)
        bands = self.bring(veil, ground[3])
        limits = np.iinfo(self.dtype) if np.dtype(self.dtype).kind in "iu" else None
        if limits is None:
            return np.round(bands).astype(self.dtype)
        return np.clip(np.round(bands), max(limits.min, 0), limits.max).astype(self.dtype)


def _window(task: Task, x_m: float = 0.0, y_m: float = 0.0) -> Grid:
    half = task.side_px * task.gsd_m / 2
    return Grid(
        x_m=x_m - half, y_m=y_m - half, gsd_m=task.gsd_m, rows=task.side_px, cols=task.side_px
    )


def _of_world(
    themes: tuple[tuple[str, ...], ...],
) -> Callable[[Task, int, np.random.Generator, int, int], np.ndarray]:
    """Windows of the world that show one of the label's themes; few others show lines too."""

    def draw(
        task: Task, seed: int, rng: np.random.Generator, label: int, number: int
    ) -> np.ndarray:
        theme = str(rng.choice(themes[label]))
        spot = int(np.random.SeedSequence([seed, 37, number]).generate_state(1)[0])
        (x, y), *_ = places(seed, theme, 1, salt=spot)
        side = 2 * task.side_px
        grid = Grid(x_m=x, y_m=y, gsd_m=task.gsd_m / 2, rows=side, cols=side)
        lines = theme in ("river", "motorway") or rng.random() < 0.15
        return sensors.average(paint(seed, grid, lines=lines), task.side_px)

    return draw


def _of_object(
    painter: Callable[[Grid, np.random.Generator, int], np.ndarray], finer: int
) -> Callable[[Task, int, np.random.Generator, int, int], np.ndarray]:
    def draw(
        task: Task, seed: int, rng: np.random.Generator, label: int, number: int
    ) -> np.ndarray:
        grid, side = _window(task), task.side_px * finer
        fine = Grid(x_m=grid.x_m, y_m=grid.y_m, gsd_m=task.gsd_m / finer, rows=side, cols=side)
        seen = painter(fine, rng, label)
        return sensors.average(seen, task.side_px) if finer > 1 else seen

    return draw


def _sentinel2(levels: np.ndarray, ndvi: np.ndarray) -> np.ndarray:
    """Top-of-atmosphere DN of 13 bands, in the stored order; 60 m bands are smoothed."""
    shares = np.array([_S2_SHARES[name] for name in _STORED], np.float32)
    bands = np.tensordot(shares, levels, 1)
    for name in ("01", "09", "10"):
        band = bands[_STORED.index(name)]
        bands[_STORED.index(name)] = cv2.blur(band, (5, 5))
    haze = np.array([700, 520, 300, 120] + [60] * 9, np.float32)
    haze[_STORED.index("10")] = 10
    return np.maximum(bands * np.float32(3000 / 255) + haze[:, None, None], 1)


def _surface(levels: np.ndarray, ndvi: np.ndarray) -> np.ndarray:
    """Surface DN of 13 bands in GEO-Bench's order of names."""
    order = ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12")
    shares = np.array([_S2_SHARES[name] for name in order], np.float32)
    return np.maximum(np.tensordot(shares, levels, 1) * np.float32(2000 / 255), 1)


def _landsat(levels: np.ndarray, ndvi: np.ndarray) -> np.ndarray:
    """8-bit red, green, blue, near and short-wave infrared."""
    names = ("04", "03", "02", "08", "11", "12")
    shares = np.array([_S2_SHARES[name] for name in names], np.float32)
    shares[3] *= 0.6
    return np.tensordot(shares, levels, 1)


def _rgb(levels: np.ndarray, ndvi: np.ndarray) -> np.ndarray:
    return levels[:3]


def _landsat_bands() -> tuple[BandInfo, ...]:
    by_name = {band.name: band for band in landsat8_9_bands}
    names = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
    return tuple(by_name[name] for name in names)


TASKS = {
    task.name: task
    for task in (
        Task(
            name="m-pv4ger",
            side_px=320,
            gsd_m=0.1,
            classes=("no solar pv", "solar pv"),
            bands=tuple(make_rgb_bands(0.1)),
            dtype="uint8",
            strength=1.0,
            draw=_of_object(objects.roof, 1),
            bring=_rgb,
        ),
        Task(
            name="m-forestnet",
            side_px=332,
            gsd_m=15.0,
            classes=objects.DRIVERS,
            bands=_landsat_bands(),
            dtype="uint8",
            strength=1.2,
            draw=_of_object(objects.loss_site, 1),
            bring=_landsat,
            when=date(2015, 7, 1),
        ),
        Task(
            name="m-eurosat",
            side_px=64,
            gsd_m=10.0,
            classes=tuple(name for name, _ in _EUROSAT),
            bands=tuple(sentinel2_13_bands),
            dtype="int16",
            strength=1.2,
            draw=_of_world(tuple((theme,) for _, theme in _EUROSAT)),
            bring=_sentinel2,
        ),
        Task(
            name="m-brick-kiln",
            side_px=64,
            gsd_m=10.0,
            classes=("not brick kiln", "brick kiln"),
            bands=tuple(sentinel2_13_bands),
            dtype="float64",
            strength=1.0,
            draw=_of_world((_WITHOUT_KILNS, ("kiln_field",))),
            bring=_surface,
        ),
    )
}
