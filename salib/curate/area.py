"""The ground that is asked for: a bbox, a GeoJSON file or a named set of areas, and its tiles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

from salib.tiles.grid import Bounds, TileId, split_bbox, tile_bounds, tiles_of_bbox

Area = Sequence[float | int] | str | Path | BaseGeometry
"""West, south, east, north in degrees; the path of a GeoJSON file; or polygons in degrees."""
SELECT = ("intersects", "within")
GEOBENCH_US = Path(__file__).with_name("geobench_us.geojson")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A set of Table 1, in kind: its zoom and number of samples, and areas of ours.

    The paper says neither where nor when its sets lie. These areas lie in the contiguous United
    States, spread over land cover and latitude, and hold about as many tiles.
    """

    zoom: int
    samples: int
    dates: str
    boxes: tuple[Bounds, ...]


def _squares(side: float, *corners: tuple[float, float]) -> tuple[Bounds, ...]:
    return tuple((west, south, west + side, south + side) for west, south in corners)


_EIGHT = (
    *((-122.0, 38.3), (-112.3, 33.2), (-104.9, 40.2), (-97.8, 30.1)),
    *((-93.8, 41.7), (-84.6, 33.5), (-81.6, 28.2), (-76.8, 40.0)),
)
_FOURTEEN = (
    *((-123.4, 44.5), (-121.5, 37.0), (-118.0, 34.0), (-116.5, 43.2), (-112.0, 33.0)),
    *((-106.9, 34.6), (-100.5, 46.3), (-97.6, 37.3), (-95.8, 29.6)),
    *((-91.0, 43.5), (-84.5, 33.5), (-82.0, 28.0), (-78.5, 35.5), (-76.0, 40.5)),
)
_EIGHTEEN = (
    *((-122.5, 45.4), (-122.0, 37.3), (-119.8, 36.7), (-117.2, 47.6), (-112.1, 33.4)),
    *((-111.9, 40.6), (-106.7, 35.0), (-104.9, 39.7), (-100.8, 46.8), (-97.5, 35.4)),
    *((-95.5, 29.7), (-93.3, 44.9), (-90.2, 38.6), (-86.8, 36.1), (-84.4, 33.7)),
    *((-81.4, 28.5), (-78.7, 35.8), (-75.2, 40.0)),
)
SPECS = {
    "small": Spec(
        zoom=15, samples=21497, dates="2023-05-01/2023-09-30", boxes=_squares(0.5, *_EIGHT)
    ),
    "full": Spec(
        zoom=15, samples=146502, dates="2023-05-01/2023-09-30", boxes=_squares(1.0, *_FOURTEEN)
    ),
    "micro": Spec(
        zoom=17, samples=188060, dates="2023-05-01/2023-09-30", boxes=_squares(0.25, *_EIGHTEEN)
    ),
}


def area_of_boxes(boxes: Iterable[Sequence[float | int]]) -> BaseGeometry:
    """Union of bboxes, each cut in two where it crosses the antimeridian."""
    return shapely.union_all([shapely.box(*part) for box in boxes for part in split_bbox(box)])


def excluded_ground(files: Sequence[str | Path]) -> BaseGeometry | None:
    """Polygons of GeoJSON files, of which no tile may be cut; None if there are none.

    Args:
        files: paths; the word `geobench` stands for the ground in the United States that images of
            GEO-Bench v1 may show, `geobench_us.geojson` beside this module.

    Raises:
        ValueError: as `read_area`.
    """
    paths = [GEOBENCH_US if str(file) == "geobench" else file for file in files]
    return shapely.union_all([read_area(path, "exclude") for path in paths]) if paths else None


def tiles_off(ground: BaseGeometry | None, tiles: Sequence[TileId]) -> list[TileId]:
    """Tiles that do not meet the ground, in their order."""
    if ground is None or not tiles:
        return [*tiles]
    shares = covered_fraction(ground, tiles)
    return [tile for tile, share in zip(tiles, shares.tolist(), strict=True) if not share]


def covered_fraction(area: BaseGeometry, tiles: Sequence[TileId]) -> Float[np.ndarray, " tiles"]:
    """Part of each tile that lies within `area` (degrees)."""
    west, south, east, north = np.array([tile_bounds(tile) for tile in tiles]).reshape(-1, 4).T
    boxes = shapely.box(west, south, east, north)
    shapely.prepare(area)
    return shapely.area(shapely.intersection(area, boxes)) / shapely.area(boxes)


def area_of(area: Area) -> BaseGeometry:
    """Polygons of what was asked for."""
    if isinstance(area, BaseGeometry):
        return area
    return read_area(area) if isinstance(area, str | Path) else area_of_boxes([area])


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
        found = shapely.from_geojson(path.read_text())
    except (shapely.errors.GEOSException, UnicodeDecodeError) as error:
        raise ValueError(f"{name} must be GeoJSON (RFC 7946), got {path} ({error})") from error
    parts = [part for part in polygons(found) if part.area > 0]
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


def tiles_of_area(area: BaseGeometry, zoom: int, *, select: str = "intersects") -> list[TileId]:
    """Tiles whose inside meets the area (`intersects`) or that lie in it (`within`), Hilbert order.

    Raises:
        ValueError: for another `select`.
    """
    if select not in SELECT:
        raise ValueError(f"select must be one of {', '.join(SELECT)}, got {select!r}")
    near = {tile for part in polygons(area) for tile in tiles_of_bbox(part.bounds, zoom)}
    tiles = sorted(near, key=lambda tile: tile.hilbert)
    shares = covered_fraction(area, tiles)
    least = 1e-9 if select == "intersects" else 1 - 1e-9
    return [tile for tile, share in zip(tiles, shares.tolist(), strict=True) if share >= least]


def polygons(geometry: BaseGeometry) -> list:
    """The simple parts of a geometry."""
    if isinstance(geometry, BaseMultipartGeometry):
        return [part for child in geometry.geoms for part in polygons(child)]
    return [geometry]
