"""The ground that is asked for: a bbox or a GeoJSON file, and its tiles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float, Shaped
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

from salib.tiles.grid import TileId, split_bbox, tile_bounds, tiles_of_bbox

Area = Sequence[float | int] | str | Path | BaseGeometry
"""West, south, east, north in degrees; the path of a GeoJSON file; or polygons in degrees."""
GEOBENCH_US = Path(__file__).with_name("geobench_us.geojson")


def excluded_ground(files: Sequence[str | Path]) -> BaseGeometry | None:
    """Polygons of GeoJSON files, of which no tile may be cut; None if there are none.

    Args:
        files: paths; the word `geobench` stands for the ground in the United States that images of
            GEO-Bench v1 may show, `geobench_us.geojson` beside this module.
    """
    paths = [GEOBENCH_US if str(file) == "geobench" else file for file in files]
    return shapely.union_all([read_area(path, "exclude") for path in paths]) if paths else None


def tiles_off(ground: BaseGeometry | None, tiles: Sequence[TileId]) -> list[TileId]:
    """Tiles that do not meet the ground, in their order."""
    shares = covered_fraction(ground or shapely.Polygon(), tiles)
    return [tile for tile, share in zip(tiles, shares, strict=True) if not share]


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
    """Polygons of a GeoJSON file: a geometry, a feature or a collection of features.

    Args:
        path: the file.
        name: what an error calls it.

    Raises:
        ValueError: if the file is missing, is no GeoJSON, holds no polygon or a broken one, or
            leaves -180..180 and -90..90 degrees.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{name} must be a GeoJSON file, got no file {path}")
    try:
        parsed = shapely.from_geojson(path.read_text())
    except (shapely.errors.GEOSException, UnicodeDecodeError) as error:
        raise ValueError(f"{name} must be GeoJSON (RFC 7946), got {path} ({error})") from error
    parts = [part for part in polygons(parsed) if part.area > 0]
    if not parts:
        raise ValueError(f"{name} must hold a polygon with an area, got none in {path}")
    for part in parts:
        if not part.is_valid:
            reason = shapely.is_valid_reason(part)
            raise ValueError(f"{name} must hold valid polygons, got {reason} in {path}: repair it")
        west, south, east, north = part.bounds
        if west < -180 or east > 180 or east - west > 180 or south < -90 or north > 90:
            raise ValueError(
                f"{name} must be in degrees, split at the antimeridian (RFC 7946, 3.1.9), got "
                f"bounds ({west:g}, {south:g}, {east:g}, {north:g}) in {path}"
            )
    return shapely.union_all(parts)


def tiles_of_area(area: BaseGeometry, zoom: int) -> list[TileId]:
    """Tiles whose inside meets the area, in Hilbert order."""
    near = {tile for part in polygons(area) for tile in tiles_of_bbox(part.bounds, zoom)}
    tiles = sorted(near, key=lambda tile: tile.hilbert)
    shares = covered_fraction(area, tiles)
    return [tile for tile, share in zip(tiles, shares, strict=True) if share >= 1e-9]


def polygons(geometry: BaseGeometry) -> list:
    """The simple parts of a geometry."""
    if isinstance(geometry, BaseMultipartGeometry):
        return [part for child in geometry.geoms for part in polygons(child)]
    return [geometry]
