"""Backscatter to the 8-bit levels of a tile, whatever its unit."""

import numpy as np
from jaxtyping import Shaped, UInt8

QUANTS = ("paper", "released")
FULL_SCALE_DN = 1000
DN_OF_GAMMA0 = 526.0
"""Median of a Sentinel-1 IW product's gamma calibration table: DN = 526 sqrt(gamma0)."""

MOST_POWER = 10.0


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


def amplitude(pixels: Shaped[np.ndarray, "*shape"], *, in_db: bool) -> Shaped[np.ndarray, "*shape"]:
    """What a GRD product would hold for gamma0, so that one stretch serves both.

    Args:
        pixels: backscatter, as power or in decibels; integers that are not in decibels are digital
            numbers already.
        in_db: whether it is in decibels.

    Raises:
        ValueError: if values cannot be of that unit: power and amplitude are never negative, and no
            ground scatters a power above 10 throughout.
    """
    if not in_db:
        if pixels.dtype.kind in "if" and pixels.min(initial=0) < 0:
            raise ValueError(
                f"backscatter must not be negative, got {pixels.min():.4g}: if these are decibels, "
                'say so by the unit "dB", of the bands in the STAC item or of those in the file'
            )
        if pixels.dtype.kind != "f":
            return pixels
        some = pixels.ravel()[::61]
        some = some[some > 0]
        if some.size and np.median(some) > MOST_POWER:
            raise ValueError(
                f"backscatter must be a power, got a median of {np.median(some):.4g}: if these are "
                "amplitudes, convert them to 16-bit integers, as a GRD product has them"
            )
    power = pixels.astype(np.float32)
    linear = 10 ** (power / 10) if in_db else power
    return (DN_OF_GAMMA0 * np.sqrt(np.maximum(linear, 0))).astype(np.float32)
