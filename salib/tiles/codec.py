"""Tiles as PNG or lossless WebP, and PNG, JPEG or WebP bytes as pixel values, told by content."""

import io
import struct
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image

ENCODINGS = ("png", "webp")

_ENDS = {"png": b"IEND", "jpeg": b"\xff\xd9"}
_FROM_CV2 = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR = {1: 0, 3: 2, 4: 6}
_AVERAGE = 3
_LEVEL = 1


def image_format(data: bytes) -> str | None:
    """`png`, `jpeg` or `webp` by the first bytes; None for anything else."""
    if data[:8] == _PNG_SIGNATURE:
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def encode(image: Shaped[np.ndarray, "height width bands"], encoding: str) -> bytes:
    """Lossless bytes of an image; "webp" is a quarter smaller, "png" opens everywhere.

    Images of 16 bits are PNG in either case, see `encode_bands`.

    Raises:
        ValueError: for another encoding, or a number of bands that it does not hold.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if image.dtype == np.uint16:
        return encode_bands(image)
    if encoding == "png":
        return encode_png(image)
    if image.shape[2] not in (3, 4):
        raise ValueError(f"image must have 3 or 4 bands for WebP, got {image.shape[2]}")
    buffer = io.BytesIO()
    # `exact` keeps the colour of transparent pixels, `method` 0 and `quality` 0 are the fastest.
    options = {"lossless": True, "method": 0, "quality": 0, "exact": True}
    Image.fromarray(image).save(buffer, "WEBP", **options)
    return buffer.getvalue()


def encode_bands(image: UInt16[np.ndarray, "height width bands"]) -> bytes:
    """Lossless PNG in 16-bit grey of any number of bands, one below the other.

    Raises:
        ValueError: if the image is not square, so that the number of bands could not be read back.
    """
    height, width, _ = image.shape
    if height != width:
        raise ValueError(f"image of 16 bits must be square, got {height} x {width} px")
    stacked = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(-1, width)
    return cv2.imencode(".png", stacked)[1].tobytes()


def encode_png(image: UInt8[np.ndarray, "height width bands"]) -> bytes:
    """Lossless PNG of 1 (grey), 3 (RGB) or 4 (RGBA) bands.

    Every row is filtered by the average of left and above, and compressed by libdeflate at level 1,
    whose bytes do not depend on the processor: half the time of OpenCV's fastest, no larger, and
    faster to decode (benchmarks/tiles.py).
    """
    height, width, bands = image.shape
    if bands not in _PNG_COLOUR:
        raise ValueError(f"image must have 1, 3 or 4 bands, got {bands}")
    from deflate import zlib_compress  # of the extra "curate"; reading does without

    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR[bands], 0, 0, 0)
    packed = zlib_compress(_less_average(image), _LEVEL)
    chunks = (b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")
    return _PNG_SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _less_average(image: UInt8[np.ndarray, "height width bands"]) -> UInt8[np.ndarray, "height _"]:
    """Rows of PNG: the filter's number, then the filter called "Average"."""
    height, width, bands = image.shape
    padded = np.zeros((height + 1, (width + 1) * bands), np.uint8)
    padded[1:, bands:] = image.reshape(height, -1)
    left, above = padded[1:, :-bands], padded[:-1, bands:]
    rows = np.empty((height, 1 + width * bands), np.uint8)
    rows[:, 0] = _AVERAGE
    np.subtract(padded[1:, bands:], (left & above) + ((left ^ above) >> 1), out=rows[:, 1:])
    return rows


def _chunk(kind: bytes, content: bytes | bytearray) -> bytes:
    from deflate import crc32

    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", crc32(body))


def decode(data: bytes) -> Shaped[np.ndarray, "height width bands"]:
    """Pixel values of an encoded image, whatever the archive says it holds.

    Of 8 bits in RGB(A) order; of 16 bits the bands that `encode_bands` was given.

    Raises:
        ValueError: if the bytes are no whole PNG, JPEG or WebP image of 8 bits, or what
            `encode_bands` makes.
    """
    kind = image_format(data)
    if kind is None:
        raise ValueError(f"tile must be PNG, JPEG or WebP, got bytes that begin {data[:16]!r}")
    if kind in _ENDS and _ENDS[kind] not in data[-64:]:
        raise ValueError(f"tile must be a whole {kind} image, got {len(data)} bytes without an end")
    pixels = _read_png(data) if kind == "png" else None
    if pixels is not None:
        return pixels
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.dtype == np.uint16 and pixels.ndim == 2:
        height, width = pixels.shape
        if height % width == 0:
            return np.ascontiguousarray(pixels.reshape(-1, width, width).transpose(1, 2, 0))
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError(
            f"tile must be a whole image of 8 bits, or of 16 bits with square bands one below the "
            f"other, got {len(data)} bytes of {kind}"
        )
    if pixels.ndim == 2:
        return pixels[..., None]
    return cv2.cvtColor(pixels, _FROM_CV2[pixels.shape[2]])


def _read_png(data: bytes) -> UInt8[np.ndarray, "height width bands"] | None:
    """Pixel values by libspng, up to a third faster than OpenCV; None for what it does not read.

    It stops at the last pixel, before the checksum of the compressed bytes, which is checked here.
    """
    fast = _libspng()
    if data[24] != 8 or fast is None or not _is_sound(data, fast[1]):
        return None
    try:
        pixels = fast[0](data)
    except RuntimeError:
        return None
    if pixels.dtype != np.uint8:
        return None
    return pixels[..., None] if pixels.ndim == 2 else pixels


@cache
def _libspng() -> tuple[Callable, Callable] | None:
    """What reads a PNG and sums up its bytes; None without the extra "curate", which brings it."""
    try:
        from deflate import crc32
        from pyspng import load
    except ImportError:
        return None
    return load, crc32


def _is_sound(png: bytes, crc32: Callable) -> bool:
    """Whether the chunks of a PNG have the checksums that they name."""
    view, start = memoryview(png), len(_PNG_SIGNATURE)
    while start + 12 <= len(png):
        end = start + 8 + int.from_bytes(view[start : start + 4])
        if crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return False
        start = end + 4
    return start == len(png)
