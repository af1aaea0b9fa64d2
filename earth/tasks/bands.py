"""From red, green, blue and near infrared to the bands and units of each sensor."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from geobench.dataset import (
    BandInfo,
    CloudProbability,
    landsat8_9_bands,
    make_rgb_bands,
    sentinel1_8_bands,
    sentinel2_13_bands,
)
from jaxtyping import Float

from earth.landscape.fields import Rng
from earth.landscape.ground import Paint
from earth.sensors import NOISE_DB, SHARES, backscatter, mixed

Colours = Float[np.ndarray, "4 rows cols"]
"""Red, green, blue and near infrared, 0..255 of a usual true-colour stretch."""


class BandLayout(NamedTuple):
    """The bands of a stored sample.

    Args:
        infos: their published specification.
        values: `values(colours, ground, rng)` gives them.
    """

    infos: tuple[BandInfo, ...]
    dtype: str
    values: Callable[[Colours, Paint, Rng], np.ndarray]


# The published m-eurosat stores the channels in this order under the names of GEO-Bench's list.
_EUROSAT = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "8A")
_SURFACE = tuple(name for name in SHARES if name != "10")
_SO2SAT = tuple(name for name in _SURFACE if name not in ("01", "09"))
_HAZE = dict.fromkeys(SHARES, 60.0)
_HAZE |= {"01": 700.0, "02": 520.0, "03": 300.0, "04": 120.0, "10": 10.0}


def _hazy(bands: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """DN of bands above the atmosphere."""
    haze = np.array([_HAZE[name] for name in names], np.float32)
    return bands * np.float32(3000 / 255) + haze[:, None, None]


def _eurosat(colours: Colours, ground: Paint, rng: Rng) -> np.ndarray:
    """DN of 13 bands in m-eurosat's stored order; 60 m bands are smoothed."""
    bands = mixed(colours, _EUROSAT)
    for at in map(_EUROSAT.index, ("01", "09", "10")):
        bands[at] = cv2.blur(bands[at], (5, 5))
    return np.maximum(_hazy(bands, _EUROSAT), 1)


def _surface(colours: Colours, ground: Paint, rng: Rng, names: tuple[str, ...]) -> np.ndarray:
    """Surface DN of Sentinel-2 bands; 255 is reflectance 0.2, DN 2000."""
    return np.round(np.maximum(mixed(colours, names) * np.float32(2000 / 255), 1))


def _surface_and_clouds(colours: Colours, ground: Paint, rng: Rng) -> np.ndarray:
    """Surface DN, and a cloud probability of a few per cent at most."""
    clouds = rng.integers(0, 4, (1, *colours.shape[1:])).astype(np.float32)
    return np.concatenate([_surface(colours, ground, rng, _SURFACE), clouds])


def _landsat(colours: Colours, ground: Paint, rng: Rng) -> np.ndarray:
    """8-bit red, green, blue, near and short-wave infrared."""
    bands = mixed(colours, ("04", "03", "02", "08", "11", "12"))
    bands[3] *= np.float32(0.6)
    return bands


def _radar_and_optical(colours: Colours, ground: Paint, rng: Rng) -> np.ndarray:
    """m-so2sat's eight radar bands as backscatter (power), and ten bands as reflectance.

    Radar: real and imaginary parts of VH and VV, their intensities after a Lee filter (here the
    mean with 20 looks), and real and imaginary part of their covariance.
    """
    vv, vh = backscatter(ground) + np.float32(10 ** (NOISE_DB / 10))
    drawn = rng.standard_normal((6, *vv.shape), np.float32)
    looks = rng.standard_gamma(20.0, (2, *vv.shape), np.float32) / np.float32(20)
    parts = np.sqrt(np.stack([vh, vh, vv, vv]) / 2) * drawn[:4]
    cross = np.sqrt(vv * vh) * (np.array([[[0.1]], [[0.0]]], np.float32) + 0.1 * drawn[4:])
    optical = _hazy(mixed(colours, _SO2SAT), _SO2SAT) / np.float32(10_000)
    return np.concatenate([parts, np.stack([vh, vv]) * looks, cross, optical])


_S2_13 = tuple(sentinel2_13_bands)
_S2_12 = tuple(band for band in _S2_13 if not band.name.startswith("10"))
_S2_10 = tuple(band for band in _S2_12 if band.name[:3] not in ("01 ", "09 "))
_LANDSAT = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
_LANDSAT_6 = tuple(band for name in _LANDSAT for band in landsat8_9_bands if band.name == name)
_CLOUDS = CloudProbability(("CPL", "CLD"), 10)

AERIAL = BandLayout(tuple(make_rgb_bands(0.1)), "uint8", lambda colours, ground, rng: colours[:3])
LANDSAT = BandLayout(_LANDSAT_6, "uint8", _landsat)
EUROSAT = BandLayout(_S2_13, "int16", _eurosat)
SURFACE_13 = BandLayout(_S2_13, "float64", partial(_surface, names=tuple(SHARES)))
SURFACE_12 = BandLayout(_S2_12, "float32", partial(_surface, names=_SURFACE))
SURFACE_AND_CLOUDS = BandLayout((*_S2_12, _CLOUDS), "float32", _surface_and_clouds)
SO2SAT = BandLayout((*sentinel1_8_bands, *_S2_10), "float32", _radar_and_optical)
