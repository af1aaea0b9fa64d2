"""A scene on the grid of another: what embedding several sensors of one ground together needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Bool, Float, Float32, UInt8
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from salib.config import SENSORS
from salib.mapping.scene import Scene
from salib.model.views import check_fusible

BLOCK_PX = 256
"""Side of what is resampled at once."""
MARGIN_PX = 4
COARSER = 2.0
"""How many times coarser than the scene a grid is from which on pixels are averaged. Below, GDAL
widens its cubic kernel as needed; an average of few whole pixels is off by a fifth of one where
grids are turned."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A scene resampled to the grid of another, or to one a whole number of times as fine.

    Pixels are averaged where the grid is much coarser than the scene, else interpolated (cubic);
    whether there is data is that of the nearest pixel.

    Attributes:
        scene: what is read.
        grid: the scene whose grid it is.
        factor: pixels along one pixel of `grid`.
    """

    scene: Scene
    grid: Scene
    factor: int

    def read(
        self, left: int, top: int, width: int, height: int
    ) -> tuple[UInt8[np.ndarray, "bands rows cols"], Bool[np.ndarray, "rows cols"]]:
        """Levels of a window, and where there is data.

        Args:
            left: column of the window in `grid`.
            top: row of the window in `grid`.
            width: in pixels of `grid`; the result has `factor` times as many.
            height: in pixels of `grid`.

        Raises:
            ReadError: if the file cannot be read.
        """
        rows, cols = height * self.factor, width * self.factor
        levels = np.zeros((len(self.scene.bands), rows, cols), np.uint8)
        valid = np.zeros((rows, cols), bool)
        corner = Affine(*self.grid.transform) * Affine.translation(left, top)
        for row, col in product(range(0, rows, BLOCK_PX), range(0, cols, BLOCK_PX)):
            here = np.s_[row : row + BLOCK_PX, col : col + BLOCK_PX]
            place = corner * Affine.scale(1 / self.factor) * Affine.translation(col, row)
            self._draw(place, levels[:, *here], valid[here])
        return levels, valid

    def _draw(
        self,
        place: Affine,
        levels: UInt8[np.ndarray, "bands rows cols"],
        valid: Bool[np.ndarray, "rows cols"],
    ) -> None:
        """Fill one block, the transform of which is `place`."""
        rows, cols = valid.shape
        inside = _places(self.grid.crs, place, self.scene, rows, cols)
        if inside is None:
            return
        coarser = _pixels_per_pixel(inside, rows, cols)
        margin = MARGIN_PX + int(np.ceil(coarser))
        sides = self.scene.width, self.scene.height
        (left, top), (right, bottom) = (
            [int(min(max(0, each), side)) for each, side in zip(corner, sides, strict=True)]
            for corner in (
                np.floor(np.nanmin(inside, axis=(0, 1))) - margin,
                np.ceil(np.nanmax(inside, axis=(0, 1))) + margin,
            )
        )
        if left >= right or top >= bottom:
            return
        box = (left, top, right - left, bottom - top)
        pixels, good = self.scene.read(*box, shrink=max(1, int(coarser / 2)))
        finer = Affine.scale(box[2] / good.shape[1], box[3] / good.shape[0])
        grids: dict[str, Any] = {
            "src_transform": Affine(*self.scene.transform) * Affine.translation(left, top) * finer,
            "src_crs": CRS.from_wkt(self.scene.crs),
            "dst_transform": place,
            "dst_crs": CRS.from_wkt(self.grid.crs),
            "tolerance": 0.0,
        }
        drawn: Float32[np.ndarray, "bands rows cols"] = np.full(levels.shape, np.nan, np.float32)
        how = Resampling.average if coarser > COARSER else Resampling.cubic
        holes: dict[str, Any] = {"src_nodata": np.nan, "dst_nodata": np.nan}
        reproject(
            np.where(good, pixels, np.float32(np.nan)), drawn, resampling=how, **grids, **holes
        )
        mask = np.zeros(valid.shape, np.uint8)
        reproject(good.astype(np.uint8), mask, resampling=Resampling.nearest, **grids)
        valid[:] = (mask > 0) & np.isfinite(drawn).all(axis=0)
        levels[:] = np.where(valid, drawn.clip(0, 255).round(), 0).astype(np.uint8)


def on_one_grid(
    scenes: Mapping[str, Scene], order: Sequence[str]
) -> tuple[Scene, tuple[Scene | Aligned, ...]]:
    """The scene whose grid counts, and all of them on it, in the order in which they are fused.

    Args:
        scenes: by sensor.
        order: the model's sensors.

    Raises:
        ValueError: if a scene is of another sensor than stated or of none of the model's, they
            cannot be fused, a pixel size is stated that the grid contradicts, or they do not
            overlap.
    """
    for name, scene in scenes.items():
        if scene.sensor != name:
            raise ValueError(f"scenes must be by their own sensor, got {scene.sensor!r} as {name}")
        if name not in order:
            raise ValueError(
                f"sensor must be one of the model's, {', '.join(order)}, got {name!r}: choose one, "
                "or another model"
            )
    if not scenes:
        raise ValueError("scenes must be of one sensor or more, got an empty mapping")
    check_fusible(tuple(scenes), tuple(order))
    first, *others = (scenes[name] for name in order if name in scenes)
    for scene in others:
        if scene.gsd_m is not None:
            raise ValueError(
                f"gsd_m must be stated for {first.sensor} alone, got {scene.gsd_m:g} for "
                f"{scene.sensor}, which is resampled to the grid of {first.sensor}"
            )
        _check_overlap(scene, first)
    fine = [Aligned(scene=s, grid=first, factor=SENSORS[s.sensor].factor) for s in others]
    return first, (first, *fine)


def _check_overlap(scene: Scene, grid: Scene) -> None:
    place = Affine(*scene.transform)
    inside = _places(scene.crs, place, grid, scene.height, scene.width)
    if inside is not None:
        low, high = np.nanmin(inside, axis=(0, 1)), np.nanmax(inside, axis=(0, 1))
        if (low < (grid.width, grid.height)).all() and (high > 0).all():
            return
    raise ValueError(
        f"scenes must overlap, got {scene.sensor} {scene.href} on other ground than {grid.sensor} "
        f"{grid.href}: choose scenes of one area"
    )


def _places(
    crs: str, transform: Affine, scene: Scene, rows: int, cols: int
) -> Float[np.ndarray, "17 17 2"] | None:
    """Columns and rows in a scene of places all over a grid; NaN where they are not on its map."""
    col, row = np.meshgrid(np.linspace(0, cols, 17), np.linspace(0, rows, 17))
    x, y = _between(crs, scene.crs).transform(*_apply(transform, col, row))
    inverse = ~Affine(*scene.transform)
    inside = np.stack(_apply(inverse, np.asarray(x), np.asarray(y)), axis=-1)
    inside[~np.isfinite(inside).all(axis=-1)] = np.nan
    return None if np.isnan(inside).all() else inside


def _apply(
    transform: Sequence[float], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _pixels_per_pixel(inside: Float[np.ndarray, "17 17 2"], rows: int, cols: int) -> float:
    """How many pixels of a scene lie along one of a grid, by the root of the area."""
    down, across = np.diff(inside, axis=0)[:, :-1], np.diff(inside, axis=1)[:-1]
    cell = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    return float(np.sqrt(np.nanmedian(np.abs(cell)) * 16 * 16 / (rows * cols)))


@lru_cache
def _between(crs: str, other: str) -> Transformer:
    return Transformer.from_crs(crs, other, always_xy=True)
