"""Windows of a file on the tile grid: one exact mapping, one decimated read, one remap."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from salib.rasters.bands import Told, told_of
from salib.rasters.georeference import Model, Points, scene_model
from salib.rasters.pixels import Rule
from salib.rasters.remote import FRESH, as_read_errors, failure, location
from salib.rasters.rules import as_stored
from salib.rasters.span import Span, clip, node_lonlat, pixels_per_step, strips
from salib.rasters.validity import Validity, nodata_of, validity_of
from salib.tiles.grid import TILE_PX, gsd_m

FILES = 16
"""That a thread keeps open: scenes of several sensors, at full size and at an overview."""
FINER_THAN = 1.1
"""The coarsest overview is read that is at most this many times coarser than what is asked."""

INTERPOLATION = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
INTERPOLATED = ("uint8", "uint16", "int16", "float32", "float64")
"""Types that OpenCV interpolates."""


class Facts(NamedTuple):
    """What is asked once of a file, when it is opened.

    `residual_px` is what the model misses control points by; `overviews` tells how many times
    coarser each of them is.
    """

    model: Model
    residual_px: float
    overviews: list[int]
    told: Told
    validity: Validity


class BlockReader:
    """Reads spans of tiles from one file of a scene.

    Raises:
        ReadError: if the file cannot be opened or read.
        ValueError: if `rule` or `georeference.scene_model` refuses it.
    """

    def __init__(
        self,
        href: str,
        *,
        how: str,
        bands: int = 1,
        rule: Callable[[Told], Rule] | None = None,
        opaque: bool = False,
    ) -> None:
        """Open a file.

        Args:
            href: path or address.
            how: "cubic", "linear" or "nearest" interpolation.
            bands: how many are read, as they are stored, where there is no `rule`.
            rule: what the file says of its bands to how they are read.
            opaque: give one more band, 255 everywhere. It comes free: OpenCV interpolates four
                bands linearly in less than half the time of three.
        """
        self.href, self.opaque = href, opaque
        self.how, self.interpolation = how, INTERPOLATION[how]
        self.masking = INTERPOLATION["nearest" if how == "nearest" else "linear"]
        with as_read_errors(href), _opened(-1, href) as file:
            self.width, self.height = file.width, file.height
            if file not in _open.known:
                _open.known[file] = _looked_at(file, href)
            self.facts = _open.known[file]
        self.rule = rule(self.facts.told) if rule else as_stored(self.facts.told, bands)
        self.model, self.gcp_residual_px = self.facts.model, self.facts.residual_px

    def read(
        self, span: Span
    ) -> tuple[Shaped[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
        """Values of the file at the span's pixel centres, and where it has values.

        They are those of `Rule.values`: `Rule.levels` makes pixel values of them.
        """
        stored, good, col, row = self._window(*self.model(*node_lonlat(span)))
        pixels = self.rule.values(stored, good)
        if pixels.dtype.name not in INTERPOLATED:
            pixels = pixels.astype(np.float32)
        shape = span.rows * TILE_PX, span.cols * TILE_PX
        values = np.zeros((*shape, len(pixels) + self.opaque), pixels.dtype)
        if not pixels.size:
            return values, np.zeros(shape, dtype=bool)
        valid = np.ones(shape, dtype=bool)
        height, width = pixels.shape[1:]
        within = col.min() >= 0 and row.min() >= 0 and col.max() <= width - 1
        if good is not None:
            good = self._reached(good)
        elif not (within and row.max() <= height - 1):
            good = np.ones((height, width), bool)
        mask = None if good is None else np.where(good, np.uint8(255), np.uint8(0))
        image = cv2.merge([*pixels, np.full_like(pixels[0], 255)] if self.opaque else [*pixels])
        spread, bare = cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT
        for strip, x, y in strips(col, row):
            cv2.remap(image, x, y, self.interpolation, dst=values[strip], borderMode=spread)
            if mask is not None:
                valid[strip] = cv2.remap(mask, x, y, self.masking, borderMode=bare) == 255
        return values, valid

    def native_gsd_m(self, span: Span) -> float:
        """Metres of ground per pixel of the file, in the middle of a span."""
        lon, lat = node_lonlat(span)
        step = pixels_per_step(*self.model(lon, lat))
        return gsd_m(float(np.median(lat)), span.z) / step

    def _window(
        self, col: Points, row: Points
    ) -> tuple[np.ndarray, Bool[np.ndarray, "height width"] | None, Points, Points]:
        """Pixels about the nodes (none if elsewhere), which have data, and the nodes in them.

        Which have data is None where all have. Where no overview is coarse enough, pixels are
        averaged on reading.
        """
        reached, overviews = np.isfinite(col) & np.isfinite(row), self.facts.overviews
        empty = np.empty((len(self.rule.bands), 0, 0), self.rule.kind)
        if not reached.any():
            return empty, None, col, row
        col, row = np.where(reached, col, np.nan), np.where(reached, row, np.nan)
        coarsest = FINER_THAN * pixels_per_step(col, row)
        fitting = [n for n, factor in enumerate(overviews) if factor <= coarsest]
        level = max(fitting, default=-1)
        coarser = coarsest / (overviews[level] if fitting else 1)
        times = 1 << int(math.log2(max(1.0, coarser)))
        with as_read_errors(self.href), _opened(level, self.href) as file:
            scale = file.height / self.height, file.width / self.width
            row, col = row * scale[0], col * scale[1]
            (left, right), (top, bottom) = (
                clip(col, file.width, times),
                clip(row, file.height, times),
            )
            if right <= left or bottom <= top:
                return empty, None, col, row
            rows, cols = math.ceil((bottom - top) / times), math.ceil((right - left) / times)
            stored, good = self._pixels(file, ((top, bottom), (left, right)), (rows, cols))
        if self.facts.validity.masked:  # which overviews may lack
            across, down = (left / scale[1], right / scale[1]), (top / scale[0], bottom / scale[0])
            with as_read_errors(self.href), _opened(-1, self.href) as file:
                window = Window.from_slices(down, across)
                good &= file.read_masks(1, window=window, out_shape=(rows, cols)) > 0
        col, row = (col - left) * cols / (right - left), (row - top) * rows / (bottom - top)
        return stored, (None if good.all() else good), col - 0.5, row - 0.5

    def _pixels(
        self, file: rasterio.DatasetReader, window: tuple, shape: tuple[int, int]
    ) -> tuple[np.ndarray, Bool[np.ndarray, "height width"]]:
        """The bands, and which pixels have data by their values and the alpha band."""
        validity, numbers = self.facts.validity, [*self.rule.bands]
        read = numbers if validity.alpha is None else [*numbers, validity.alpha]
        how = Resampling.nearest if self.how == "nearest" else Resampling.average
        pixels = file.read(read, window=window, out_shape=(len(read), *shape), resampling=how)
        stored, nodata = pixels[: len(numbers)], validity.values(numbers)
        small = nodata_of(file)  # an overview may state another value
        if small != validity.nodata:
            also = replace(validity, nodata=small).values(numbers)
            nodata = [one + other for one, other in zip(nodata, also, strict=True)]
        good = self.rule.valid(stored, nodata, stated=validity.stated)
        if validity.alpha is not None:
            good &= pixels[-1] > 0
        return stored, good

    def _reached(self, good: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
        """Pixels whose neighbours are used too have data: cubic interpolation reaches further."""
        if self.how != "cubic":
            return good
        return cv2.erode(good.view(np.uint8), np.ones((3, 3), np.uint8)) == 1


def _looked_at(file: rasterio.DatasetReader, href: str) -> Facts:
    model, residual_px = scene_model(file, href)
    overviews, told = _overviews(href, file.width), told_of(file, href)
    if ColorInterp.alpha not in file.colorinterp or not overviews:
        return Facts(model, residual_px, overviews, told, validity_of(file))
    with _opened(len(overviews) - 1, href) as small:
        return Facts(model, residual_px, overviews, told, validity_of(file, small))


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


class _Open(threading.local):
    """Files that this thread keeps open, by place and overview; what is known of each."""

    def __init__(self) -> None:
        self.files = dict[tuple[str, int], rasterio.DatasetReader]()
        self.known = WeakKeyDictionary[rasterio.DatasetReader, Facts]()


_open = _Open()


def close_files() -> None:
    """Close the files that this thread has left open."""
    while _open.files:
        _open.files.popitem()[1].close()


@contextmanager
def _opened(level: int, href: str) -> Iterator[rasterio.DatasetReader]:
    """A file at full size (-1) or at one of its overviews; the latest `FILES` stay open.

    GDAL keeps decoded blocks of open files only, and neighbouring spans have blocks in common.
    With the option it reads on opening where all images of the file are. Else later calls do so,
    which hold the interpreter's lock: threads wait for ever once one of them logs a lost request.
    """
    place, files = location(href), _open.files
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
