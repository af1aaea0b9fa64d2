"""How far a polynomial through the control points of a radar scene can be trusted."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rasterio.control import GroundControlPoint
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from salib.curate.rasters.georeference import fit_gcps
from salib.curate.rasters.reader import BlockReader
from salib.curate.rasters.remote import reading
from salib.curate.search.catalog import Scene
from salib.files.artifact import atomic_file


def gcp_errors(gcps: list[GroundControlPoint]) -> tuple[float, float]:
    """What a cubic misses the control points by, and a thin-plate spline, rms in pixels.

    The spline goes through every point; it is compared midway between neighbours, and is far off
    where terrain bends the lattice.
    """
    point = np.array([(gcp.x, gcp.y) for gcp in gcps], dtype=float)
    pixel = np.array([(gcp.col, gcp.row) for gcp in gcps], dtype=float)
    model = fit_gcps(gcps)
    scaled = (point - point.mean(axis=0)) / np.ptp(point, axis=0)
    spline = RBFInterpolator(scaled, pixel, kernel="thin_plate_spline")
    nearest = np.asarray(KDTree(scaled).query(scaled, 2)[1])[:, 1]
    middle = (point + point[nearest]) / 2
    missed = np.stack(model(*point.T), axis=-1) - pixel
    bent = np.stack(model(*middle.T), axis=-1) - spline((scaled + scaled[nearest]) / 2)
    residual_px, tps_px = (float(np.sqrt((off**2).sum(axis=1).mean())) for off in (missed, bent))
    return residual_px, tps_px


def radar_metadata(
    scenes: Iterable[Scene], cache: Path, requester_pays: bool
) -> dict[str, dict[str, float]]:
    """What the radar archive tells of the scenes that are placed by control points.

    Results go to the file `cache`, so that a run killed later reads no scene again.
    """
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    for scene in (scene for scene in scenes if scene.id not in known):
        with reading(scene.hrefs, requester_pays=requester_pays):
            gcps = BlockReader(scene.hrefs, bands=2, how="cubic", every=True).gcps
        known[scene.id] = gcp_errors(gcps) if gcps else ()
    with atomic_file(cache) as part:
        part.write_text(json.dumps(known))
    names = ("gcp_residual_px", "gcp_tps_px")
    return {
        name: {scene: round(errors[number], 6) for scene, errors in known.items() if errors}
        for number, name in enumerate(names)
    }
