"""Tiles as PNG or lossless WebP, and PNG, JPEG or WebP bytes as pixel values, told by content."""

import io

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image

ENCODINGS = ("png", "webp")

_ENDS = {"png": b"IEND", "jpeg": b"\xff\xd9"}
_SWAP = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
"""Of red and blue, there and back."""


def image_format(data: bytes) -> str | None:
    """`png`, `jpeg` or `webp` by the first bytes; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def encode(image: Shaped[np.ndarray, "height width bands"], encoding: str) -> bytes:
    """Lossless bytes of an image; "webp" is a quarter smaller, "png" opens everywhere.

    Images of 16 bits are PNG in grey in either case, bands one below the other.

    Raises:
        ValueError: for another encoding, a number of bands that it does not hold, or an image of 16
            bits that is not square, so that the number of bands could not be read back.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if image.dtype == np.uint16:
        height, width, _ = image.shape
        if height != width:
            raise ValueError(f"image of 16 bits must be square, got {height} x {width} px")
        stacked = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(-1, width)
        return cv2.imencode(".png", stacked)[1].tobytes()
    if image.shape[2] not in _SWAP:
        raise ValueError(f"image must have 3 or 4 bands, got {image.shape[2]}")
    if encoding == "png":
        return cv2.imencode(".png", cv2.cvtColor(image, _SWAP[image.shape[2]]))[1].tobytes()
    buffer = io.BytesIO()
    # `exact` keeps the colour of transparent pixels, `method` 0 and `quality` 0 are the fastest.
    options = {"lossless": True, "method": 0, "quality": 0, "exact": True}
    Image.fromarray(image).save(buffer, "WEBP", **options)
    return buffer.getvalue()


def decode(data: bytes) -> Shaped[np.ndarray, "height width bands"]:
    """Pixel values of an encoded image, whatever the archive says it holds.

    Of 8 bits in RGB(A) order; of 16 bits the bands that `encode` was given.

    Raises:
        ValueError: if the bytes are no whole PNG, JPEG or WebP image of 8 bits, or what `encode`
            makes of 16.
    """
    kind = image_format(data)
    if kind is None:
        raise ValueError(f"tile must be PNG, JPEG or WebP, got bytes that begin {data[:16]!r}")
    if kind in _ENDS and _ENDS[kind] not in data[-64:]:
        raise ValueError(f"tile must be a whole {kind} image, got {len(data)} bytes without an end")
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
    return cv2.cvtColor(pixels, _SWAP[pixels.shape[2]])
