"""What the page of the fourth sensor shows: the table of sensors, and bands as colours."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import UInt8, UInt16

from salib.config import SENSORS, Sensor

VIEWS = {
    "red, green, blue": (0.2, ("B04", "B03", "B02")),
    "infrared": (0.4, ("B08", "B04", "B03")),
    "short-wave": (0.4, ("B12", "B8A", "B04")),
}
"""The reflectance drawn as 255, and the bands drawn red, green and blue."""


def sensor_rows(sensors: Mapping[str, Sensor]) -> pd.DataFrame:
    """The table of sensors in short, one row each."""
    rows = {
        name: {
            "bands": len(row.bands) if len(row.bands) > 3 else ", ".join(row.bands),
            "native metres per pixel": row.native_gsd_m,
            "pixels along one of lores": row.factor,
            "pixel values": f"0..{row.max_value:,}",
            "collections": ", ".join(row.collections),
        }
        for name, row in sensors.items()
    }
    return pd.DataFrame(rows).T


def band_views(
    colours: UInt8[np.ndarray, "height width 3"], bands: UInt16[np.ndarray, "height width 12"]
) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """A true-colour tile, and three bands of the tile of twelve at a time as colours."""
    row = SENSORS["s2"]
    reflectance = bands / np.float32(row.full_scale or 1)
    views = {"lores": colours}
    for name, (bright, chosen) in VIEWS.items():
        view = reflectance[..., [row.bands.index(band) for band in chosen]]
        views[name] = np.rint(255 * (view / bright).clip(0, 1)).astype(np.uint8)
    return views
