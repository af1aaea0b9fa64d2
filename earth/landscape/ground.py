"""Materials and painting: a ground window is six numbers per pixel.

A material is (red, green, blue) in 8 bits of a usual true-colour stretch, NDVI (water is
negative), and VV and VH backscatter in dB. Near infrared follows from red and NDVI.
"""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from earth.landscape import fields
from earth.landscape.fields import Coverage, Grid, Lay, Rng, sample

Paint = Float32[np.ndarray, "6 rows cols"]
Material = Float32[np.ndarray, " 6"]

_TABLE = {
    "forest": (38, 63, 73, 0.82, -8.5, -13.5),
    "conifer": (28, 49, 62, 0.76, -9.0, -14.0),
    "grass": (60, 88, 88, 0.72, -11.5, -18.0),
    "meadow": (62, 86, 108, 0.66, -11.5, -18.5),
    "dry_grass": (112, 112, 96, 0.38, -12.5, -19.5),
    "crop": (58, 92, 78, 0.80, -10.0, -16.0),
    "dark_crop": (40, 74, 70, 0.84, -9.0, -15.0),
    "teal_crop": (58, 90, 104, 0.70, -10.5, -16.5),
    "young_crop": (98, 114, 98, 0.50, -11.5, -18.5),
    "straw": (182, 168, 138, 0.26, -13.0, -20.0),
    "pale_soil": (220, 194, 172, 0.14, -13.5, -22.0),
    "peach_soil": (220, 166, 144, 0.15, -12.5, -21.5),
    "tan_soil": (166, 146, 128, 0.17, -12.5, -21.0),
    "brown_soil": (126, 106, 100, 0.18, -11.5, -20.5),
    "purple_soil": (112, 100, 110, 0.17, -11.0, -20.0),
    "red_soil": (164, 120, 104, 0.16, -12.0, -20.5),
    "shrub": (84, 90, 92, 0.48, -11.0, -16.5),
    "maquis": (58, 68, 68, 0.58, -10.0, -15.5),
    "heath": (108, 98, 100, 0.36, -11.5, -17.5),
    "rock": (176, 168, 160, 0.08, -9.5, -17.5),
    "sand": (206, 190, 168, 0.06, -15.5, -24.0),
    "asphalt": (96, 96, 106, 0.06, -16.0, -24.5),
    "concrete": (168, 164, 166, 0.05, -12.5, -20.5),
    "gravel": (176, 162, 146, 0.08, -11.5, -20.0),
    "red_roof": (164, 116, 106, 0.07, 0.0, -8.0),
    "dark_roof": (82, 84, 94, 0.05, 0.0, -8.5),
    "grey_roof": (140, 138, 144, 0.04, 1.5, -7.5),
    "white_roof": (246, 244, 246, 0.02, 2.0, -7.0),
    "blue_roof": (116, 144, 172, 0.01, 2.0, -7.0),
    "tan_roof": (180, 160, 142, 0.06, 0.5, -8.0),
    "yard": (104, 112, 106, 0.34, -8.5, -15.5),
    "shade": (34, 40, 54, 0.20, -15.0, -20.0),
    "panel": (44, 52, 78, -0.02, -5.0, -16.0),
    "deep_water": (38, 56, 80, -0.45, -20.0, -27.0),
    "teal_water": (66, 104, 104, -0.35, -19.0, -26.5),
    "silt_water": (104, 122, 110, -0.22, -18.5, -26.0),
    "river_water": (44, 66, 82, -0.35, -21.0, -28.0),
}


def material(name: str) -> Material:
    """Six numbers of a named material."""
    return np.array(_TABLE[name], np.float32)


def tinted(rng: Rng, *names: str, gain: float = 0.14, hue: float = 0.022) -> Material:
    """One of some materials, its brightness and channels drawn around the table's values."""
    out = material(names[0] if len(names) == 1 else rng.choice(names))
    out[:3] *= np.exp(gain * rng.normal() + hue * rng.normal(size=3))
    out[4:] += rng.normal(0, 0.7, 2)
    return out


def mix(paint: Paint, colour: np.ndarray, mask: np.ndarray) -> Paint:
    """Lay a material, or another window, over `paint` where `mask` is 1, in place."""
    layer = colour[:, None, None] if colour.ndim == 1 else colour
    for band, new in zip(paint, layer, strict=True):
        band += mask * (new - band)
    return paint


def shade(paint: Paint, factor: np.ndarray) -> Paint:
    """Scale red, green and blue in place."""
    paint[:3] *= factor
    return paint


def inside(excess_m: np.ndarray, gsd_m: float) -> Coverage:
    """Share of a pixel that lies inside, from metres inside (positive) or outside its edge."""
    out = np.asarray(excess_m, np.float32) * np.float32(1 / gsd_m)
    out += 0.5
    return np.clip(out, 0, 1, out=out)


