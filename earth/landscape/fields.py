"""Periodic textures, sampled at world coordinates so that a field is a function of location.

The stock is fixed; a seed enters only through where, at which scale and at which angle a texture
is laid on the ground. Each texture is a pyramid, so coarse pixels see area averages.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt16
from scipy.spatial import KDTree

TEXTURE_SIDE = 512
PARCEL_SIDE = 1024
EXPONENTS = (0.6, 1.0, 1.3, 1.6, 2.0, 2.4, 3.0)
_STOCK_SEED = 20241113

Rng = np.random.Generator
Coverage = Float32[np.ndarray, "rows cols"]
Pyramid = list[Float32[np.ndarray, "_ _"]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A window of ground pixels: north-west corner in metres east and south, and its sampling."""

    x_m: float
    y_m: float
    gsd_m: float
    rows: int
    cols: int

    def box(self, top: int, bottom: int, left: int, right: int) -> "Grid":
        """Return the window of some rows and columns of this one."""
        x_m, y_m = self.x_m + left * self.gsd_m, self.y_m + top * self.gsd_m
        return replace(self, x_m=x_m, y_m=y_m, rows=bottom - top, cols=right - left)

    def shifted(self, x_m: float, y_m: float) -> "Grid":
        """Return this window seen from the origin (x_m, y_m)."""
        return replace(self, x_m=self.x_m - x_m, y_m=self.y_m - y_m)

    @property
    def swapped(self) -> "Grid":
        """This window with its two axes exchanged."""
        return Grid(x_m=self.y_m, y_m=self.x_m, gsd_m=self.gsd_m, rows=self.cols, cols=self.rows)

    @property
    def east(self) -> Float64[np.ndarray, " cols"]:
        """Metres east of the pixel centres, exact far from the origin."""
        return self.x_m + (np.arange(self.cols) + 0.5) * self.gsd_m

    @property
    def south(self) -> Float64[np.ndarray, " rows"]:
        """Metres south of the pixel centres, exact far from the origin."""
        return self.y_m + (np.arange(self.rows) + 0.5) * self.gsd_m

    def turned(self, angle: float) -> tuple[Coverage, Coverage]:
        """Metres along two axes turned by `angle` radians, for windows near their origin."""
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        xs, ys = self.east.astype(np.float32)[None], self.south.astype(np.float32)[:, None]
        return cos * xs + sin * ys, cos * ys - sin * xs

    def distance(self, x_m: float = 0.0, y_m: float = 0.0) -> Coverage:
        """Metres of each pixel from a point, for windows near their origin."""
        xs, ys = self.turned(0.0)
        return np.hypot(xs - np.float32(x_m), ys - np.float32(y_m))


class Lay(NamedTuple):
    """How a texture lies on the ground: metres per texel, angle, and offset in texels."""

    texel_m: float
    angle: float
    u: float
    v: float

    @classmethod
    def draw(cls, rng: Rng, texel_m: float) -> "Lay":
        """Draw angle and offset."""
        angle, u, v = rng.random(3)
        return cls(texel_m, 2 * np.pi * angle, 1024 * u, 1024 * v)

    def warp(self, field: np.ndarray, grid: Grid, shrink: float, method: int) -> np.ndarray:
        """Field at the pixels of a window, repeated without end; a value is `shrink` texels."""
        step, side, unit = grid.gsd_m, len(field), 1 / (self.texel_m * shrink)
        cos, sin = np.cos(self.angle) * unit, np.sin(self.angle) * unit
        x, y = grid.x_m + step / 2, grid.y_m + step / 2
        u = (cos * x + sin * y + self.u / shrink) % side
        v = (cos * y - sin * x + self.v / shrink) % side
        rows = [[cos * step, sin * step, u - 0.5], [-sin * step, cos * step, v - 0.5]]
        size, flags = (grid.cols, grid.rows), method | cv2.WARP_INVERSE_MAP
        matrix = np.array(rows, np.float32)
        return cv2.warpAffine(field, matrix, size, flags=flags, borderMode=cv2.BORDER_WRAP)


@cache
def noise_pyramid(exponent: float) -> Pyramid:
    """Fractal noise of unit variance with amplitude spectrum k^-exponent, one of EXPONENTS."""
    rng = np.random.default_rng([_STOCK_SEED, EXPONENTS.index(exponent)])
    shape = (TEXTURE_SIDE, TEXTURE_SIDE)
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    rows, cols = np.fft.fftfreq(TEXTURE_SIDE)[:, None], np.fft.rfftfreq(TEXTURE_SIDE)[None]
    wave = np.hypot(rows, cols) * TEXTURE_SIDE
    wave[0, 0] = np.inf
    field = np.fft.irfft2(spectrum * np.maximum(wave, 3.0) ** -exponent, shape)
    return _pyramid((field / field.std()).astype(np.float32))


