"""Rasters to be embedded: whether they have a place, bands and values, and go together."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from rasterio.coords import disjoint_bounds
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from salib.config import SENSORS, Sensor
from salib.mapping.ground import ground_gsd_m
from salib.mapping.raster import AlignedRaster, Raster, opened
from salib.model.views import check_fusible
from salib.rasters.remote import is_remote

PROCEDURAL = "Procedural: made-up ground, no satellite data"


def open_scene(
    href: str | Path,
    sensor: str,
    *,
    bands: Sequence[int] | None = None,
    level_255: float | int | None = None,
    gsd_m: float | int | None = None,
    attribution: str | None = None,
    procedural: bool = False,
) -> Raster:
    """Check a raster and how it is to be read.

    Args:
        href: path or address of a raster that GDAL reads, with a CRS and an affine transform.
        sensor: a name of `salib.config.SENSORS`.
        bands: the sensor's bands by number; by default the first ones, of a file that has no other
            bands but opacity.
        level_255: value that becomes 255; 0 stays 0. Needed unless the file holds 8-bit
            levels, or radar amplitudes of 16 bits, which become levels as in curation (D12). Not
            for "s2", whose 16 bits are reflectance x 10,000 and 0 where there is no data.
        gsd_m: metres of ground per pixel; by default measured from the file's coordinates.
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
    with opened(href) as file:
        if not _has_place(file):
            why = "no CRS with an affine transform"
            if file.gcps[0]:
                why = "ground control points only; warp it first (gdalwarp -t_srs EPSG:...)"
            raise ValueError(
                f"scene must be georeferenced, got {why} in {href}: for one vector per image write "
                "to a .parquet file"
            )
        numbers = _check_bands(file, href, SENSORS[sensor], bands)
        kinds = {file.dtypes[number - 1] for number in numbers}
        _check_values(kinds, href, SENSORS[sensor], level_255)
        tags = {name.lower(): value for name, value in file.tags().items()}
        made_up = procedural or tags.get("procedural", "").lower() in ("true", "yes", "1")
        made_up = made_up or _says_procedural(href)
        said = attribution or tags.get("attribution") or tags.get("tifftag_copyright")
        status = None if is_remote(href) else Path(href).stat()
        return Raster(
            href=str(Path(href).absolute()) if status else href,
            sensor=sensor,
            bands=numbers,
            level_255=level_255,
            width=file.width,
            height=file.height,
            crs=file.crs.to_wkt(),
            transform=tuple(file.transform)[:6],
            gsd_m=gsd_m,
            version=(status.st_size, status.st_mtime_ns) if status else (),
            attribution=said or (PROCEDURAL if made_up else ""),
            procedural=made_up,
        )


def on_one_grid(scenes: Mapping[str, Raster], order: tuple[str, ...]) -> tuple[Raster, ...]:
    """Scenes on the grid of the first, in the order in which they are fused.

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
    check_fusible(scenes, order)
    grid, *others = (scenes[name] for name in order if name in scenes)
    for scene in others:
        if scene.gsd_m is not None:
            raise ValueError(
                f"gsd_m must be stated for {grid.sensor} alone, got {scene.gsd_m:g} for "
                f"{scene.sensor}, which is resampled to the grid of {grid.sensor}"
            )
        if not _overlap(scene, grid):
            raise ValueError(
                f"scenes must overlap, got {scene.sensor} {scene.href} on other ground than "
                f"{grid.sensor} {grid.href}: choose scenes of one area"
            )
    return grid, *(AlignedRaster(**vars(scene), grid=grid) for scene in others)


def _overlap(scene: Raster, grid: Raster) -> bool:
    bounds, other = (array_bounds(r.height, r.width, Affine(*r.transform)) for r in (scene, grid))
    try:
        inside = transform_bounds(CRS.from_wkt(scene.crs), CRS.from_wkt(grid.crs), *bounds)
    except CRSError:  # the one's coordinates do not reach the other
        return False
    return bool(np.isfinite(inside).all()) and not disjoint_bounds(inside, other)


def image_gsd_m(path: str | Path) -> float:
    """Metres of ground per pixel in the middle of a georeferenced image.

    Raises:
        ValueError: if it is not georeferenced, or its pixels are not square on the ground.
    """
    with opened(str(path)) as file:
        if not _has_place(file):
            raise ValueError(
                f"gsd_m must be given for an image without coordinates, got {path}: state the "
                "metres of ground per pixel with --gsd-m"
            )
        middle = {"col": file.width / 2, "row": file.height / 2}
        return ground_gsd_m(file.crs.to_wkt(), file.transform, **middle)


def _has_place(file: rasterio.DatasetReader) -> bool:
    return file.crs is not None and not file.transform.is_identity


def _check_bands(
    file: rasterio.DatasetReader, href: str, sensor: Sensor, bands: Sequence[int] | None
) -> tuple[int, ...]:
    names = sensor.bands
    rule = f"scene must have {len(names)} bands ({', '.join(names)}) for sensor {sensor.name}"
    numbers = tuple(range(1, len(names) + 1) if bands is None else bands)
    opaque = sum(colour != ColorInterp.alpha for colour in file.colorinterp)
    if bands is None and opaque != len(names):
        raise ValueError(f"{rule}, got {opaque} in {href}: name them in that order with --bands")
    if len(numbers) != len(names):
        raise ValueError(f"{rule}, got --bands {','.join(map(str, numbers))}: name one for each")
    if not all(1 <= number <= file.count for number in numbers):
        raise ValueError(f"bands must lie in 1..{file.count} of {href}, got {numbers}")
    return numbers


def _check_values(
    kinds: set[str], href: str, sensor: Sensor, level_255: float | int | None
) -> None:
    kind = " and ".join(sorted(kinds))
    if any(np.dtype(name).kind not in "uif" for name in kinds):
        raise ValueError(f"scene must hold real numbers, got {kind} in {href}")
    if sensor.dtype != "uint8":
        if level_255 is not None:
            raise ValueError(f"level_255 must not be given for {sensor.name}, got {level_255}")
        if kinds != {sensor.dtype}:
            raise ValueError(
                f"scene must hold {sensor.dtype}, as tiles of {sensor.name} do, got {kind} in "
                f"{href}: convert it (gdal_translate -ot UInt16; from reflectance for s2 with "
                "-scale 0 1 0 10000)"
            )
    levels = {"uint8", "uint16"} if sensor.radar else {sensor.dtype}
    if level_255 is None and not (len(kinds) == 1 and kinds <= levels):
        what, then = "8-bit levels", "such as 2000 for Sentinel-2 L2A, a reflectance of 0.2"
        if sensor.radar:
            what += " or 16-bit amplitudes"
            then = "backscatter, in decibels above all, first needs rasters.radar.amplitude"
        raise ValueError(
            f"scene must hold {what}, got {kind} in {href}: state the value that becomes 255 "
            f"with --level-255 ({then})"
        )


def _says_procedural(href: str) -> bool:
    """Whether a STAC item beside the file names it and says that no sensor saw this ground."""
    for path in () if is_remote(href) else Path(href).absolute().parent.glob("*.json"):
        try:
            item = json.loads(path.read_text())
            files = {Path(urlsplit(asset["href"]).path).name for asset in item["assets"].values()}
            if item["properties"]["platform"] == "procedural" and Path(href).name in files:
                return True
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return False
