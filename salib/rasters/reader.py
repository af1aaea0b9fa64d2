"""Windows of a file on the tile grid: one exact mapping, one decimated read, one remap."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from salib.rasters.content import Content
from salib.rasters.georeference import Model, Points, scene_model
from salib.rasters.remote import FRESH, as_read_errors, failure, location
from salib.rasters.span import Span, clip, node_lonlat, pixels_per_step, strips
from salib.rasters.validity import masked_out, without_data
from salib.tiles.grid import TILE_PX, gsd_m

FILES = 16
"""That a thread keeps open: scenes of several sensors, at full size and at an overview."""
FINER_THAN = 1.1
"""The coarsest overview is read that is at most this many times coarser than what is asked."""

INTERPOLATION = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
INTERPOLATED = ("uint8", "uint16", "int16", "float32", "float64")
"""Types that OpenCV interpolates."""


class BlockReader:
    """Reads spans of tiles from one file of a scene.

    Raises:
        ReadError: if the file cannot be opened or read.
        ValueError: if `Content.of` or `georeference.scene_model` refuses it.
    """

    def __init__(
        self,
        href: str,
        *,
        bands: int,
        how: str,
        nodata: float | int | None = None,
        opaque: bool = False,
        prepare: Callable[[np.ndarray, Content], np.ndarray] | None = None,
    ) -> None:
        """Open a file.

        Args:
            href: path or address.
            bands: how many to read, see `Content.of`.
            how: "cubic", "linear" or "nearest" interpolation.
            nodata: what stands for no value in files that do not say.
            opaque: give one more band, 255 everywhere. It comes free: OpenCV interpolates four
                bands linearly in less than half the time of three.
            prepare: applied to the scaled pixels of the file (bands first) and its content before
                interpolation.
        """
        self.href, self.opaque, self.prepare = href, opaque, prepare
        self.how, self.interpolation = how, INTERPOLATION[how]
        self.masking = INTERPOLATION["nearest" if how == "nearest" else "linear"]
        with as_read_errors(href), _opened(-1, href) as file:
            self.width, self.height = file.width, file.height
            known, asked = _open.known.setdefault(file, {}), (bands, nodata)
            if asked not in known:
                known[asked] = _looked_at(file, href, bands, () if nodata is None else (nodata,))
        self.model, self.gcp_residual_px, self.overviews, self.content = known[asked]

    def read(
        self, span: Span
    ) -> tuple[Shaped[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
        """Values of the file at the span's pixel centres, and where it has values.

        Pixels are scaled as the file states.
        """
        pixels, bad, col, row = self._window(*self.model(*node_lonlat(span)))
        good = None if bad is None else self._good(bad)
        if bad is not None and pixels.dtype.kind != "u":
            pixels = np.where(bad, 0, pixels)
        pixels = self._values(pixels)
        shape = span.rows * TILE_PX, span.cols * TILE_PX
        values = np.zeros((*shape, len(pixels) + self.opaque), pixels.dtype)
        if not pixels.size:
            return values, np.zeros(shape, dtype=bool)
        valid = np.ones(shape, dtype=bool)
        height, width = pixels.shape[1:]
        within = col.min() >= 0 and row.min() >= 0 and col.max() <= width - 1
        if good is None and not (within and row.max() <= height - 1):
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
        """Pixels about the nodes (none if elsewhere), which have no data, and the nodes in them.

        Where no overview is coarse enough, pixels are averaged on reading.
        """
        content, reached = self.content, np.isfinite(col) & np.isfinite(row)
        empty = np.empty((len(content.numbers), 0, 0), content.dtype)
        if not reached.any():
            return empty, None, col, row
        col, row = np.where(reached, col, np.nan), np.where(reached, row, np.nan)
        coarsest = FINER_THAN * pixels_per_step(col, row)
        fitting = [n for n, factor in enumerate(self.overviews) if factor <= coarsest]
        level = max(fitting, default=-1)
        coarser = coarsest / (self.overviews[level] if fitting else 1)
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
            pixels, bad = self._pixels(file, ((top, bottom), (left, right)), (rows, cols))
        if content.masked:  # which overviews may lack
            across, down = (left / scale[1], right / scale[1]), (top / scale[0], bottom / scale[0])
            with as_read_errors(self.href), _opened(-1, self.href) as file:
                window = Window.from_slices(down, across)
                bad = bad | masked_out(file, window=window, out_shape=(rows, cols))
        col, row = (col - left) * cols / (right - left), (row - top) * rows / (bottom - top)
        return pixels, (bad if bad.any() else None), col - 0.5, row - 0.5

    def _pixels(
        self, file: rasterio.DatasetReader, window: tuple, shape: tuple[int, int]
    ) -> tuple[np.ndarray, Bool[np.ndarray, "#height #width"]]:
        """The bands, and which pixels have no data by a value or the alpha band."""
        content, count = self.content, len(self.content.numbers)
        numbers = [*content.numbers, *([content.alpha] if content.alpha else [])]
        how = Resampling.nearest if self.how == "nearest" else Resampling.average
        read = file.read(numbers, window=window, out_shape=(len(numbers), *shape), resampling=how)
        pixels, bad = read[:count], np.zeros((1, 1), bool)
        if content.alpha:
            bad = read[-1] == 0
        # an overview may state another value
        also = [file.nodatavals[number - 1] for number in content.numbers]
        no_data = [
            values if more is None else (*values, more)
            for values, more in zip(content.no_data, also, strict=True)
        ]
        if any(no_data) or pixels.dtype.kind == "f":
            empty = without_data(pixels, no_data)
            bad = bad | (empty.all(axis=0) if pixels.dtype == np.uint8 else empty.any(axis=0))
        return pixels, bad

    def _good(self, bad: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
        """Pixels whose neighbours are used too have data: cubic interpolation reaches further."""
        if self.how != "cubic":
            return ~bad
        return cv2.dilate(bad.view(np.uint8), np.ones((3, 3), np.uint8)) == 0

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as the file scales them, prepared, of a type that OpenCV interpolates."""
        content = self.content
        if content.scaled:
            stated = np.array((content.scales, content.offsets), np.float32)
            scales, offsets = stated[..., None, None]
            pixels = pixels.astype(np.float32) * scales + offsets
        if self.prepare is not None:
            pixels = self.prepare(pixels, content)
        return pixels if pixels.dtype.name in INTERPOLATED else pixels.astype(np.float32)


def _looked_at(
    file: rasterio.DatasetReader, href: str, bands: int, absent: tuple[float | int, ...]
) -> tuple[Model, float, list[int], Content]:
    """What is asked once of a file: geometry, residual of its points, overviews and content."""
    model, overviews = scene_model(file, href), _overviews(href, file.width)
    if ColorInterp.alpha not in file.colorinterp or not overviews:
        return *model, overviews, Content.of(file, file, href, bands=bands, absent=absent)
    with _opened(len(overviews) - 1, href) as small:
        return *model, overviews, Content.of(file, small, href, bands=bands, absent=absent)


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
        self.known = WeakKeyDictionary[rasterio.DatasetReader, dict]()


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
