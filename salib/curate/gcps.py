"""How far a polynomial through the control points of a radar scene can be trusted."""

from dataclasses import dataclass

import numpy as np
from rasterio.control import GroundControlPoint
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from salib.curate.raster import fit_gcps


@dataclass(frozen=True, kw_only=True)
class GcpCheck:
    """How far a cubic through control points can be trusted, rms in pixels of the scene.

    `residual_px` is what it misses the points by. `tps_px` is its distance, between the points,
    from a thin-plate spline, which goes through every one: large where terrain bends the lattice.
    """

    residual_px: float
    tps_px: float


def check_gcps(gcps: list[GroundControlPoint]) -> GcpCheck:
    """Hold the cubic against the points and, midway between neighbours, a thin-plate spline."""
    place = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    model = fit_gcps(gcps)
    scaled = (place - place.mean(axis=0)) / np.ptp(place, axis=0)
    spline = RBFInterpolator(scaled, pixel, kernel="thin_plate_spline")
    nearest = np.asarray(KDTree(scaled).query(scaled, 2)[1])[:, 1]
    middle = (place + place[nearest]) / 2
    cubic = np.stack(model(middle[:, 0], middle[:, 1]), axis=-1)
    bent = spline((scaled + scaled[nearest]) / 2)
    missed = np.stack(model(place[:, 0], place[:, 1]), axis=-1) - pixel
    return GcpCheck(residual_px=_rms(missed), tps_px=_rms(cubic - bent))


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt((off**2).sum(axis=1).mean()))