@cache
def relief_pyramid() -> Pyramid:
    """Hillshade of unit variance of a fractal terrain lit along the texture's first axis."""
    terrain = noise_pyramid(2.0)[0].astype(np.float64)
    ridged = terrain - 0.7 * np.abs(terrain)
    slope = np.roll(ridged, 1, 1) - np.roll(ridged, -1, 1)
    return _pyramid((slope / slope.std()).astype(np.float32))


@cache
def leaves_pyramid(index: int) -> Pyramid:
    """Dead leaves: overlapping discs, lit from one side, unit variance (crowns, boulders)."""
    rng = np.random.default_rng([_STOCK_SEED, 100 + index])
    field = np.zeros((TEXTURE_SIDE, TEXTURE_SIDE), np.float32)
    radii = np.exp(rng.normal(np.log(3.0 + 1.5 * index), 0.35, 9000))
    half = TEXTURE_SIDE / 2
    for radius in radii:
        x, y = rng.random(2) * TEXTURE_SIDE
        level = float(rng.normal())
        for dx, dy in product((-half, half), repeat=2):
            at = (int(16 * (x + dx)), int(16 * (y + dy)))
            lit = (int(at[0] + 5 * radius), int(at[1] + 5 * radius))
            cv2.circle(field, at, int(16 * radius), level - 0.7, -1, cv2.LINE_8, 4)
            cv2.circle(field, lit, int(10 * radius), level + 0.7, -1, cv2.LINE_8, 4)
    return _pyramid((field - field.mean()) / field.std())


@cache
def parcels(index: int) -> tuple[UInt16[np.ndarray, "side side"], Pyramid]:
    """Parcel numbers, and distance to the parcel's edge in texels.

    Even indices are rectangles cut in two again and again, odd ones Voronoi cells.
    """
    rng = np.random.default_rng([_STOCK_SEED, 200 + index])
    ids = _cuts(rng, index) if index % 2 == 0 else _voronoi(rng, 260)
    edge = np.zeros(ids.shape, np.uint8)
    for axis in (0, 1):
        change = ids != np.roll(ids, 1, axis)
        edge |= change | np.roll(change, -1, axis)
    inner = np.pad(1 - edge, 64, mode="wrap")
    distance = cv2.distanceTransform(inner, cv2.DIST_L2, 5)[64:-64, 64:-64]
    return ids, _pyramid(np.ascontiguousarray(distance))


def sample(pyramid: Pyramid, grid: Grid, lay: Lay) -> Coverage:
    """Texture at the pixels of a window."""
    level = int(np.clip(np.log2(max(grid.gsd_m / lay.texel_m, 1.0)) + 0.25, 0, len(pyramid) - 1))
    return lay.warp(pyramid[level], grid, 2.0**level, cv2.INTER_LINEAR)


def _pyramid(field: Float32[np.ndarray, "side side"]) -> Pyramid:
    layers = [field]
    while layers[-1].shape[0] > 32:
        fine = layers[-1]
        layers.append((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4)
    return layers


def _cuts(rng: Rng, index: int) -> UInt16[np.ndarray, "side side"]:
    ids = np.zeros((PARCEL_SIDE, PARCEL_SIDE), np.uint16)
    waiting, count = [(0, 0, PARCEL_SIDE, PARCEL_SIDE)], 0
    smallest, slender = ((40, 2.2), (26, 5.0), (64, 1.6), (34, 3.2))[index // 2 % 4]
    while waiting:
        top, left, bottom, right = waiting.pop()
        height, width = bottom - top, right - left
        longer = max(height, width)
        small = height * width < smallest**2 * (1 + 6 * rng.random() ** 2)
        if small or longer < 2 * smallest / slender:
            ids[top:bottom, left:right] = count
            count += 1
            continue
        ratio = float(np.clip(rng.normal(0.5, 0.14), 0.25, 0.75))
        across = height > width if rng.random() < 1 - 0.13 * slender else height < width
        side = height if across else width
        cut = int(side * ratio)
        if min(cut, side - cut) < smallest / slender:
            across = not across
            cut = int((height if across else width) * ratio)
        if across:
            waiting += [(top, left, top + cut, right), (top + cut, left, bottom, right)]
        else:
            waiting += [(top, left, bottom, left + cut), (top, left + cut, bottom, right)]
    return ids


def _voronoi(rng: Rng, count: int) -> UInt16[np.ndarray, "side side"]:
    tree = KDTree(rng.random((count, 2)) * PARCEL_SIDE, boxsize=PARCEL_SIDE)
    rows, cols = np.indices((PARCEL_SIDE, PARCEL_SIDE)) + 0.5
    return np.asarray(tree.query(np.stack([rows, cols], -1))[1], np.uint16)
