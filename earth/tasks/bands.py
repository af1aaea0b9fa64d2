"""From red, green, blue and near infrared to the bands and units of each sensor."""

import cv2
import numpy as np
from geobench.dataset import landsat8_9_bands, sentinel2_13_bands

from earth import sensors
from earth.landscape.ground import Paint, Rng
from earth.spectrum import BAND_NAMES, SHARES, mixed
from earth.tasks.chips import Colours

# The published m-eurosat stores the channels in this order under the names of GEO-Bench's list.
_EUROSAT = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "8A")
_SURFACE = tuple(name for name in BAND_NAMES if name != "10")
_SO2SAT = tuple(name for name in _SURFACE if name not in ("01", "09"))
_HAZE = dict.fromkeys(BAND_NAMES, 60.0) | {"01": 700.0, "02": 520.0, "03": 300.0, "04": 120.0}
_HAZE["10"] = 10.0
_LEE_LOOKS = 20.0

S2_13 = tuple(sentinel2_13_bands)
S2_12 = tuple(band for band in S2_13 if not band.name.startswith("10"))
S2_10 = tuple(band for band in S2_12 if band.name[:3] not in ("01 ", "09 "))
_LANDSAT = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
LANDSAT_6 = tuple(band for name in _LANDSAT for band in landsat8_9_bands if band.name == name)


def top_of_atmosphere(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """DN of 13 Sentinel-2 bands in m-eurosat's stored order; 60 m bands are smoothed."""
    bands = mixed(colours, _EUROSAT)
    for name in ("01", "09", "10"):
        band = bands[_EUROSAT.index(name)]
        bands[_EUROSAT.index(name)] = cv2.blur(band, (5, 5))
    haze = np.array([_HAZE[name] for name in _EUROSAT], np.float32)
    return list(np.maximum(bands * np.float32(3000 / 255) + haze[:, None, None], 1))


def surface_13(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """Surface DN of 13 Sentinel-2 bands; 255 is reflectance 0.2, DN 2000."""
    return list(np.maximum(mixed(colours, BAND_NAMES) * np.float32(2000 / 255), 1))


def surface_12(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """Surface DN of the 12 bands of a Sentinel-2 L2A product."""
    return list(np.maximum(mixed(colours, _SURFACE) * np.float32(2000 / 255), 1))


def surface_and_clouds(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """`surface_12`, and a cloud probability of a few per cent at most."""
    clouds = rng.integers(0, 4, colours.shape[1:]).astype(np.float32)
    return [*surface_12(colours, ground, rng), clouds]


def landsat(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """8-bit red, green, blue, near and short-wave infrared."""
    shares = np.array([SHARES[n] for n in ("04", "03", "02", "08", "11", "12")], np.float32)
    shares[3] *= 0.6
    return list(np.tensordot(shares, colours, 1))


def rgb(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """Red, green, blue."""
    return list(colours[:3])


def radar_and_optical(colours: Colours, ground: Paint, rng: Rng) -> list[np.ndarray]:
    """m-so2sat's eight radar bands as backscatter (power), and ten bands as reflectance.

    Radar: real and imaginary parts of VH and VV, their intensities after a Lee filter (here the
    mean with 20 looks), and real and imaginary part of their covariance.
    """
    vv, vh = sensors.backscatter(ground) + np.float32(10 ** (sensors.NOISE_DB / 10))
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
    optical = (mixed(colours, _SO2SAT) * np.float32(3000 / 255) + haze) / np.float32(10_000)
    return [*parts, *intensities, *cross, *optical]
