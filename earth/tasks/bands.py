"""From levels of red, green, blue and near infrared to the bands and units of each sensor."""

import cv2
import numpy as np
from geobench.dataset import BandInfo, landsat8_9_bands, sentinel2_13_bands

from earth import sensors
from earth.landscape.ground import Rng
from earth.tasks.chips import Levels, Painted

# Surface reflectance of a band as red, green, blue and near infrared shares; documented stand-ins
# for a spectral library, in the units of the 8-bit levels.
_SHARES: dict[str, tuple[float, float, float, float]] = {
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
_NAMES = ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12")
# The published m-eurosat stores the channels in this order under the names of GEO-Bench's list.
_EUROSAT = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "8A")
_SURFACE = tuple(name for name in _NAMES if name != "10")
_SO2SAT = tuple(name for name in _SURFACE if name not in ("01", "09"))
_HAZE = dict.fromkeys(_NAMES, 60.0) | {"01": 700.0, "02": 520.0, "03": 300.0, "04": 120.0}
_HAZE["10"] = 10.0
_LEE_LOOKS = 20.0
HYPERSPECTRAL = 369

S2_13 = tuple(sentinel2_13_bands)
S2_12 = tuple(band for band in S2_13 if not band.name.startswith("10"))
S2_10 = tuple(band for band in S2_12 if band.name[:3] not in ("01 ", "09 "))


def landsat_bands() -> tuple[BandInfo, ...]:
    """The six Landsat-8 bands of m-forestnet."""
    by_name = {band.name: band for band in landsat8_9_bands}
    names = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
    return tuple(by_name[name] for name in names)


def top_of_atmosphere(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """DN of 13 Sentinel-2 bands in m-eurosat's stored order; 60 m bands are smoothed."""
    bands = _mixed(levels, _EUROSAT)
    for name in ("01", "09", "10"):
        band = bands[_EUROSAT.index(name)]
        bands[_EUROSAT.index(name)] = cv2.blur(band, (5, 5))
    haze = np.array([_HAZE[name] for name in _EUROSAT], np.float32)
    return list(np.maximum(bands * np.float32(3000 / 255) + haze[:, None, None], 1))


def surface(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """Surface DN of 13 Sentinel-2 bands; level 255 is reflectance 0.2, DN 2000."""
    return list(np.maximum(_mixed(levels, _NAMES) * np.float32(2000 / 255), 1))


def surface_12(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """Surface DN of the 12 bands of a Sentinel-2 L2A product."""
    return list(np.maximum(_mixed(levels, _SURFACE) * np.float32(2000 / 255), 1))


def surface_and_clouds(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """`surface_12`, and a cloud probability of a few per cent at most."""
    clouds = rng.integers(0, 4, levels.shape[1:]).astype(np.float32)
    return [*surface_12(levels, painted, rng), clouds]


def eight_bit_surface(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """The 12 bands as reflectance x 255 in whole numbers, and a cloud probability of zero."""
    bands = np.clip(_mixed(levels, _SURFACE) * np.float32(0.2), 0, 255)
    return [*bands, np.zeros_like(bands[0])]


def landsat(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """8-bit red, green, blue, near and short-wave infrared."""
    shares = np.array([_SHARES[n] for n in ("04", "03", "02", "08", "11", "12")], np.float32)
    shares[3] *= 0.6
    return list(np.tensordot(shares, levels, 1))


def rgb(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """Red, green, blue."""
    return list(levels[:3])


def rgb_and_infrared(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """Red, green, blue and near infrared at half its level, within 0..255."""
    return list(np.clip(levels * np.array([1, 1, 1, 0.5], np.float32)[:, None, None], 0, 255))


def radar_and_optical(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """m-so2sat's eight radar bands as backscatter (power), and ten bands as reflectance.

    Radar: real and imaginary parts of VH and VV, their intensities after a Lee filter (here the
    mean with 20 looks), and real and imaginary part of their covariance.
    """
    vv, vh = sensors.backscatter(painted.ground) + np.float32(10 ** (sensors.NOISE_DB / 10))
    parts = [
        np.sqrt(power / 2) * rng.standard_normal(power.shape, np.float32)
        for power in (vh, vh, vv, vv)
    ]
    intensities = [
        power * rng.standard_gamma(_LEE_LOOKS, power.shape, np.float32) / np.float32(_LEE_LOOKS)
        for power in (vh, vv)
    ]
    cross = [
        np.sqrt(vv * vh) * (share + 0.1 * rng.standard_normal(vv.shape, np.float32))
        for share in (np.float32(0.1), np.float32(0.0))
    ]
    haze = np.array([_HAZE[name] for name in _SO2SAT], np.float32)[:, None, None]
    optical = (_mixed(levels, _SO2SAT) * np.float32(3000 / 255) + haze) / np.float32(10_000)
    return [*parts, *intensities, *cross, *optical]


def neon(levels: Levels, painted: Painted, rng: Rng) -> list[np.ndarray]:
    """RGB at 0.1 m; canopy height and 369 bands of reflectance x 10,000 averaged to 1 m."""
    assert painted.height_m is not None
    small = sensors.average(levels.astype(np.float32), levels.shape[2] // 10)
    canopy = sensors.average(painted.height_m[None], levels.shape[2] // 10)
    known = np.array([band.wavelength for band in sentinel2_13_bands], np.float64)
    wavelengths = np.linspace(0.38, 2.51, HYPERSPECTRAL)
    table = np.array([_SHARES[name] for name in _NAMES], np.float32)
    shares = np.stack([np.interp(wavelengths, known, share) for share in table.T], 1)
    spectrum = np.tensordot(small, shares.astype(np.float32), (0, 1)) * np.float32(2000 / 255)
    return [*levels[:3], canopy.transpose(1, 2, 0), np.maximum(spectrum, 0)]


def _mixed(levels: Levels, names: tuple[str, ...]) -> np.ndarray:
    return np.tensordot(np.array([_SHARES[name] for name in names], np.float32), levels, 1)
