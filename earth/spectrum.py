"""Sentinel-2-like bands from red, green, blue and near infrared."""

import numpy as np
from jaxtyping import Float

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
BAND_NAMES = ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12")


def mixed(
    colours: Float[np.ndarray, "4 rows cols"], names: tuple[str, ...]
) -> Float[np.ndarray, "bands rows cols"]:
    """Bands by name from red, green, blue and near infrared, in the same units."""
    return np.tensordot(np.array([SHARES[name] for name in names], np.float32), colours, 1)
