"""Pictures in which physical size alone tells the class: mosaics of cells of one size.

Half of them are Voronoi cells, half turned rectangles; colours, contrast and noise are drawn for
each picture, so that neither colour nor the number of pixels of a cell tells how large it is.
"""

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

Rng = np.random.Generator
Cells = Int64[np.ndarray, "rows cols"]
COLOURS = 4096
"""Colours of a picture, of which each cell takes one by its number."""


def draw_mosaic(
    rng: Rng, *, gsd_m: float, cell_m: float, side_px: int
) -> UInt8[np.ndarray, "side side 3"]:
    """A square of ground of cells of about `cell_m` a side; pixels average 2 x 2 samples.

    Args:
        rng: what draws it.
        gsd_m: metres per pixel.
        cell_m: root of a cell's mean area, in metres.
        side_px: of the picture.
    """
    angle, across, down = rng.random(3) * (2 * np.pi, 1000, 1000)
    steps = (np.arange(2 * side_px) + 0.5) * gsd_m / 2 / cell_m
    cos, sin = np.cos(angle), np.sin(angle)
    u = across + cos * steps + sin * steps[:, None]
    v = down - sin * steps + cos * steps[:, None]
    salt = int(rng.integers(2**31))
    cells = (_voronoi if rng.random() < 0.5 else _bricks)(u, v, salt)
    middle, contrast, noise = rng.uniform(70, 170, 3), rng.uniform(10, 45), rng.uniform(2, 10)
    colours = middle + contrast * rng.standard_normal((COLOURS, 3))
    fine = colours[cells].astype(np.float32)
    picture = cv2.resize(fine, (side_px, side_px), interpolation=cv2.INTER_AREA)
    picture += noise * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _voronoi(u: Float64[np.ndarray, "r c"], v: Float64[np.ndarray, "r c"], salt: int) -> Cells:
    """Cells around points of a lattice, each moved within its square."""
    i, j = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    best, nearest = np.full(u.shape, np.inf), np.zeros(u.shape, np.int64)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            number = _hashed(i + di, j + dj, salt)
            x, y = i + di + (number % 1009) / 1009, j + dj + (number // 1009 % 1013) / 1013
            apart = (u - x) ** 2 + (v - y) ** 2
            closer = apart < best
            best = np.where(closer, apart, best)
            nearest = np.where(closer, number, nearest)
    return nearest % COLOURS


def _bricks(u: Float64[np.ndarray, "r c"], v: Float64[np.ndarray, "r c"], salt: int) -> Cells:
    """Rows of height 1, each of bricks of a length and an offset of its own."""
    row = np.floor(v).astype(np.int64)
    number = _hashed(row, np.zeros_like(row), salt)
    length = 0.7 * 2 ** (number % 1009 / 1009)
    brick = np.floor(u / length + number // 1009 % 1013 / 1013).astype(np.int64)
    return _hashed(brick, row, salt) % COLOURS


def _hashed(i: Cells, j: Cells, salt: int) -> Cells:
    """A number below 2^31 of a place in a lattice."""
    mixed = (i * 73_856_093) ^ (j * 19_349_663) ^ salt
    mixed = (mixed ^ (mixed >> 13)) * 1_274_126_177 & 0x7FFFFFFF
    return (mixed ^ (mixed >> 16)) & 0x7FFFFFFF
