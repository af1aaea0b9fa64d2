"""The twelve bands of a Sentinel-2-like scene, each at its own resolution."""

from pathlib import Path

import numpy as np
import pystac
from jaxtyping import Float32

from earth import sensors
from earth.scenes import stac
from earth.scenes.area import UtmArea
from earth.scenes.cog import on_map, write_cog
from salib.config import S2_BANDS

DN_PER_LEVEL = 2000 / 255
"""Level 255 of the true-colour stretch is reflectance 0.2, which a product states x 10,000."""
OFFSET_DN = 1000
BASELINE = "05.09"
"""Since 04.00 a product adds the offset, which readers must take away."""


_FINE, _COARSE = ("B02", "B03", "B04", "B08"), ("B01", "B09")
RESOLUTION_M = {b: 10 if b in _FINE else 60 if b in _COARSE else 20 for b in S2_BANDS}


def empty(rows: int, cols: int) -> dict[str, np.ndarray]:
    """Bands of a scene of rows x cols pixels of 10 m, without values."""
    steps = {band: gsd_m // 10 for band, gsd_m in RESOLUTION_M.items()}
    return {band: np.zeros((rows // n, cols // n), np.uint16) for band, n in steps.items()}


def put(
    bands: dict[str, np.ndarray],
    rgb: Float32[np.ndarray, "3 rows cols"],
    ndvi: Float32[np.ndarray, "rows cols"],
    cover: Float32[np.ndarray, "rows cols"],
    top: int,
) -> None:
    """Write a strip of all bands: levels and NDVI of the ground, and the opacity of clouds.

    Args:
        top: row of 10 m at which the strip begins.
    """
    infrared = sensors.near_infrared(np.concatenate([rgb, ndvi[None]]))
    colours = sensors.clouded(np.concatenate([rgb, infrared[None]]), cover)
    seen = sensors.mixed(colours, [name[1:] for name in S2_BANDS])
    for band, values in zip(S2_BANDS, seen, strict=True):
        step = RESOLUTION_M[band] // 10
        small = sensors.average(values[None], values.shape[1] // step)[0]
        dn = sensors.rounded(small * np.float32(DN_PER_LEVEL) + OFFSET_DN, "uint16")
        bands[band][top // step : top // step + len(dn)] = dn


def write_bands(
    folder: Path, item: pystac.Item, bands: dict[str, np.ndarray], area: UtmArea, west_m: float
) -> None:
    """Write a file per band beside a lores scene and name them in its item."""
    item.properties["s2:processing_baseline"] = BASELINE
    for band, values in bands.items():
        gsd_m = RESOLUTION_M[band]
        place = on_map(area.epsg, west_m, area.north_m, float(gsd_m))
        write_cog(folder / f"{band}.tif", values[None], place)
        stac.add(item, band, f"{band}.tif", gsd=gsd_m)
