"""Windows of a file on the tile grid: one exact mapping, one decimated read, one remap.

Points of a file are (column, row) in pixels of its full resolution, from the outer corner of the
first pixel. The mapping is evaluated exactly on every 16th pixel and interpolated between.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import rasterio
from jaxtyping import Bool, Float32, Shaped
from rasterio.errors import RasterioIOError

from salib.rasters.georeference import Points, scene_model
from salib.rasters.remote import FRESH, as_read_errors, failure, location
from salib.tiles.grid import EARTH_RADIUS_M, HALF_WORLD_M, TILE_PX, TileId, gsd_m

NODE_PX = 16
MARGIN_PX = 4
FILES = 16
"""That a thread keeps open: scenes of several sensors, at full size and at an overview."""
FINER_THAN = 1.1
"""The coarsest overview is read that is at most this many times coarser than what is asked."""

INTERPOLATION = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}


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
        return cls(tiles[0].z, min(x), min(y), max(x) - min(x) + 1, max(y) - min(y) + 1)


class BlockReader:
    """Reads spans of tiles from one file of a scene.

    Raises:
        ReadError: if the file cannot be opened or read.
        ValueError: if it has too few bands, or `georeference.scene_model` finds no geometry.
    """

    def __init__(
        self,
        href: str,
        *,
        bands: int,
        how: str,
        nodata: float | int | None = None,
        opaque: bool = False,
        prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Open a file.

        Args:
            href: path or address.
            bands: how many to read.
            how: "cubic", "linear" or "nearest" interpolation.
            nodata: what stands for no value in files that do not say.
            opaque: give one more band, 255 everywhere. It comes free: OpenCV interpolates four
                bands linearly in less than half the time of three.
            prepare: applied to the pixels of the file (bands first) before interpolation.
        """
        self.href, self.bands, self.opaque = href, bands, opaque
        self.interpolation, self.prepare = INTERPOLATION[how], prepare
        self.masking = INTERPOLATION["nearest" if how == "nearest" else "linear"]
        with as_read_errors(href), _opened(-1, href) as dataset:
            if dataset.count < bands:
                raise ValueError(f"{href} must have {bands} bands, got {dataset.count}")
            self.width, self.height = dataset.width, dataset.height
            self.nodata = nodata if dataset.nodata is None else dataset.nodata
            self.model, self.gcp_residual_px = scene_model(dataset, href)
        self.overviews = _overviews(href, self.width)

    def read(
        self, span: Span
    ) -> tuple[Shaped[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
        """Values of the file at the span's pixel centres, and where it has values."""
        pixels, col, row = self._window(*self.model(*node_lonlat(span)))
        good = self._valid(pixels)
        if self.prepare is not None:
            pixels = self.prepare(pixels if good is None else np.where(good, pixels, 0))
        shape = span.rows * TILE_PX, span.cols * TILE_PX
        values = np.zeros((*shape, self.bands + self.opaque), pixels.dtype)
        if not pixels.size:
            return values, np.zeros(shape, dtype=bool)
        valid = np.ones(shape, dtype=bool)
        height, width = pixels.shape[1:]
        outside = min(col.min(), row.min()) < 0 or col.max() > width - 1 or row.max() > height - 1
        if good is None and outside:
            good = np.ones((height, width), bool)
        mask = None if good is None else np.where(good, np.uint8(255), np.uint8(0))
        image = cv2.merge([*pixels, np.full_like(pixels[0], 255)] if self.opaque else [*pixels])
        spread, bare = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
        for strip, x, y in _strips(col, row):
            cv2.remap(image, x, y, self.interpolation, dst=values[strip], borderMode=spread)
            if mask is not None:
                valid[strip] = cv2.remap(mask, x, y, self.masking, borderMode=bare) == 255
        return values, valid

    def native_gsd_m(self, span: Span) -> float:
        """Metres of ground per pixel of the file, in the middle of a span."""
        lon, lat = node_lonlat(span)
        step = _pixels_per_step(*self.model(lon, lat))
        return gsd_m(float(np.median(lat)), span.z) / step

    def _window(self, col: Points, row: Points) -> tuple[np.ndarray, Points, Points]:
        """Bands of the fitting overview about the nodes (empty if elsewhere); the nodes in it."""
        coarsest = FINER_THAN * _pixels_per_step(col, row)
        fitting = [n for n, factor in enumerate(self.overviews) if factor <= coarsest]
        with as_read_errors(self.href), _opened(max(fitting, default=-1), self.href) as dataset:
            col, row = col * (dataset.width / self.width), row * (dataset.height / self.height)
            (left, right), (top, bottom) = _clip(col, dataset.width), _clip(row, dataset.height)
            if right <= left or bottom <= top:
                return np.empty((self.bands, 0, 0), dataset.dtypes[0]), col, row
            window = (top, bottom), (left, right)
            pixels = dataset.read(list(range(1, self.bands + 1)), window=window)
        return pixels, col - 0.5 - left, row - 0.5 - top

    def _valid(self, pixels: np.ndarray) -> np.ndarray | None:
        """Pixels with a value in any band, neither NaN nor nodata; None where all have."""
        nodata, floats = self.nodata, pixels.dtype.kind == "f"
        if nodata is None and not floats:
            return None
        good = pixels != (np.nan if nodata is None else nodata)
        if floats:
            good &= np.isfinite(pixels)
        valid = good.any(axis=0)
        return None if valid.all() else valid


def node_lonlat(span: Span) -> tuple[Points, Points]:
    """Degrees of every 16th pixel of a span: centres of 16 px cells, and one ring outside."""
    pixel_m = 2 * HALF_WORLD_M / (TILE_PX << span.z)
    cols = (np.arange(-1, span.cols * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    rows = (np.arange(-1, span.rows * TILE_PX // NODE_PX + 1) + 0.5) * NODE_PX
    x_m = (span.x * TILE_PX + cols) * pixel_m - HALF_WORLD_M
    y_m = HALF_WORLD_M - (span.y * TILE_PX + rows) * pixel_m
    lon = np.degrees(x_m / EARTH_RADIUS_M)
    lat = np.degrees(np.arctan(np.sinh(y_m / EARTH_RADIUS_M)))
    lon, lat = np.meshgrid(lon, lat)
    return lon, lat


def _overviews(href: str, width: int) -> list[int]:
    """How many times coarser than `width` each overview is.

    GDAL tells that it could not read where they are as having none, so it is asked twice.
    """
    for options in ({}, FRESH):
        with rasterio.Env(**options):
            try:
                with _opened(0, href) as first:
                    times = width / first.width
                    return [round(times), *(round(times * more) for more in first.overviews(1))]
            except RasterioIOError as error:
                if "overview level" not in str(error):
                    raise failure(href, error) from error
    return []


_open = threading.local()


def close_files() -> None:
    """Close the files that this thread has left open."""
    while files := _open.__dict__.setdefault("files", {}):
        files.popitem()[1].close()


@contextmanager
def _opened(level: int, href: str) -> Iterator[rasterio.DatasetReader]:
    """A file at full size (-1) or at one of its overviews; the latest `FILES` stay open.

    GDAL keeps decoded blocks of open files only, and neighbouring spans have blocks in common.
    With the option it reads on opening where all images of the file are. Else later calls do so,
    which hold the interpreter's lock: threads wait for ever once one of them logs a lost request.
    """
    place, files = location(href), _open.__dict__.setdefault("files", {})
    file = files.pop((place, level), None)
    if file is None:
        file = rasterio.open(place, OVERVIEW_LEVEL="NONE" if level < 0 else level)
    try:
        yield file
    except BaseException:
        file.close()
        raise
    files[place, level] = file
    if len(files) > FILES:
        files.pop(next(iter(files))).close()


def _pixels_per_step(col: np.ndarray, row: np.ndarray) -> float:
    """Pixels of the scene in a pixel of the span, by the root of the area."""
    (col_down, col_across), (row_down, row_across) = np.gradient(col), np.gradient(row)
    area = np.abs(col_across * row_down - col_down * row_across)
    return float(np.median(np.sqrt(area))) / NODE_PX


def _clip(places: np.ndarray, size: int) -> tuple[int, int]:
    low, high = np.floor(places.min()) - MARGIN_PX, np.ceil(places.max()) + MARGIN_PX
    return int(max(0, low)), int(min(size, high))


def _strips(col: np.ndarray, row: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of a span, as many as a tile has, and where each of their pixels lies in the scene."""
    high = TILE_PX // NODE_PX
    for first in range(0, len(col) - 2, high):
        top, nodes = first * NODE_PX, slice(first, first + high + 2)
        yield slice(top, top + TILE_PX), _dense(col[nodes]), _dense(row[nodes])


def _dense(nodes: np.ndarray) -> Float32[np.ndarray, "height width"]:
    """Linear between nodes; the outer ring of nodes is cut away."""
    size = nodes.shape[1] * NODE_PX, nodes.shape[0] * NODE_PX
    full = cv2.resize(nodes.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return full[NODE_PX:-NODE_PX, NODE_PX:-NODE_PX]
