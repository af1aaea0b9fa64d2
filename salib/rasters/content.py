"""What a file's bands hold: which of them are read, where they have data, what numbers mean."""

from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from salib.rasters.validity import alpha_band, has_separate_mask, no_data_values

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
PLAIN = (ColorInterp.gray, ColorInterp.undefined)
DECIBELS = ("db", "decibel", "decibels")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is read of a file.

    Attributes:
        numbers: of the bands, from 1.
        dtype: of their pixels.
        no_data: values that stand for none, per band.
        alpha: number of the band of opacity, if there is one.
        masked: whether a mask lies in the file or beside it.
        scales, offsets: value = pixel x scale + offset, per band; 1 and 0 where nothing is stated.
        in_db: whether the file says that it holds decibels.
    """

    numbers: tuple[int, ...]
    dtype: np.dtype
    no_data: tuple[tuple[float | int, ...], ...]
    alpha: int | None
    masked: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    in_db: bool

    @classmethod
    def of(
        cls,
        file: rasterio.DatasetReader,
        small: rasterio.DatasetReader,
        href: str,
        *,
        bands: int,
        absent: tuple[float | int, ...] = (),
    ) -> "Content":
        """Look at a file once, when it is opened.

        Args:
            file: at full size.
            small: at its coarsest overview.
            href: its name in messages.
            bands: how many are read; three are red, green and blue, by their colours if it says.
            absent: values that stand for no data where the file states nothing.

        Raises:
            ValueError: if it has too few bands or others, or no real numbers.
        """
        alpha = alpha_band(file, small)
        numbers = _numbers(file, href, bands, alpha)
        kinds = {file.dtypes[number - 1] for number in numbers}
        if len(kinds) > 1 or kinds.pop().startswith("complex"):
            got = ", ".join(file.dtypes[number - 1] for number in numbers)
            raise ValueError(f"{href} must hold real numbers of one type, got {got}")
        scales, offsets = (
            tuple(float(stated[number - 1]) for number in numbers)
            for stated in (file.scales, file.offsets)
        )
        if not all(scales) or not np.isfinite([*scales, *offsets]).all():
            raise ValueError(f"{href} must state a scale, got {scales} with offsets {offsets}")
        return cls(
            numbers=numbers,
            dtype=np.dtype(file.dtypes[numbers[0] - 1]),
            no_data=tuple(no_data_values(file, numbers, absent, small)),
            alpha=alpha,
            masked=has_separate_mask(file),
            scales=scales,
            offsets=offsets,
            in_db=all(str(file.units[n - 1]).lower() in DECIBELS for n in numbers),
        )

    @property
    def scaled(self) -> bool:
        """Whether the file states a scale or an offset."""
        return any(scale != 1 for scale in self.scales) or any(self.offsets)


def _numbers(
    file: rasterio.DatasetReader, href: str, bands: int, alpha: int | None
) -> tuple[int, ...]:
    """Bands to read: red, green and blue where three are asked for, else the first ones."""
    colours = file.colorinterp
    told = ", ".join(colour.name for colour in colours)
    if bands == len(COLOURS) and all(colours.count(colour) == 1 for colour in COLOURS):
        return tuple(colours.index(colour) + 1 for colour in COLOURS)
    first = [number for number in range(1, file.count + 1) if number != alpha][:bands]
    if len(first) < bands:
        raise ValueError(
            f"{href} must have {bands} bands, got {len(first)} ({told})"
            + (": expand it (gdal_translate -expand rgb)" if told == "palette" else "")
        )
    if bands == len(COLOURS) and any(colours[number - 1] not in PLAIN for number in first):
        raise ValueError(f"{href} must have red, green and blue, got {told}: convert it to RGB")
    return tuple(first)
