"""Where the ground lies in a scene: by its coordinate system, or by ground control points."""

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


def fit_gcps(gcps: list[GroundControlPoint]) -> Model:
    """Cubic polynomial from degrees to column and row."""
    point, pixel = _points(gcps)
    if len(gcps) < 10:
        raise ValueError(f"a scene must have 10 ground control points or more, got {len(gcps)}")
    centre, spread = point.mean(axis=0), np.ptp(point, axis=0) / 2
    weights = np.linalg.lstsq(_cubic((point - centre) / spread), pixel, rcond=None)[0]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        pixels = _cubic((np.stack([lon, lat], axis=-1) - centre) / spread) @ weights
        return pixels[..., 0], pixels[..., 1]

    return model


def _cubic(point: np.ndarray) -> np.ndarray:
    u, v = point[..., 0], point[..., 1]
    return np.stack([u**i * v**j for i in range(4) for j in range(4 - i)], axis=-1)


def scene_model(
    dataset: rasterio.DatasetReader, href: str
) -> tuple[Model, list[GroundControlPoint]]:
    """Where degrees lie in a scene, and its ground control points.

    A coordinate system with an affine transform, or control points, through which a cubic
    polynomial is fitted (terrain stays uncorrected, as in any model of two variables).
    """
    gcps, gcp_crs = dataset.gcps
    if gcps and gcp_crs is not None:
        if not gcp_crs.is_geographic:
            raise ValueError(f"{href} must have control points in degrees, got {gcp_crs}")
        return fit_gcps(gcps), gcps
    if dataset.crs is None:
        raise ValueError(f"{href} must be georeferenced, got no CRS and no control points")
    project = _from_degrees(dataset.crs.to_wkt()).transform
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]

    def model(lon: Points, lat: Points) -> tuple[Points, Points]:
        x, y = project(lon, lat)
        return a * x + b * y + c, d * x + e * y + f

    return model, []


@lru_cache(maxsize=16)
def _from_degrees(crs: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def gcp_errors_px(gcps: list[GroundControlPoint]) -> tuple[float, float]:
    """What the cubic misses the control points by, and a thin-plate spline, rms in pixels.

    The spline goes through every point; it is compared midway between neighbours, and is far off
    where terrain bends the lattice.
    """
    from scipy.interpolate import RBFInterpolator  # 40 MB of scipy that workers do without
    from scipy.spatial import KDTree

    point, pixel = _points(gcps)
    model = fit_gcps(gcps)
    scaled = (point - point.mean(axis=0)) / np.ptp(point, axis=0)
    spline = RBFInterpolator(scaled, pixel, kernel="thin_plate_spline")
    nearest = np.asarray(KDTree(scaled).query(scaled, 2)[1])[:, 1]
    middle = (point + point[nearest]) / 2
    missed = np.stack(model(*point.T), axis=-1) - pixel
    bent = np.stack(model(*middle.T), axis=-1) - spline((scaled + scaled[nearest]) / 2)
    residual_px, tps_px = (float(np.sqrt((off**2).sum(axis=1).mean())) for off in (missed, bent))
    return residual_px, tps_px


def _points(gcps: list[GroundControlPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Degrees, and columns and rows."""
    point = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    return point, np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
