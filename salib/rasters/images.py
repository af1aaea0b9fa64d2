"""One small TIFF, of a folder or of a zip: red, green and blue in 8 bits by the rule of scenes."""

import warnings

import numpy as np
from jaxtyping import Bool, UInt8
from rasterio.errors import RasterioIOError
from rasterio.io import MemoryFile

from salib.files.images import check_pixels
from salib.rasters.bands import told_of
from salib.rasters.pixels import rule_of
from salib.rasters.validity import masked_out, no_data_values, states_validity


def read_tiff(
    data: bytes, name: str
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """Red, green and blue, and where there is data.

    Args:
        data: the file's content.
        name: of the file.

    Raises:
        ValueError: if the file is damaged or too large, or does not tell its bands and units.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it lies nowhere does not matter
        return _read(data, name)


def _read(
    data: bytes, name: str
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    try:
        with MemoryFile(data or b"0") as memory, memory.open() as file:
            check_pixels(name, file.width, file.height)
            rule = rule_of(told_of(file, name), "hires")
            numbers = list(rule.bands)
            stored, hidden = file.read(numbers), masked_out(file)
            nodata, stated = no_data_values(file, numbers), states_validity(file)
    except RasterioIOError as error:
        raise ValueError(
            f"{name!r} must be a whole image, got {len(data)} bytes ({error}): replace it or take "
            "it away"
        ) from error
    valid = rule.valid(stored, nodata, stated=stated)
    valid = valid if hidden is None else valid & ~hidden
    return np.ascontiguousarray(rule.apply(stored, valid).transpose(1, 2, 0)), valid
