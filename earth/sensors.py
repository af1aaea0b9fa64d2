"""Three simulated sensors: point spread, radiometry, noise, speckle and 8-bit scaling.

Optical bands are 0..255 of a usual true-colour stretch. Radar is amplitude in digital
numbers (DN) of a calibrated GRD product, scaled to 8 bits as the paper scales it (D12, saturating).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16

from earth.landscape.ground import Coverage, Paint, Rng

LOOKS = 4.4
DN_AT_0_DB = 597.0
NOISE_DB = -26.0
# Surface reflectance of a band as red, green, blue and near infrared shares; documented stand-ins
# for a spectral library, in the units of the 8-bit colours.
SHARES: dict[str, tuple[float, float, float, float]] = {
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


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Radiometry of one optical scene: gain and haze per channel, and a power law."""

    gain: Float[np.ndarray, " 3"]
    haze: Float[np.ndarray, " 3"]
    gamma: float

    @classmethod
    def draw(cls, rng: Rng, *, strength: float = 1.0) -> "Weather":
        """Draw a scene: brightness, tint, and blue haze in one scene of five."""
        gain = np.exp(strength * (0.12 * rng.normal() + 0.035 * rng.normal(size=3)))
        blue, deep = rng.random(), rng.uniform(0.3, 1.0)
        haze = strength * deep * np.array([1.0, 7.0, 34.0]) if blue < 0.2 else np.zeros(3)
        gain = gain * (1 - 0.12 * deep * (blue < 0.2))
        gamma = float(np.exp(0.07 * strength * rng.normal()))
        return cls(gain=gain, haze=haze, gamma=gamma)

    def apply(self, rgb: Float32[np.ndarray, "3 rows cols"]) -> Float32[np.ndarray, "3 rows cols"]:
        """Pixel values as this scene shows them."""
        gain, haze = (each.astype(np.float32)[:, None, None] for each in (self.gain, self.haze))
        return 110 * (np.maximum(rgb, 0) * gain / 110) ** np.float32(self.gamma) + haze


def rounded(values: np.ndarray, dtype: str = "uint8", least: int = 1) -> np.ndarray:
    """Values as whole numbers from `least` (0 is no data) to the largest of their type."""
    return np.clip(values + 0.5, least, np.iinfo(dtype).max).astype(dtype)


def average(bands: Float32[np.ndarray, "bands rows cols"], cols: int) -> np.ndarray:
    """Area average onto `cols` columns, and rows in proportion."""
    rows = round(bands.shape[1] * cols / bands.shape[2])
    return np.stack(
        [cv2.resize(band, (cols, rows), interpolation=cv2.INTER_AREA) for band in bands]
    )


def spread(bands: Float32[np.ndarray, "bands rows cols"], sigma_px: float) -> np.ndarray:
    """Gaussian point spread on each band."""
    return np.stack([cv2.GaussianBlur(band, (0, 0), sigma_px) for band in bands])


def near_infrared(paint: Float32[np.ndarray, "parts rows cols"]) -> Coverage:
    """Near infrared from NDVI = (nir - red) / (nir + red), on the scale of red."""
    ndvi = np.clip(paint[3], -0.6, 0.88)
    return paint[0] * (1 + ndvi) / (1 - ndvi)


def mixed(
    colours: Float[np.ndarray, "4 rows cols"], names: Iterable[str]
) -> Float[np.ndarray, "bands rows cols"]:
    """Sentinel-2 bands by name from red, green, blue and near infrared, in the same units."""
    return np.tensordot(np.array([SHARES[name] for name in names], np.float32), colours, 1)


def clouded(colours: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Colours under clouds of some opacity."""
    return colours + cover * (np.float32(238) - colours)


def grained(rng: Rng, bands: np.ndarray, sigma: float) -> np.ndarray:
    """Bands with white noise of standard deviation `sigma`."""
    return bands + np.float32(sigma) * rng.standard_normal(bands.shape, np.float32)


def amplitude(
    rng: Rng, power: Float32[np.ndarray, "2 rows cols"]
) -> UInt16[np.ndarray, "2 rows cols"]:
    """GRD amplitude in DN from mean backscatter, with multiplicative gamma speckle of LOOKS."""
    power = power + np.float32(10 ** (NOISE_DB / 10))
    speckle = rng.standard_gamma(LOOKS, power.shape, np.float32) / np.float32(LOOKS)
    return rounded(np.float32(DN_AT_0_DB) * np.sqrt(power * speckle), "uint16")


def backscatter(paint: Paint) -> Float32[np.ndarray, "2 rows cols"]:
    """Mean backscatter VV and VH as power; averages over ground in this unit, not in dB."""
    return np.exp(paint[4:] * np.float32(np.log(10) / 10))


def coarsened(paint: Paint, cols: int) -> np.ndarray:
    """Ground averaged onto `cols` columns, its backscatter as power."""
    out = average(np.concatenate([paint[:4], backscatter(paint)]), cols)
    out[4:] = 10 * np.log10(out[4:])
    return out


def radar_uint8(dn: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """8-bit values min(floor(DN 256 / 1000), 255), saturating (D12)."""
    return np.minimum(dn.astype(np.uint32) * 256 // 1000, 255).astype(np.uint8)
