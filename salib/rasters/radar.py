"""Backscatter to the 8-bit levels of a tile, whatever its unit."""

import numpy as np
from jaxtyping import Shaped, UInt8

QUANTS = ("paper", "released")
FULL_SCALE_DN = 1000
DN_OF_GAMMA0 = 526.0
"""Median of a Sentinel-1 IW product's gamma calibration table: DN = 526 sqrt(gamma0)."""


def sar_to_8bit(
    dn: Shaped[np.ndarray, "*shape"], *, quant: str = "paper"
) -> UInt8[np.ndarray, "*shape"]:
    """Radar amplitude to 8 bits: floor(DN * 256 / 1000), row D12.

    Args:
        dn: digital numbers of a GRD product, or what `amplitude` makes of another.
        quant: `paper` saturates at 255; `released` wraps 256 to 0 as the released code does, so
            that the brightest pixels are black.
    """
    levels = np.minimum(np.arange(1 << 16) * 256 // FULL_SCALE_DN, 256)
    table = np.minimum(levels, 255) if quant == "paper" else levels % 256
    if dn.dtype != np.uint16:
        dn = np.clip(dn, 0, 65535).astype(np.uint16)
    return np.take(table.astype(np.uint8), dn)


def amplitude(backscatter: Shaped[np.ndarray, "*shape"], unit: str) -> Shaped[np.ndarray, "*shape"]:
    """What a GRD product would hold for gamma0, so that one stretch serves all.

    Args:
        backscatter: values below 0 count as 0, but for decibels.
        unit: "power", "amplitude" or "db".
    """
    power = backscatter.astype(np.float32)
    if unit == "amplitude":
        power = power * np.abs(power)
    linear = 10 ** (power / 10) if unit == "db" else power
    return (DN_OF_GAMMA0 * np.sqrt(np.maximum(linear, 0))).astype(np.float32)
