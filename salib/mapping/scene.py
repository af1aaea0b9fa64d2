"""A georeferenced raster as one sensor's 8-bit levels, read a window at a time."""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Shaped, UInt8
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning

from salib.config import SENSORS
from salib.curate.rasters.mosaic import sar_to_8bit
from salib.curate.rasters.remote import as_read_errors, is_remote, location, reading
from salib.mapping.ground import ground_gsd_m, to_lonlat

PROCEDURAL = "Procedural: made-up ground, no satellite data"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A raster and how it is read; made by `open_scene`, which checks it.

    Attributes:
        href: path or address of the file.
        bands: numbers of the sensor's bands in it, from 1.
        level_255: value that becomes level 255, None for levels as they are (radar: amplitudes).
        crs: coordinate reference system as WKT.
        transform: column and row to coordinates of `crs`, the first six numbers.
        gsd_m: metres of ground a pixel where the caller states them; else measured by window.
        version: size and time of a file on disk, so that another file of the name is noticed.
        attribution: what must be said where the scene is shown.
        procedural: whether the ground is made up.
    """

    href: str
    sensor: str
    bands: tuple[int, ...]
    level_255: float | int | None
    width: int
    height: int
    crs: str
    transform: tuple[float, ...]
    gsd_m: float | int | None
    version: tuple[int, ...]
    attribution: str
    procedural: bool

    def gsd_at(self, col: float | int, row: float | int) -> float:
        """Metres of ground a pixel at a place.

        Raises:
            ValueError: if they are not stated and pixels there are not square on the ground.
        """
        if self.gsd_m is not None:
            return float(self.gsd_m)
        return ground_gsd_m(self.crs, Affine(*self.transform), col=col, row=row)

    def read(
        self, left: int, top: int, width: int, height: int, *, shrink: int = 1
    ) -> tuple[UInt8[np.ndarray, "bands rows cols"], Bool[np.ndarray, "rows cols"]]:
        """Levels of a window, and where the file has values.

        A pixel has values where any of an optical sensor's bands has, and where both of radar's.

        Args:
            left: first column.
            top: first row.
            width: columns.
            height: rows.
            shrink: average this many pixels along each side into one.

        Raises:
            ReadError: if the file cannot be read.
        """
        shape = (len(self.bands), -(-height // shrink), -(-width // shrink))
        window = ((top, top + height), (left, left + width))
        bands, where = list(self.bands), {"window": window, "out_shape": shape}
        with _opened(self.href) as file:
            pixels = file.read(bands, **where, resampling=Resampling.average)
            masks = file.read_masks(bands, **where)
        every = np.logical_and if self.sensor == "radar" else np.logical_or
        valid = every.reduce(masks > 0)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            valid &= finite.all(axis=0)
            pixels = np.where(finite, pixels, 0)
        return self._levels(pixels), valid

    def reduced(self, rows: int, cols: int) -> UInt8[np.ndarray, "bands rows cols"]:
        """Levels of the whole scene as a small picture, averaged.

        Raises:
            ReadError: if the file cannot be read.
        """
        shape = (len(self.bands), rows, cols)
        options = {"out_shape": shape, "resampling": Resampling.average}
        with _opened(self.href) as file:
            return self._levels(np.nan_to_num(file.read(list(self.bands), **options)))

    def lonlat_at(self, col: float | int, row: float | int) -> tuple[float, float]:
        """Longitude and latitude of a place of the scene in degrees."""
        a, b, c, d, e, f = self.transform
        lon, lat = to_lonlat(self.crs, [a * col + b * row + c], [d * col + e * row + f])
        return float(lon[0]), float(lat[0])

    def _levels(
        self, pixels: Shaped[np.ndarray, "bands height width"]
    ) -> UInt8[np.ndarray, "bands height width"]:
        if self.level_255 is not None:
            scaled = pixels.astype(np.float32) * np.float32(255 / self.level_255)
            return np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return pixels if pixels.dtype == np.uint8 else sar_to_8bit(pixels)


def open_scene(
    href: str | Path,
    sensor: str,
    *,
    bands: Sequence[int] | None = None,
    level_255: float | int | None = None,
    gsd_m: float | int | None = None,
    attribution: str | None = None,
    procedural: bool = False,
) -> Scene:
    """Check a raster and how it is to be read.

    Args:
        href: path or address of a raster that GDAL reads, with a CRS and an affine transform.
        sensor: "radar", "lores" or "hires".
        bands: VV and VH, or red, green and blue, by number; by default the first ones, of a file
            that has no other bands but opacity.
        level_255: value that becomes level 255; 0 stays 0. Needed unless the file holds 8-bit
            levels, or radar amplitudes of 16 bits, which become levels as in curation (D12).
        gsd_m: metres of ground a pixel; by default measured from the file's coordinates.
        attribution: by default what the file's tags say.
        procedural: also true where a tag, or a STAC item beside the file, says so.

    Raises:
        ValueError: if the file cannot be read, is not georeferenced, has other bands or values than
            these, or a number is out of range.
    """
    href = str(href)
    if sensor not in SENSORS:
        raise ValueError(f"sensor must be one of {', '.join(SENSORS)}, got {sensor!r}")
    for name, value in (("level_255", level_255), ("gsd_m", gsd_m)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    with _opened(href) as file:
        _check_place(file, href)
        numbers = _check_bands(file, href, sensor, bands)
        _check_values({file.dtypes[number - 1] for number in numbers}, href, sensor, level_255)
        tags = {name.lower(): value for name, value in file.tags().items()}
        made_up = procedural or tags.get("procedural", "").lower() in ("true", "yes", "1")
        made_up = made_up or _says_procedural(href)
        said = attribution or tags.get("attribution") or tags.get("tifftag_copyright")
        return Scene(
            href=href if is_remote(href) else str(Path(href).absolute()),
            sensor=sensor,
            bands=numbers,
            level_255=level_255,
            width=file.width,
            height=file.height,
            crs=file.crs.to_wkt(),
            transform=tuple(file.transform)[:6],
            gsd_m=gsd_m,
            version=_version(href),
            attribution=said or (PROCEDURAL if made_up else ""),
            procedural=made_up,
        )


def image_gsd_m(path: str | Path) -> float:
    """Metres of ground a pixel in the middle of a georeferenced image.

    Raises:
        ValueError: if it is not georeferenced, or its pixels are not square on the ground.
    """
    if not Path(path).is_file():
        raise ValueError(f"path must be an image file that can be read, got {path}")
    with _opened(str(path)) as file:
        if not _has_place(file):
            raise ValueError(
                f"gsd_m must be given for an image without coordinates, got {path}: state the "
                "metres of ground a pixel with --gsd-m"
            )
        middle = {"col": file.width / 2, "row": file.height / 2}
        return ground_gsd_m(file.crs.to_wkt(), file.transform, **middle)


@contextmanager
def _opened(href: str) -> Iterator[rasterio.DatasetReader]:
    """The file; without a place it is an error here, with what to do, and no warning."""
    with warnings.catch_warnings(), reading([href], requester_pays=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with as_read_errors(href), rasterio.open(location(href)) as file:
            yield file


def _has_place(file: rasterio.DatasetReader) -> bool:
    return file.crs is not None and not file.transform.is_identity


def _check_place(file: rasterio.DatasetReader, href: str) -> None:
    if _has_place(file):
        return
    why = "no CRS with an affine transform"
    if file.gcps[0]:
        why = "ground control points only; warp it first (gdalwarp -t_srs EPSG:...)"
    raise ValueError(
        f"scene must be georeferenced, got {why} in {href}: for one vector an image write to a "
        ".parquet file"
    )


def _check_bands(
    file: rasterio.DatasetReader, href: str, sensor: str, bands: Sequence[int] | None
) -> tuple[int, ...]:
    names = SENSORS[sensor].bands
    rule = f"scene must have {len(names)} bands ({', '.join(names)}) for sensor {sensor}"
    if bands is None:
        opaque = [c for c in file.colorinterp if c != ColorInterp.alpha]
        if len(opaque) != len(names):
            raise ValueError(
                f"{rule}, got {len(opaque)} in {href}: name them in that order with --bands"
            )
        return tuple(range(1, len(names) + 1))
    if len(bands) != len(names):
        raise ValueError(f"{rule}, got --bands {','.join(map(str, bands))}: name one for each")
    if not all(1 <= number <= file.count for number in bands):
        raise ValueError(f"bands must lie in 1..{file.count} of {href}, got {tuple(bands)}")
    return tuple(bands)


def _check_values(kinds: set[str], href: str, sensor: str, level_255: float | int | None) -> None:
    levels = {"uint8"} if sensor != "radar" else {"uint8", "uint16"}
    kind = " and ".join(sorted(kinds))
    if any(np.dtype(name).kind not in "uif" for name in kinds):
        raise ValueError(f"scene must hold real numbers, got {kind} in {href}")
    if level_255 is None and not (len(kinds) == 1 and kinds <= levels):
        what, then = "8-bit levels", "such as 2000 for Sentinel-2 L2A, a reflectance of 0.2"
        if sensor == "radar":
            what += " or 16-bit amplitudes"
            then = "backscatter, in decibels above all, first needs curate.rasters.mosaic.amplitude"
        raise ValueError(
            f"scene must hold {what}, got {kind} in {href}: state the value that becomes level 255 "
            f"with --level-255 ({then})"
        )


def _version(href: str) -> tuple[int, ...]:
    if is_remote(href):
        return ()
    found = Path(href).stat()
    return found.st_size, found.st_mtime_ns


def _says_procedural(href: str) -> bool:
    """Whether a STAC item beside the file names it and says that no sensor saw this ground."""
    if is_remote(href):
        return False
    for path in sorted(Path(href).absolute().parent.glob("*.json")):
        try:
            item = json.loads(path.read_text())
            said = item["properties"]["platform"]
            files = {Path(urlsplit(asset["href"]).path).name for asset in item["assets"].values()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if said == "procedural" and Path(href).name in files:
            return True
    return False
