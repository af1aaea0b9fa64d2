"""Where the ground lies in a scene: by its coordinate system, or by ground control points."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import rasterio
from jaxtyping import Float
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint

from salib.tiles.grid import HALF_WORLD_M

Points = Float[np.ndarray, "*shape"]
Model = Callable[[Points, Points], tuple[Points, Points]]
"""Coordinates to column and row of the scene: of a scene's model longitude and latitude in degrees.
Not finite where its coordinate system does not reach."""
DEGREES = (3, 2, 1)
DETERMINED = 1e-6
"""Smallest ratio of singular values at which control points determine a polynomial."""


def scene_model(dataset: rasterio.DatasetReader, href: str) -> tuple[Model, float]:
    """Where degrees lie in a scene, and what that misses its control points by (NaN without).

    A coordinate system with an affine transform, or control points, through which a cubic
    polynomial is fitted (terrain stays uncorrected, as in any model of two variables); one of
    lower degree where few points determine no cubic.

    Raises:
        ValueError: if it has neither, or they place nothing.
    """
    gcps, gcp_crs = dataset.gcps
    crs = gcp_crs if gcps and gcp_crs else dataset.crs
    try:
        if not crs:
            lacks = "control points without a CRS" if gcps else "no CRS and no control points"
            raise ValueError(f"{lacks}: state it with gdal_translate -a_srs")
        project, period = _from_degrees(crs.to_wkt()).transform, _period(crs.to_wkt())
        place, missed = (
            fit_gcps(gcps, period) if crs is gcp_crs else (_affine(dataset, period), math.nan)
        )
    except (ValueError, ProjError) as error:
        raise ValueError(f"{href} must be georeferenced, got {error}") from error
    return lambda lon, lat: place(*project(lon, lat)), missed


def fit_gcps(gcps: list[GroundControlPoint], period: float = math.inf) -> tuple[Model, float]:
    """Polynomial from coordinates to column and row, and its rms residual in pixels.

    Args:
        gcps: points; their coordinates may be of either side of 180 degrees.
        period: of the first coordinate, 360 in degrees.

    Raises:
        ValueError: if the points lie on a line or are fewer than three.
    """
    point = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    if not (np.isfinite(point).all() and np.isfinite(pixel).all()):
        raise ValueError("control points that are not finite")
    point[:, 0] = _about(point[0, 0], point[:, 0], period)
    centre, spread = point.mean(axis=0), np.ptp(point, axis=0) / 2
    spread = np.where(spread > 0, spread, 1.0)
    for degree in DEGREES:
        terms = _terms((point - centre) / spread, degree)
        weights, _, rank, _ = np.linalg.lstsq(terms, pixel, rcond=DETERMINED)
        if rank == terms.shape[1]:
            break
    else:
        raise ValueError(f"{len(gcps)} control points that determine no plane")

    def model(x: Points, y: Points) -> tuple[Points, Points]:
        x = _about(centre[0], x, period)
        pixels = _terms((np.stack([x, y], axis=-1) - centre) / spread, degree) @ weights
        return pixels[..., 0], pixels[..., 1]

    missed = np.stack(model(*point.T), axis=-1) - pixel
    return model, float(np.sqrt((missed**2).sum(axis=1).mean()))


def _affine(dataset: rasterio.DatasetReader, period: float) -> Model:
    if dataset.transform.is_identity or not dataset.transform.determinant:
        raise ValueError("a CRS without a transform that gives pixels an area")
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]
    middle = (dataset.transform * (dataset.width / 2, dataset.height / 2))[0]

    def model(x: Points, y: Points) -> tuple[Points, Points]:
        x = _about(middle, x, period)
        return a * x + b * y + c, d * x + e * y + f

    return model


def _about(middle: float, x: Points, period: float) -> Points:
    """Coordinates moved by whole periods to within half of one about the middle."""
    return x if math.isinf(period) else x - np.round((x - middle) / period) * period


def _terms(point: np.ndarray, degree: int) -> np.ndarray:
    u, v = point[..., 0], point[..., 1]
    orders = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.stack([u**i * v**j for i, j in orders], axis=-1)


@lru_cache(maxsize=16)
def _from_degrees(crs: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


@lru_cache(maxsize=16)
def _period(crs: str) -> float:
    """Of the first coordinate, around the earth; infinite where it is not known to have one."""
    known = CRS.from_wkt(crs)
    if known.is_geographic:
        return 360.0
    return 2 * HALF_WORLD_M if known.to_epsg() == 3857 else math.inf
