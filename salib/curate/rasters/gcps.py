"""How far a polynomial through the control points of a radar scene can be trusted."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.control import GroundControlPoint
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from salib.curate.rasters.georeference import fit_gcps
from salib.curate.rasters.reader import BlockReader
from salib.curate.rasters.remote import reading
from salib.curate.search.catalog import Scene
from salib.files.artifact import atomic_file


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
    point = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    model = fit_gcps(gcps)
    scaled = (point - point.mean(axis=0)) / np.ptp(point, axis=0)
    spline = RBFInterpolator(scaled, pixel, kernel="thin_plate_spline")
    nearest = np.asarray(KDTree(scaled).query(scaled, 2)[1])[:, 1]
    middle = (point + point[nearest]) / 2
    cubic = np.stack(model(middle[:, 0], middle[:, 1]), axis=-1)
    bent = spline((scaled + scaled[nearest]) / 2)
    missed = np.stack(model(point[:, 0], point[:, 1]), axis=-1) - pixel
    return GcpCheck(residual_px=_rms(missed), tps_px=_rms(cubic - bent))


def radar_checks(
    scenes: Sequence[Scene], rows: pd.DataFrame, cache: Path, requester_pays: bool
) -> dict[str, dict]:
    """How well a polynomial holds the control points of each radar scene in `rows` that has them.

    Results go to the file `cache`, so that a run killed later reads no scene again.
    """
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    used = set(rows.loc[rows.sensor == "radar", "scene_ids"].explode())
    for scene in scenes:
        if scene.id in known or scene.id not in used:
            continue
        with reading(scene.hrefs, requester_pays=requester_pays):
            gcps = BlockReader(scene.hrefs, bands=2, how="cubic", every=True).gcps
        known[scene.id] = asdict(check_gcps(gcps)) if gcps else None
    with atomic_file(cache) as part:
        part.write_text(json.dumps(known))
    checks: dict[str, dict] = {"gcp_residual_px": {}, "gcp_tps_px": {}}
    for name, check in known.items():
        if check:
            checks["gcp_residual_px"][name] = round(check["residual_px"], 6)
            checks["gcp_tps_px"][name] = round(check["tps_px"], 6)
    return checks


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt((off**2).sum(axis=1).mean()))
