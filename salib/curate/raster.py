"""Windows of a scene on the tile grid: one exact mapping, one decimated read, one remap.

Places within a scene are (column, row) in pixels of its full resolution, from the outer corner of
the first pixel. The mapping is evaluated exactly on every 16th pixel and interpolated between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import rasterio
from jaxtyping import Bool, Float, Float32, Shaped
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.windows import Window
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from salib.curate.grid import EARTH_RADIUS_M, HALF_WORLD_M, TILE_PX, TileId, gsd_m
from salib.curate.remote import FRESH, is_remote, patiently

NODE_PX = 16
MARGIN_PX = 4
FINER_THAN = 1.1
"""The coarsest overview is read that is at most this many times coarser than what is asked."""

INTERPOLATION = {
    "cubic": cv2.INTER_CUBIC,
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}
Points = Float[np.ndarray, "*shape"]
Model = Callable[[Points, Points], tuple[Points, Points]]
"""Longitude and latitude in degrees to column and row of the scene."""


class Span(NamedTuple):
    """A rectangle of tiles: zoom, north-west tile, columns and rows of tiles."""

    z: int
    x: int
    y: int
    cols: int
    rows: int

    @classmethod
    def around(cls, tiles: list[TileId]) -> "Span":
        """The smallest rectangle that holds tiles of one zoom."""
        x, y = [tile.x for tile in tiles], [tile.y for tile in tiles]
        sides = max(x) - min(x) + 1, max(y) - min(y) + 1
        return cls(tiles[0].z, min(x), min(y), *sides)

    def finer(self) -> "Span":
        """The same ground one zoom down."""
        return Span(self.z + 1, 2 * self.x, 2 * self.y, 2 * self.cols, 2 * self.rows)


class BlockReader:
    """Reads spans of tiles from one scene, whose files share one geometry.

    Georeferencing is the first file's: a coordinate system with an affine transform, or ground
    control points, through which a cubic polynomial is fitted (terrain stays uncorrected, as in
    any model of two variables).

    Raises:
        ReadError: if a file cannot be opened or read.
        ValueError: if it has neither, or too few bands.
    """

    def __init__(
        self,
        hrefs: tuple[str, ...],
        *,
        bands: int,
        how: str,
        every: bool = False,
        prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Open a scene.

        Args:
            hrefs: one file with `bands` bands or more, or `bands` files with one each.
            bands: how many to read.
            how: "cubic", "linear" or "nearest" interpolation.
            every: a pixel is valid only where every band is; by default where any band is.
            prepare: applied to the pixels of the file before interpolation.
        """
        self.hrefs, self.bands = hrefs, bands
        self.interpolation, self.every, self.prepare = INTERPOLATION[how], every, prepare
        with _open(hrefs[0]) as dataset:
            if dataset.count * len(hrefs) < bands:
                raise ValueError(f"{hrefs[0]} must have {bands} bands, got {dataset.count}")
            self.width, self.height = dataset.width, dataset.height
            self.overviews = dataset.overviews(1) or _asked_again(hrefs[0])
            self.nodata = dataset.nodata
            self.model, self.gcps = _model(dataset)

    def read(
        self, span: Span
    ) -> tuple[Shaped[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
        """Values of the scene at the span's pixel centres, and where the scene has values."""
        shape = span.rows * TILE_PX, span.cols * TILE_PX
        col, row = self.model(*node_lonlat(span))
        level = _level(self.overviews, _pixels_a_step(col, row))
        pixels, across, down, left, top = self._window(level, col, row)
        if pixels is None:
            empty = np.zeros((*shape, self.bands), dtype=np.uint8)
            return empty, np.zeros(shape, dtype=bool)
        map_x = _dense(col * across - 0.5 - left)
        map_y = _dense(row * down - 0.5 - top)
        spread, bare = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
        valid = self._valid(pixels)
        mask = valid.astype(np.uint8) * 255
        if self.prepare is not None:
            pixels = self.prepare(np.where(valid[..., None], pixels, 0))
        values = cv2.remap(pixels, map_x, map_y, self.interpolation, borderMode=spread)
        valid = cv2.remap(mask, map_x, map_y, cv2.INTER_LINEAR, borderMode=bare) == 255
        return values.reshape(*shape, self.bands), valid

    def native_gsd_m(self, span: Span) -> float:
        """Metres of ground a pixel of the file, in the middle of a span."""
        lon, lat = node_lonlat(span)
        step = _pixels_a_step(*self.model(lon, lat))
        return gsd_m(float(np.median(lat)), span.z) / step

    def _window(self, level: int, col: np.ndarray, row: np.ndarray):
        """Pixels of an overview that hold the nodes, its scale against full size, its corner."""
        with _open(self.hrefs[0], level) as dataset:
            size = dataset.width, dataset.height
        across, down = size[0] / self.width, size[1] / self.height
        left, right = _clip(col * across, size[0])
        top, bottom = _clip(row * down, size[1])
        if right <= left or bottom <= top:
            return None, across, down, left, top
        window = Window(left, top, right - left, bottom - top)  # pyright: ignore[reportCallIssue]
        each = self.bands // len(self.hrefs)
        layers = []
        for href in self.hrefs:
            layers.append(_read(href, level, list(range(1, each + 1)), window))
        return (
            np.ascontiguousarray(np.concatenate(layers).transpose(1, 2, 0)),
            across,
            down,
            left,
            top,
        )

    def _valid(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels with values: not NaN, nor nodata (0 where each band is a file that names none)."""
        nodata = 0 if self.nodata is None and len(self.hrefs) > 1 else self.nodata
        if pixels.dtype.kind == "f":
            good = np.isfinite(pixels) & (pixels != (np.nan if nodata is None else nodata))
        elif nodata is None:
            return np.ones(pixels.shape[:2], dtype=bool)
        else:
            good = pixels != nodata
        return np.asarray(good.all(axis=2) if self.every else good.any(axis=2))


def node_lonlat(span: Span) -> tuple[Points, Points]:
    """Degrees of every 16th place of a span: centres of 16 px cells, and one ring outside."""
    pixel_m = 2 * HALF_WORLD_M / (TILE_PX << span.z)
    cols = (np.arange(-1, span.cols * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    rows = (np.arange(-1, span.rows * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    x_m = (span.x * TILE_PX + cols) * pixel_m - HALF_WORLD_M
    y_m = HALF_WORLD_M - (span.y * TILE_PX + rows) * pixel_m
    lon = np.degrees(x_m / EARTH_RADIUS_M)
    lat = np.degrees(np.arctan(np.sinh(y_m / EARTH_RADIUS_M)))
    lon, lat = np.meshgrid(lon, lat)
    return lon, lat


@dataclass(frozen=True, kw_only=True)
class GcpCheck:
    """How far a cubic through control points can be trusted, rms in pixels of the scene.

    `residual_px` is what it misses the points by. `tps_px` is its distance, between the points,
    from a thin-plate spline, which goes through every one: large where terrain bends the lattice.
    """

    residual_px: float
    tps_px: float


def fit_gcps(gcps: list[GroundControlPoint]) -> Model:
    """Cubic polynomial from degrees to column and row.

    Raises:
        ValueError: if there are too few points for a cubic.
    """
    place = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    if len(gcps) < 10:
        raise ValueError(f"a scene must have 10 ground control points or more, got {len(gcps)}")
    centre, spread = place.mean(axis=0), np.ptp(place, axis=0) / 2
    weights = np.linalg.lstsq(_cubic((place - centre) / spread), pixel, rcond=None)[0]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        found = _cubic((np.stack([lon, lat], axis=-1) - centre) / spread) @ weights
        return found[..., 0], found[..., 1]

    return model


def check_gcps(gcps: list[GroundControlPoint]) -> GcpCheck:
    """Hold the cubic against the points and, midway between neighbours, a thin-plate spline."""
    place = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    model = fit_gcps(gcps)
    scaled = (place - place.mean(axis=0)) / np.ptp(place, axis=0)
    spline = RBFInterpolator(scaled, pixel, kernel="thin_plate_spline")
    nearest = np.asarray(KDTree(scaled).query(scaled, 2)[1])[:, 1]
    middle = (place + place[nearest]) / 2
    cubic = np.stack(model(middle[:, 0], middle[:, 1]), axis=-1)
    bent = spline((scaled + scaled[nearest]) / 2)
    missed = np.stack(model(place[:, 0], place[:, 1]), axis=-1) - pixel
    return GcpCheck(residual_px=_rms(missed), tps_px=_rms(cubic - bent))


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def _cubic(place: np.ndarray) -> np.ndarray:
    u, v = place[..., 0], place[..., 1]
    return np.stack([u**i * v**j for i in range(4) for j in range(4 - i)], axis=-1)


def _model(dataset: rasterio.DatasetReader) -> tuple[Model, list[GroundControlPoint]]:
    gcps, gcp_crs = dataset.gcps
    if gcps and gcp_crs is not None:
        if not gcp_crs.is_geographic:
            raise ValueError(f"ground control points must be in degrees, got {gcp_crs}")
        return fit_gcps(gcps), gcps
    if dataset.crs is None:
        raise ValueError(f"{dataset.name} must be georeferenced, got no CRS and no control points")
    project = Transformer.from_crs("EPSG:4326", dataset.crs.to_wkt(), always_xy=True).transform
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        x, y = project(lon, lat)
        return a * x + b * y + c, d * x + e * y + f

    return model, []


def _open(href: str, level: int = -1) -> rasterio.DatasetReader:
    return patiently(href, partial(_opened, level))


def _asked_again(href: str) -> list[int]:
    """Overviews by a second request: GDAL reads them lazily and tells a failure as having none."""
    if not is_remote(href):
        return []
    with rasterio.Env(**FRESH), _open(href) as dataset:
        return dataset.overviews(1)


def _opened(level: int, place: str) -> rasterio.DatasetReader:
    return rasterio.open(place) if level < 0 else rasterio.open(place, overview_level=level)


def _read(href: str, level: int, bands: list[int], window: Window) -> np.ndarray:
    def act(place: str) -> np.ndarray:
        with _opened(level, place) as dataset:
            return dataset.read(bands, window=window)

    return patiently(href, act)


def _level(overviews: list[int], step: float) -> int:
    fitting = [n for n, factor in enumerate(overviews) if factor <= FINER_THAN * step]
    return fitting[-1] if fitting else -1


def _pixels_a_step(col: np.ndarray, row: np.ndarray) -> float:
    """Pixels of the scene in a pixel of the span, by the root of the area."""
    return float(np.median(np.sqrt(np.abs(_jacobian(col, row))))) / NODE_PX


def _jacobian(col: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.gradient(col, axis=1) * np.gradient(row, axis=0) - np.gradient(
        col, axis=0
    ) * np.gradient(row, axis=1)


def _clip(places: np.ndarray, size: int) -> tuple[int, int]:
    low, high = np.floor(places.min()) - MARGIN_PX, np.ceil(places.max()) + MARGIN_PX
    return int(max(0, low)), int(min(size, high))


def _dense(nodes: np.ndarray) -> Float32[np.ndarray, "height width"]:
    """Linear between nodes; the outer ring of nodes is cut away."""
    size = nodes.shape[1] * NODE_PX, nodes.shape[0] * NODE_PX
    full = cv2.resize(nodes.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(full[NODE_PX:-NODE_PX, NODE_PX:-NODE_PX])
