"""The ground that is asked for: a bbox or a GeoJSON file, and its tiles."""

import warnings
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float, Shaped
from shapely.geometry.base import BaseGeometry

from salib.tiles.grid import (
    HALF_WORLD_M,
    MAX_LAT,
    TileId,
    split_bbox,
    tile_bounds,
    tiles_of_bbox,
    to_mercator,
)

Area = Sequence[float | int] | str | Path | BaseGeometry
"""West, south, east, north in degrees; the path of a GeoJSON file; or polygons in degrees."""
MOST_TILES = 2_000_000
"""Of an area; they take 2 GB of memory."""
GEOBENCH_US = Path(__file__).with_name("geobench_us.geojson")


def excluded_ground(files: Sequence[str | Path]) -> BaseGeometry:
    """Polygons of GeoJSON files, of which no tile may be cut; empty if there are none.

    Args:
        files: paths; the word `geobench` stands for the ground in the United States that images of
            GEO-Bench v1 may show, `geobench_us.geojson` beside this module.
    """
    paths = [GEOBENCH_US if str(file) == "geobench" else file for file in files]
    return shapely.union_all([read_area(path, "exclude") for path in paths])


def tiles_off(ground: BaseGeometry, tiles: Sequence[TileId]) -> list[TileId]:
    """Tiles that do not meet the ground, in their order."""
    return [*compress(tiles, covered_fraction(ground, tiles) == 0)]


def tile_boxes(tiles: Sequence[TileId]) -> Shaped[np.ndarray, " tiles"]:
    """Outlines of tiles in degrees."""
    west, south, east, north = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4).T
    return shapely.box(west, south, east, north)


def covered_fraction(area: BaseGeometry, tiles: Sequence[TileId]) -> Float[np.ndarray, " tiles"]:
    """Part of each tile that lies within `area` (degrees)."""
    boxes = tile_boxes(tiles)
    shapely.prepare(area)
    return shapely.area(shapely.intersection(area, boxes)) / shapely.area(boxes)


def area_of(area: Area) -> BaseGeometry:
    """Polygons of what was asked for; a bbox is cut in two where it crosses the antimeridian."""
    if isinstance(area, BaseGeometry):
        return area
    if isinstance(area, str | Path):
        return read_area(area)
    return shapely.union_all([shapely.box(*part) for part in split_bbox(area)])


def read_area(path: str | Path, name: str = "area") -> BaseGeometry:
    """Polygons of a file of features: GeoJSON, or what else GDAL reads, in any reference system.

    Features without a geometry, points and lines add nothing.

    Args:
        path: the file.
        name: what an error calls it.

    Raises:
        ValueError: if the file is missing, is no GeoJSON, holds no polygon or a broken one, or
            leaves -180..180 and -90..90 degrees.
    """
    import geopandas  # takes half a second

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{name} must be a GeoJSON file, got no file {path}")
    try:
        with warnings.catch_warnings(action="ignore"):  # what GDAL doubts, shapely refuses
            features = geopandas.read_file(path, columns=[]).dropna()
        system = features.crs
        drawn = features.geometry if system is None else features.to_crs(4326).geometry
        parts = shapely.get_parts(shapely.get_parts(shapely.force_2d(drawn.to_numpy())))
    except (RuntimeError, shapely.errors.ShapelyError, AttributeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{name} must be GeoJSON (RFC 7946), got {path} ({said})") from error
    if system is None:
        raise ValueError(f"{name} must state its reference system, got none in {path}")
    parts = parts[shapely.area(parts) > 0]
    if not len(parts):
        raise ValueError(f"{name} must hold a polygon with an area, got none in {path}")
    for broken in parts[~shapely.is_valid(parts)]:
        said = shapely.is_valid_reason(broken)
        raise ValueError(f"{name} must hold valid polygons, got {said} in {path}: repair it")
    for west, south, east, north in shapely.bounds(parts):
        if west < -180 or east > 180 or east - west > 180 or south < -90 or north > 90:
            raise ValueError(
                f"{name} must be in degrees, longitude first, split at the antimeridian (RFC 7946, "
                f"3.1.9), got bounds ({west:g}, {south:g}, {east:g}, {north:g}) in {path}"
            )
    return shapely.union_all(parts)


def check_tiles(area: BaseGeometry, zoom: int) -> None:
    """Refuse an area of more tiles than a computer holds in memory.

    Raises:
        ValueError: with their number.
    """
    tile_m, count = 2 * HALF_WORLD_M / (1 << zoom), 0.0
    for west, south, east, north in shapely.bounds(shapely.get_parts(area)).tolist():
        left, bottom = to_mercator(west, max(south, -MAX_LAT))
        right, top = to_mercator(east, min(north, MAX_LAT))
        count += (right - left) * (top - bottom) / tile_m**2
    if count > MOST_TILES:
        raise ValueError(
            f"area must hold at most {MOST_TILES:,} tiles of zoom {zoom}, got about {count:,.0f}: "
            "cut it in parts, or lower zoom"
        )


def tiles_of_area(area: BaseGeometry, zoom: int) -> list[TileId]:
    """Tiles whose inside meets the area, in Hilbert order."""
    check_tiles(area, zoom)
    parts = [part for part in shapely.get_parts(area) if part.area]
    near = {tile for part in parts for tile in tiles_of_bbox(part.bounds, zoom)}
    tiles = sorted(near, key=lambda tile: tile.hilbert)
    return [*compress(tiles, covered_fraction(area, tiles) >= 1e-9)]
