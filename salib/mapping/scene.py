"""Rasters to be embedded: whether they have a place, bands and values, and go together."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from rasterio.coords import disjoint_bounds
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from salib.config import SENSORS
from salib.mapping.raster import Raster, Source, opened
from salib.model.views import check_fusible
from salib.rasters.bands import together, told_of
from salib.rasters.ground import MOST_STRETCH, Grid, ground_sides_m, square_grid
from salib.rasters.remote import disk_path
from salib.rasters.rules import rule_of
from salib.rasters.validity import validity_of

PROCEDURAL = "Procedural: made-up ground, no satellite data"


def open_scene(
    href: str | Path,
    sensor: str,
    *,
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    offset_dn: float | int | None = None,
    level_255: float | int | None = None,
    gsd_m: float | int | None = None,
    attribution: str | None = None,
    procedural: bool = False,
) -> Raster:
    """Check a raster and how it is to be read.

    A scene in degrees, or whose pixels are not square on the ground, is resampled to square pixels
    in UTM, as fine as its finer side, unless `gsd_m` is stated.

    Args:
        href: path or address of a raster that GDAL reads, with a CRS and an affine transform; or
            of one file per band, with commas between, such as "vv.tif,vh.tif".
        sensor: a name of `salib.config.SENSORS`.
        bands: the sensor's bands by number; by default those whose names, colours or product
            (NAIP) tell, or the only ones.
        unit: of the values: of radar "power", "amplitude", "db" or "dn", of other sensors
            "reflectance" or "dn"; by default what the file's unit tag says, "dn" of integers of
            16 bits, and reflectance of Sentinel-2 in floats. 8-bit levels stay as they are.
        offset_dn: added to digital numbers: -1000 for Sentinel-2 since processing baseline 04.00,
            0 before; needed where the file states no scale and offset.
        level_255: for products that are not known, value above the zero that becomes 255.
            Reflectance of 0.2 does where it is known, as in ESA's true-colour image.
        gsd_m: metres of ground per pixel; by default measured from the file's coordinates.
        attribution: by default what the file's tags say.
        procedural: also true where a tag, or a STAC item beside the file, says so.

    Raises:
        ValueError: if the file cannot be read, is not georeferenced, has other bands or values than
            these, or a number is out of range.
    """
    raster = open_image(
        href, sensor, bands=bands, unit=unit, offset_dn=offset_dn, level_255=level_255, gsd_m=gsd_m
    )
    with opened(raster.sources[0].href) as file:
        tags, points = {name.lower(): value for name, value in file.tags().items()}, file.gcps[0]
    if not raster.crs:
        why = "no CRS with an affine transform"
        if points:
            why = "ground control points only; warp it first (gdalwarp -t_srs EPSG:...)"
        raise ValueError(
            f"scene must be georeferenced, got {why} in {href}: for one vector per image write "
            "to a .parquet file"
        )
    made_up = procedural or tags.get("procedural", "").lower() in ("true", "yes", "1")
    made_up = made_up or _says_procedural(raster.sources[0].href)
    said = attribution or tags.get("attribution") or tags.get("tifftag_copyright")
    said = said or (PROCEDURAL if made_up else "")
    return replace(raster, attribution=said, procedural=made_up)


def open_image(
    href: str | Path,
    sensor: str,
    *,
    gsd_m: float | int | None = None,
    **reading: Any,
) -> Raster:
    """As `open_scene`, of an image that need not lie anywhere; then its `crs` is empty."""
    if sensor not in SENSORS:
        raise ValueError(f"sensor must be one of {', '.join(SENSORS)}, got {sensor!r}")
    if gsd_m is not None and not 0 < gsd_m < math.inf:
        raise ValueError(f"gsd_m must be positive and finite, got {gsd_m}")
    hrefs, paths = _files(str(href))
    told, validity, places = [], [], set()
    for each in hrefs:
        with opened(each) as file:
            told.append(told_of(file, Path(each).stem if len(hrefs) > 1 else each))
            validity.append(validity_of(file))
            crs = file.crs.to_wkt() if _has_place(file) else ""
            places.add((crs, tuple(file.transform)[:6], file.width, file.height))
    if len(places) > 1:
        raise ValueError(
            f"files of one scene must lie on one grid, got {len(places)} in {href}: bring them to "
            "one (gdalwarp -te ... -tr ...)"
        )
    rule = rule_of(together(told, str(href)), sensor, **reading)
    sources, first = [], 0
    for each, one, seen in zip(hrefs, told, validity, strict=True):
        mine = [n for n, band in enumerate(rule.bands) if first < band <= first + len(one.bands)]
        numbers = tuple(rule.bands[n] - first for n in mine)
        first += len(one.bands)
        if mine and len(one.opaque) < len(one.bands) and seen.alpha is None:
            # near infrared that GDAL takes for an alpha band is kept from it
            each = f"vrt://{each}?bands={','.join(map(str, numbers))}"
            seen = replace(seen, nodata=tuple(seen.nodata[n - 1] for n in numbers))
            numbers = tuple(range(1, len(numbers) + 1))
        if mine:
            source = Source(href=each, numbers=numbers, places=tuple(mine), validity=seen)
            sources.append(source)
    crs, transform, width, height = places.pop()
    status = [path.stat() for path in paths if path]
    raster = Raster(
        sources=tuple(sources),
        rule=rule,
        stated=any(source.validity.stated for source in sources),
        width=width,
        height=height,
        crs=crs,
        transform=transform,
        gsd_m=gsd_m,
        version=tuple(n for each in status for n in (each.st_size, each.st_mtime_ns)),
    )
    if not crs or gsd_m is not None:
        return raster
    place = Affine(*transform)
    short, long = ground_sides_m(crs, place, col=width / 2, row=height / 2)
    if CRS.from_wkt(crs).is_geographic or long > MOST_STRETCH * short:
        return raster.onto(square_grid(crs, place, width, height))
    return raster


def _files(href: str) -> tuple[list[str], list[Path | None]]:
    """What GDAL opens, and where that lies on this machine."""
    whole = disk_path(href)
    parts = [href] if "," not in href or (whole and whole.exists()) else href.split(",")
    paths = [disk_path(part) for part in parts]
    return [str(p.absolute()) if p else part for p, part in zip(paths, parts, strict=True)], paths


def on_one_grid(
    scenes: Mapping[str, Raster], order: tuple[str, ...], *, partial: bool = False
) -> tuple[Raster, ...]:
    """Scenes on the grid of the first, in the order in which they are fused.

    Args:
        scenes: by sensor.
        order: the model's sensors.
        partial: whether any of them may be missing (`ModelConfig.partial`).

    Raises:
        ValueError: if a scene is of another sensor than stated or of none of the model's, they
            cannot be fused, a pixel size is stated that the grid contradicts, or they do not
            overlap.
    """
    for name, scene in scenes.items():
        if scene.sensor != name:
            raise ValueError(f"scenes must be by their own sensor, got {scene.sensor!r} as {name}")
    check_fusible(scenes, order, partial=partial)
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
    place = Grid(grid.crs, grid.transform, grid.width, grid.height)
    return grid, *(scene.onto(place, finer=SENSORS[scene.sensor].factor) for scene in others)


def _overlap(scene: Raster, grid: Raster) -> bool:
    bounds, other = (array_bounds(r.height, r.width, Affine(*r.transform)) for r in (scene, grid))
    try:
        inside = transform_bounds(CRS.from_wkt(scene.crs), CRS.from_wkt(grid.crs), *bounds)
    except CRSError:  # the one's coordinates do not reach the other
        return False
    return bool(np.isfinite(inside).all()) and not disjoint_bounds(inside, other)


def _has_place(file: rasterio.DatasetReader) -> bool:
    return file.crs is not None and not file.transform.is_identity


def _says_procedural(href: str) -> bool:
    """Whether a STAC item beside the file names it and says that no sensor saw this ground."""
    place = disk_path(href)
    for path in place.absolute().parent.glob("*.json") if place else ():
        try:
            item = json.loads(path.read_text())
            files = {Path(urlsplit(asset["href"]).path).name for asset in item["assets"].values()}
            if item["properties"]["platform"] == "procedural" and Path(href).name in files:
                return True
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return False
