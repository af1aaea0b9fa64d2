"""One image file of 8-bit pixel values: whole, in red, green and blue, or refused in a line."""

import io
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
        ValueError: if the file is damaged, no PNG, JPEG or WebP, larger than `MOST_PX` or no 8-bit
            RGB.
    """
    data = bytes_of(path)
    with _damage_told(path, data):
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    check_pixels(str(path), *image.size)
    with _damage_told(path, data):
        image.load()
    deep = image.format == "PNG" and data[24] > 8  # Pillow would drop the lower bits
    if deep or image.mode not in ("RGB", "RGBA", "P"):
        raise ValueError(
            f"{str(path)!r} must be 8-bit RGB, got {'16-bit ' if deep else ''}bands "
            f"{', '.join(image.getbands())}: write red, green and blue in 8 bits, all images by "
            "one stretch (gdal_translate -ot Byte -scale LOW HIGH 0 255 -b 1 -b 2 -b 3)"
        )
    return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))


@contextmanager
def _damage_told(path: Path | zipfile.Path, data: bytes) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about notes beside the pixels
            yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"{str(path)!r} must be a smaller image, got one whose {error}") from error
    except _UNREADABLE as error:
        raise damaged(path, data, str(error)) from error


def damaged(path: str | Path | zipfile.Path, data: bytes, reason: str) -> ValueError:
    """What is raised of a file that is no whole image."""
    return ValueError(
        f"{str(path)!r} must be a whole image, got {len(data)} bytes ({reason}): replace it or "
        "take it away"
    )


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
        ValueError: if it is larger than `MOST_BYTES`, or its part of a zip is damaged.
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
    try:
        return path.read_bytes()
    except (zipfile.BadZipFile, RuntimeError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise damaged(path, b"", str(error)) from error


def resize_bands(
    image: Shaped[np.ndarray, "height width bands"], side_px: int, interpolation: int
) -> Shaped[np.ndarray, "side side bands"]:
    """An image as a square of `side_px`, by OpenCV, which averages four bands at once at most."""
    groups = [image[..., first : first + 4] for first in range(0, image.shape[2], 4)]
    size = (side_px, side_px)
    done = [cv2.resize(group, size, interpolation=interpolation) for group in groups]
    return np.concatenate([each.reshape(*size, -1) for each in done], 2) if done[1:] else done[0]
