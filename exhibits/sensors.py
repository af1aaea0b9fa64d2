"""What the page of the fourth sensor shows: the table of sensors, bands as colours, accuracies."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import UInt8, UInt16

from salib.config import SENSORS, Sensor

VIEWS = {"red, green, blue": ("B04", "B03", "B02"), "infrared": ("B08", "B04", "B03")}
VIEWS |= {"short-wave": ("B12", "B8A", "B04")}
BRIGHT = {"red, green, blue": 0.2, "infrared": 0.4, "short-wave": 0.4}
"""Reflectance drawn as 255."""


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
    drawn = {
        name: np.clip(reflectance[..., [row.bands.index(band) for band in chosen]], 0, BRIGHT[name])
        for name, chosen in VIEWS.items()
    }
    scaled = {name: np.rint(view * (255 / BRIGHT[name])) for name, view in drawn.items()}
    return {"lores": colours} | {name: view.astype(np.uint8) for name, view in scaled.items()}


def accuracy_by_sensor(rows: pd.DataFrame) -> pd.DataFrame:
    """Value and interval in percent of each column under nearest neighbours."""
    names = {"value": "accuracy", "ci_low": "low", "ci_high": "high"}
    percent = {new: (rows[old] * 100).round(1) for old, new in names.items()}
    return pd.DataFrame(percent).set_index(rows["model"]).dropna()
