"""Where the ground lies in a scene: by its coordinate system, or by ground control points."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import rasterio
from jaxtyping import Float
from pyproj import Transformer
from rasterio.control import GroundControlPoint

Points = Float[np.ndarray, "*shape"]
Model = Callable[[Points, Points], tuple[Points, Points]]
"""Longitude and latitude in degrees to column and row of the scene."""


def scene_model(dataset: rasterio.DatasetReader, href: str) -> tuple[Model, float]:
    """Where degrees lie in a scene, and what that misses its control points by (NaN without).

    A coordinate system with an affine transform, or control points, through which a cubic
    polynomial is fitted (terrain stays uncorrected, as in any model of two variables).
    """
    gcps, gcp_crs = dataset.gcps
    if gcps and gcp_crs is not None:
        if not gcp_crs.is_geographic:
            raise ValueError(f"{href} must have control points in degrees, got {gcp_crs}")
        return fit_gcps(gcps)
    if dataset.crs is None:
        raise ValueError(f"{href} must be georeferenced, got no CRS and no control points")
    project = _from_degrees(dataset.crs.to_wkt()).transform
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        x, y = project(lon, lat)
        return a * x + b * y + c, d * x + e * y + f

    return model, math.nan


def fit_gcps(gcps: list[GroundControlPoint]) -> tuple[Model, float]:
    """Cubic polynomial from degrees to column and row, and its rms residual in pixels."""
    if len(gcps) < 10:
        raise ValueError(f"a scene must have 10 ground control points or more, got {len(gcps)}")
    point = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    centre, spread = point.mean(axis=0), np.ptp(point, axis=0) / 2
    weights = np.linalg.lstsq(_cubic((point - centre) / spread), pixel, rcond=None)[0]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        pixels = _cubic((np.stack([lon, lat], axis=-1) - centre) / spread) @ weights
        return pixels[..., 0], pixels[..., 1]

    missed = np.stack(model(*point.T), axis=-1) - pixel
    return model, float(np.sqrt((missed**2).sum(axis=1).mean()))


def _cubic(point: np.ndarray) -> np.ndarray:
    u, v = point[..., 0], point[..., 1]
    return np.stack([u**i * v**j for i in range(4) for j in range(4 - i)], axis=-1)


@lru_cache(maxsize=16)
def _from_degrees(crs: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)
