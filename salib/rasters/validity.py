"""Where a raster has data: its no-data values, alpha band and mask, all of them, band by band."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, MaskFlags

SAMPLE_PX = 128


def no_data_values(
    file: rasterio.DatasetReader, numbers: Sequence[int], absent: Sequence[float | int] = ()
) -> list[tuple[float | int, ...]]:
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
    return alpha_band(file) is not None or _has_separate_mask(file)


def alpha_band(file: rasterio.DatasetReader) -> int | None:
    """Number of the band that holds opacity, or None.

    GDAL marks the fourth of four 8-bit bands as opacity unless it is told otherwise, near infrared
    too. Opacity is nearly everywhere none or full: a band that mostly lies between is a picture.
    """
    if ColorInterp.alpha not in file.colorinterp:
        return None
    number = file.colorinterp.index(ColorInterp.alpha) + 1
    if re.search(r"\bnir|infra.?red", file.descriptions[number - 1] or "", re.IGNORECASE):
        return None
    seen = _sampled(file, number)
    return number if np.isin(seen, (0, seen.max())).mean() > 0.5 else None


def masked_out(file: rasterio.DatasetReader, **how: Any) -> Bool[np.ndarray, "height width"] | None:
    """Pixels that the alpha band or the mask of a file takes away; None if it has neither.

    Args:
        file: open at full size: masks are often missing from overviews.
        how: `window`, `out_shape` and so on, as for reading the bands.
    """
    bad, alpha = None, alpha_band(file)
    if alpha is not None:
        bad = file.read(alpha, **how) == 0
    if _has_separate_mask(file):
        hidden = file.read_masks(1, **how) == 0
        bad = hidden if bad is None else bad | hidden
    return bad


def without_data(
    pixels: Shaped[np.ndarray, "bands height width"], values: Sequence[Sequence[float | int]]
) -> Bool[np.ndarray, "bands height width"]:
    """Where each band holds one of its no-data values, or no finite number."""
    bad = np.zeros(pixels.shape, dtype=bool)
    for band, stated, out in zip(pixels, values, bad, strict=True):
        if band.dtype.kind in "fc":
            out |= ~np.isfinite(band)
        for value in stated:
            out |= band == value
    return bad


def _has_separate_mask(file: rasterio.DatasetReader) -> bool:
    """Whether a mask lies in the file or beside it, or one value of all bands together is none."""
    flags = file.mask_flag_enums
    return any(MaskFlags.per_dataset in each and MaskFlags.alpha not in each for each in flags)


def _sampled(file: rasterio.DatasetReader, number: int) -> Shaped[np.ndarray, " pixels"]:
    """Some pixels of a band: of its coarsest overview, or of small windows all over the file."""
    if file.overviews(number):
        small = {"out_shape": tuple(min(SAMPLE_PX, side) for side in file.shape)}
        return file.read(number, **small).ravel()
    rows, cols = (np.linspace(0, max(0, side - SAMPLE_PX // 8), 3) for side in file.shape)
    side = SAMPLE_PX // 8
    corners = [(int(row), int(col)) for row in rows for col in cols]
    windows = [((row, row + side), (col, col + side)) for row, col in corners]
    return np.concatenate([file.read(number, window=window).ravel() for window in windows])
