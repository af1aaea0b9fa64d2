"""Where a raster has data: its no-data values, alpha band and mask, looked up once at opening."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, MaskFlags

SAMPLE_PX = 128


@dataclass(frozen=True, kw_only=True)
class Validity:
    """What a file says of where it has data.

    Attributes:
        nodata: value that stands for none, of each band; None where there is no such value.
        alpha: number of the band of opacity, if there is one.
        masked: whether a mask lies in the file or beside it, or one value of all bands together is
            none.
    """

    nodata: tuple[float | int | None, ...]
    alpha: int | None
    masked: bool

    @property
    def hides(self) -> bool:
        """Whether pixels are taken away by an alpha band or a mask."""
        return self.masked or self.alpha is not None

    @property
    def stated(self) -> bool:
        """Whether the file says where it has data."""
        return self.hides or any(value is not None for value in self.nodata)

    def values(self, numbers: Sequence[int]) -> list[tuple[float | int, ...]]:
        """Values that stand for no data in each of some bands, by their numbers from 1."""
        chosen = [self.nodata[number - 1] for number in numbers]
        return [() if value is None else (value,) for value in chosen]

    def hidden(
        self, file: rasterio.DatasetReader, **how: Any
    ) -> Bool[np.ndarray, "height width"] | None:
        """Pixels that the alpha band or the mask takes away; None if there is neither.

        Args:
            file: open at full size: masks are often missing from overviews.
            how: `window`, `out_shape` and so on, as for reading the bands.
        """
        bad = None if self.alpha is None else file.read(self.alpha, **how) == 0
        if self.masked:
            hidden = file.read_masks(1, **how) == 0
            bad = hidden if bad is None else bad | hidden
        return bad


def validity_of(
    file: rasterio.DatasetReader, small: rasterio.DatasetReader | None = None
) -> Validity:
    """Look at a file that is open at full size.

    Args:
        file: open at full size.
        small: the same file at its coarsest overview, if it is open: some pixels may be read.
    """
    flags = file.mask_flag_enums
    return Validity(
        nodata=nodata_of(file),
        alpha=_alpha_band(file, small or file),
        masked=any(MaskFlags.per_dataset in e and MaskFlags.alpha not in e for e in flags),
    )


def nodata_of(file: rasterio.DatasetReader) -> tuple[float | int | None, ...]:
    """Value that stands for none of each band, whole where its numbers are."""
    return tuple(
        int(value) if value is not None and kind[0] in "iu" and value.is_integer() else value
        for value, kind in zip(file.nodatavals, file.dtypes, strict=True)
    )


def _alpha_band(file: rasterio.DatasetReader, small: rasterio.DatasetReader) -> int | None:
    """Number of the band that holds opacity, or None.

    GDAL marks the fourth of four 8-bit bands as opacity unless it is told otherwise, near infrared
    too. Opacity is nearly everywhere none or full: a band that mostly lies between is a picture.
    """
    if ColorInterp.alpha not in file.colorinterp:
        return None
    number = file.colorinterp.index(ColorInterp.alpha) + 1
    if re.search(r"\bnir|infra.?red", file.descriptions[number - 1] or "", re.IGNORECASE):
        return None
    seen = _sampled(small, number)
    return number if np.isin(seen, (0, seen.max())).mean() > 0.5 else None


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
