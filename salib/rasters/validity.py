"""Where a raster has data: its no-data values, alpha band and mask, all of them, band by band."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, MaskFlags


def no_data_values(
    file: rasterio.DatasetReader, numbers: Sequence[int], absent: Sequence[float] = ()
) -> list[tuple[float, ...]]:
    """Values that stand for no data in each of some bands.

    A band's own value counts. `absent` counts in files that state nothing: neither such a value,
    nor an alpha band, nor a mask.
    """
    if not states_validity(file):
        return [tuple(absent)] * len(numbers)
    stated = [file.nodatavals[number - 1] for number in numbers]
    return [() if value is None else (value,) for value in stated]


def states_validity(file: rasterio.DatasetReader) -> bool:
    """Whether a file says where it has data."""
    return has_mask(file) or any(value is not None for value in file.nodatavals)


def has_mask(file: rasterio.DatasetReader) -> bool:
    """Whether a file has an alpha band or a mask of its own."""
    masked = any(MaskFlags.per_dataset in flags for flags in file.mask_flag_enums)
    return masked or ColorInterp.alpha in file.colorinterp


def masked_out(file: rasterio.DatasetReader, **how: Any) -> Bool[np.ndarray, "height width"] | None:
    """Pixels that the alpha band or the mask of a file takes away; None if it has neither.

    Args:
        how: `window`, `out_shape` and so on, as for reading the bands.
    """
    bad = None
    if ColorInterp.alpha in file.colorinterp:
        bad = file.read(file.colorinterp.index(ColorInterp.alpha) + 1, **how) == 0
    if any(MaskFlags.per_dataset in flags for flags in file.mask_flag_enums):
        hidden = file.read_masks(1, **how) == 0
        bad = hidden if bad is None else bad | hidden
    return bad


def without_data(
    pixels: Shaped[np.ndarray, "bands height width"], values: Sequence[Sequence[float]]
) -> Bool[np.ndarray, "bands height width"]:
    """Where each band holds one of its no-data values, or no finite number."""
    bad = np.zeros(pixels.shape, dtype=bool)
    for band, stated, out in zip(pixels, values, bad, strict=True):
        if band.dtype.kind == "f":
            out |= ~np.isfinite(band)
        for value in stated:
            out |= band == value
    return bad
