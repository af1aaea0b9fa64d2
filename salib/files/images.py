"""One image file of 8-bit pixel values: whole, in red, green and blue, or refused in a line."""

import io
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

MOST_PX = 4096 * 4096
"""Of an image that is decoded whole."""
MOST_BYTES = 16 * MOST_PX
"""Of its file."""
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, struct.error)


def read_pixels(path: Path | zipfile.Path) -> UInt8[np.ndarray, "height width bands"]:
    """Red, green, blue and, where there is one, a fourth band, as the pixels lie in the file.

    EXIF turns nothing, a palette is resolved, and of several pages the first is read.

    Raises:
        ValueError: if the file is damaged, larger than `MOST_PX` or no 8-bit RGB.
    """
    try:
        data = bytes_of(path)
    except (zipfile.BadZipFile, RuntimeError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise damaged(path, b"", str(error)) from error
    _check_header(path, data)
    image = _decoded(path, data)
    bands = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or bands not in (3, 4) or _whole_mode(path, data) == "LA":
        raise ValueError(
            f"{str(path)!r} must be 8-bit RGB, got {image.dtype} read as {bands} bands: write "
            "red, green and blue in 8 bits, all images by one stretch (gdal_translate -ot Byte "
            "-scale LOW HIGH 0 255 -b 1 -b 2 -b 3)"
        )
    return image[..., [2, 1, 0, 3][:bands]].astype(np.uint8, copy=False)


def check_pixels(name: str, width: int, height: int, most: int = MOST_PX) -> None:
    """Refuse an image by what its header claims, before it takes memory.

    Raises:
        ValueError: if it has more than `most` pixels.
    """
    if width * height > most:
        side = math.isqrt(most)
        raise ValueError(
            f"{name!r} must be an image of at most {side} x {side} px, got {width} x {height}: cut "
            "it into chips, or map it as a georeferenced scene (salib embed --out map.tif)"
        )


def bytes_of(path: Path | zipfile.Path) -> bytes:
    """Content of an image file, or of a zip's member.

    Raises:
        ValueError: if it is larger than `MOST_BYTES`.
    """
    if isinstance(path, zipfile.Path):
        size = path.root.getinfo(path.at).file_size
    else:
        size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(
            f"{str(path)!r} must be an image of at most {MOST_BYTES >> 20} MB, got {size >> 20} MB:"
            " cut it into chips"
        )
    return path.read_bytes()


def _check_header(path: Path | zipfile.Path, data: bytes) -> None:
    """Refuse what is too large by its header; OpenCV tells of what Pillow cannot open."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                size = image.size
    except Image.DecompressionBombError as error:
        raise ValueError(f"{str(path)!r} must be a smaller image, got one whose {error}") from error
    except _UNREADABLE:
        return
    check_pixels(str(path), *size)


def _decoded(path: Path | zipfile.Path, data: bytes) -> np.ndarray:
    level = cv2.utils.logging.getLogLevel()
    # Of each GeoTIFF it tells the tags it does not know; errors are raised here.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    reason = (
        "nothing that OpenCV reads: damaged, or a TIFF of more than four bands or in ZSTD, for "
        "gdal_translate -b 1 -b 2 -b 3 -co COMPRESS=LZW"
    )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        image, reason = None, str(error)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise damaged(path, data, reason if data else "empty")
    return image


def _whole_mode(path: Path | zipfile.Path, data: bytes) -> str:
    """Pillow's name for the bands. OpenCV fills what a cut JPEG or TIFF lacks; Pillow refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about notes beside the pixels
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return image.mode
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise damaged(path, data, str(error)) from error


def damaged(path: str | Path | zipfile.Path, data: bytes, reason: str) -> ValueError:
    """What is raised of a file that is no whole image."""
    return ValueError(
        f"{str(path)!r} must be a whole image, got {len(data)} bytes ({reason}): replace it or "
        "take it away"
    )


def resize_bands(
    image: Shaped[np.ndarray, "height width bands"], side_px: int, interpolation: int
) -> Shaped[np.ndarray, "side side bands"]:
    """An image as a square of `side_px`, by OpenCV, which averages four bands at once at most."""
    groups = [image[..., first : first + 4] for first in range(0, image.shape[2], 4)]
    size = (side_px, side_px)
    done = [cv2.resize(group, size, interpolation=interpolation) for group in groups]
    return np.concatenate([each.reshape(*size, -1) for each in done], 2) if done[1:] else done[0]
