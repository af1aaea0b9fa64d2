"""Tiles as PNG or lossless WebP, and PNG, JPEG or WebP bytes as levels, told by content."""

import io

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

ENCODINGS = ("png", "webp")

_ENDS = {"png": b"IEND", "jpeg": b"\xff\xd9"}
_TO_CV2 = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
_FROM_CV2 = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
_PNG_FLAGS = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_PAETH,
]


def image_format(data: bytes) -> str | None:
    """`png`, `jpeg` or `webp` by the first bytes; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def encode(image: UInt8[np.ndarray, "height width bands"], encoding: str) -> bytes:
    """Lossless bytes of an image; "webp" is a quarter smaller, "png" opens everywhere.

    Raises:
        ValueError: for another encoding, or a number of bands that it does not hold.
    """
    if encoding == "png":
        return encode_png(image)
    if encoding != "webp":
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if image.shape[2] not in (3, 4):
        raise ValueError(f"image must have 3 or 4 bands for WebP, got {image.shape[2]}")
    buffer = io.BytesIO()
    # `exact` keeps the colour of transparent pixels, `method` 0 and `quality` 0 are the fastest.
    options = {"lossless": True, "method": 0, "quality": 0, "exact": True}
    Image.fromarray(image).save(buffer, "WEBP", **options)
    return buffer.getvalue()


def encode_png(image: UInt8[np.ndarray, "height width bands"]) -> bytes:
    """Lossless PNG of 1 (grey), 3 (RGB) or 4 (RGBA) bands, at the fastest useful level."""
    bands = image.shape[2]
    if bands not in (1, 3, 4):
        raise ValueError(f"image must have 1, 3 or 4 bands, got {bands}")
    pixels = cv2.cvtColor(image, _TO_CV2[bands]) if bands in _TO_CV2 else image
    return cv2.imencode(".png", pixels, _PNG_FLAGS)[1].tobytes()


def decode(data: bytes) -> UInt8[np.ndarray, "height width bands"]:
    """Levels of an encoded image, in RGB(A) order, whatever the archive says it holds.

    Raises:
        ValueError: if the bytes are no whole 8-bit PNG, JPEG or WebP image.
    """
    kind = image_format(data)
    if kind is None:
        raise ValueError(f"tile must be PNG, JPEG or WebP, got bytes that begin {data[:16]!r}")
    if kind in _ENDS and _ENDS[kind] not in data[-64:]:
        raise ValueError(f"tile must be a whole {kind} image, got {len(data)} bytes without an end")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError(f"tile must be a whole 8-bit image, got {len(data)} bytes of {kind}")
    if pixels.ndim == 2:
        return pixels[..., None]
    return cv2.cvtColor(pixels, _FROM_CV2[pixels.shape[2]])