def smooth(field: np.ndarray, low: float, width: float) -> Coverage:
    """Ramp from 0 at `low` to 1 at `low + width`."""
    out = (np.asarray(field, np.float32) - np.float32(low)) * np.float32(1 / width)
    return np.clip(out, 0, 1, out=out)


def fold(position: np.ndarray, period: float) -> np.ndarray:
    """Metres to the nearest multiple of a period."""
    return np.abs(position - np.rint(position / np.float32(period)) * np.float32(period))


class Brush(np.random.Generator):
    """Paints a window: a random generator, and the ground pixels that its draws are laid on.

    What it draws does not depend on the window, so two windows of one location agree.
    """

    def __init__(self, grid: Grid, rng: Rng) -> None:
        """Draw from `rng`, whose state advances too."""
        super().__init__(rng.bit_generator)
        self.grid = grid

    def flat(self, *names: str, gain: float = 0.14, hue: float = 0.022) -> Paint:
        """Window of one material out of some, jittered."""
        colour = tinted(self, *names, gain=gain, hue=hue)
        return np.tile(colour[:, None, None], (1, self.grid.rows, self.grid.cols))

    def palette(
        self,
        *names: str,
        gain: float = 0.08,
        hue: float = 0.02,
        unity: float = 0.0,
        count: int = 1024,
    ) -> Float32[np.ndarray, "6 count"]:
        """`count` materials, each one of `names` (repeat a name to favour it) with jitter.

        `unity` pulls them towards their mean.
        """
        base = np.stack([tinted(self, name) for name in names])
        base += np.float32(unity) * (base.mean(0) - base)
        out = base[self.integers(len(names), size=count)].T.copy()
        out[:3] *= np.exp(gain * self.normal(size=count) + hue * self.normal(size=(3, count)))
        out[3] += self.normal(0, 0.04, count)
        out[4:] += self.normal(0, 0.9, (2, count))
        return out.astype(np.float32)

    def around(self, typical: float, spread: float) -> float:
        """A length drawn around a typical one; `spread` is of its logarithm."""
        return float(np.exp(self.normal(np.log(typical), spread)))

    def noise(self, exponent: float, texel_m: float) -> Coverage:
        """Fractal noise of unit variance laid at random; `exponent` is one of EXPONENTS."""
        return sample(fields.noise_pyramid(exponent), self.grid, Lay.draw(self, texel_m))

    def leaves(self, index: int, texel_m: float) -> Coverage:
        """Crowns or boulders of unit variance laid at random."""
        return sample(fields.leaves_pyramid(index), self.grid, Lay.draw(self, texel_m))

    def relief(self, texel_m: float) -> Coverage:
        """Hillshade of unit variance laid at random."""
        return sample(fields.relief_pyramid(), self.grid, Lay.draw(self, texel_m))

    def stripes(self, width_m: float, parcel: np.ndarray | None = None) -> np.ndarray:
        """Sine furrows of a period `width_m`, faded where pixels are too coarse to show them."""
        angle, phase = self.random(2) * 2 * np.pi
        turn = self.random(2048) < 0.5
        along, across = self.grid.turned(angle)
        if parcel is not None:
            along = np.where(turn[parcel & 2047], across, along)
        fade = np.sinc(min(self.grid.gsd_m / width_m, 1.0))
        wave = np.sin(along * np.float32(2 * np.pi / width_m) + np.float32(phase))
        return np.float32(fade) * wave

    def mosaic(
        self, kind: int, texel_m: float, table: np.ndarray
    ) -> tuple[Paint, np.ndarray, Coverage]:
        """Parcels laid at random, coloured from `table`; their numbers, and metres to edges."""
        (numbers, edge), lay = fields.parcels(kind), Lay.draw(self, texel_m)
        ids = lay.warp(numbers, self.grid, 1.0, cv2.INTER_NEAREST).astype(np.int32)
        paint = np.take(table, ids, axis=1, mode="wrap")
        return paint, ids, sample(edge, self.grid, lay) * np.float32(texel_m)

    def patches(
        self, exponent: float, texel_m: float, low: tuple[float, float], width: float
    ) -> Coverage:
        """Spots of noise above a level drawn between two, with soft edges."""
        field = self.noise(exponent, texel_m)
        return smooth(field, self.uniform(*low), width)

    def inside(self, excess_m: np.ndarray) -> Coverage:
        """Share of each pixel that lies inside an edge, by metres inside it."""
        return inside(excess_m, self.grid.gsd_m)

    def box(self, u: Coverage, v: Coverage, half: Any) -> Coverage:
        """Rectangle around 0 of two axes, by its half sides in metres."""
        return self.inside(half[0] - np.abs(u)) * self.inside(half[1] - np.abs(v))
