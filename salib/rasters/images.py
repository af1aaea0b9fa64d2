"""One small TIFF, of a folder or of a zip: red, green and blue in 8 bits by the rule of scenes."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from rasterio.errors import RasterioIOError
from rasterio.io import MemoryFile

from salib.files.images import check_pixels, damaged
from salib.rasters.bands import told_of
from salib.rasters.rules import rule_of
from salib.rasters.validity import validity_of


def read_tiff(
    data: bytes, name: str, **reading: Any
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """Red, green and blue, and where there is data.

    Args:
        data: the file's content.
        name: of the file.
        reading: as for `rule_of`.

    Raises:
        ValueError: if the file is damaged or too large, or does not tell its bands and units.
    """
    try:
        with warnings.catch_warnings(), MemoryFile(data or b"0") as memory:
            warnings.simplefilter("ignore", UserWarning)  # that it lies nowhere does not matter
            with memory.open() as file:
                check_pixels(name, file.width, file.height)
                rule, validity = rule_of(told_of(file, name), "hires", **reading), validity_of(file)
                stored, hidden = file.read(rule.bands), validity.hidden(file)
    except RasterioIOError as error:
        raise damaged(name, data, str(error)) from error
    valid = rule.valid(stored, validity.values(rule.bands), stated=validity.stated)
    valid = valid if hidden is None else valid & ~hidden
    return np.ascontiguousarray(rule.levels(rule.values(stored, valid)).transpose(1, 2, 0)), valid
