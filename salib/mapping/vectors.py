"""One window of a scene, or of several of one ground, to one vector per patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from safetensors.numpy import save_file

from salib.files.artifact import atomic_file, file_digest
from salib.files.checksum import CHECKSUM, write_checksum
from salib.mapping.geotiff import VECTORS
from salib.mapping.raster import Pixels, Raster
from salib.model import ScaleAlibi, load_model
from salib.model.precision import autocast, instructions
from salib.model.store import model_files
from salib.model.views import View

LEAST_VALID = 0.5
"""Of the pixels of a patch that an encoder is shown."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One window: what is read, by which model it is embedded, where its vectors go.

    Attributes:
        views: the scene whose grid counts, and what is fused with it.
        rows, cols: of patches of that grid.
        gsd_m: metres of ground per pixel of that grid.
    """

    path: Path
    views: tuple[Raster, ...]
    model: str
    digest: str
    device: str
    precision: str
    rows: range
    cols: range
    gsd_m: float


def embed_job(job: Job) -> Path:
    """Embed one window and write its vectors, whole or not at all, with what computed them."""
    model = model_of(job.model, job.digest, job.device)
    corner, size = (job.cols.start, job.rows.start), (len(job.cols), len(job.rows))
    box = [patches * model.config.patch_px for patches in (*corner, *size)]
    views = {view.sensor: view.read(*box) for view in job.views}
    gsd_m = {name: job.gsd_m * box[2] / valid.shape[1] for name, (_, valid) in views.items()}
    model.attention_used = used = set()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of a sum must not depend on the number of workers
    try:
        vectors = embed_window(model, views, gsd_m, precision=job.precision)
    finally:
        torch.set_num_threads(threads)
    ran = {
        "attention": ",".join(sorted(used)),
        "instructions": instructions(model.log_scale.device),
    }
    with atomic_file(job.path) as part:
        save_file({VECTORS: vectors}, part, metadata=ran | CHECKSUM)
        write_checksum(part)
    return job.path


def embed_window(
    model: ScaleAlibi,
    views: Mapping[str, Pixels],
    gsd_m: Mapping[str, float],
    *,
    precision: str = "float32",
) -> Float32[np.ndarray, "rows cols dim"]:
    """What `ScaleAlibi.embed(tokens=True)` gives, on the grid of patches, NaN without data.

    A patch of which less than half is valid is not shown to its encoder, as a masked patch is not
    in pretraining: no other patch attends to it. Invalid pixels of other patches take the sensor's
    mean level. Of several sensors the grid is that of the first; a patch of it has a vector where
    every sensor has data on at least half of its ground.

    Args:
        model: in evaluation mode.
        views: pixels of each sensor, one or several that are fused, of the same ground and in the
            order of the model's sensors; sides are multiples of the patch.
        gsd_m: metres of ground per pixel of each.
        precision: "float32", "bf16" or "auto", see `salib.model.precision`.

    Raises:
        ValueError: if the model returns values that are not finite.
    """
    patch_px = model.config.patch_px
    rows, cols = (side // patch_px for side in next(iter(views.values()))[1].shape)
    covered = [_has_data(valid, rows, cols) for _, valid in views.values()]
    everywhere = np.logical_and.reduce(covered)
    vectors = np.full((rows * cols, model.config.dim), np.nan, np.float32)
    if not everywhere.any():
        return vectors.reshape(rows, cols, -1)
    encoded = {}
    with torch.inference_mode(), autocast(precision, model.log_scale.device):
        for name, (levels, valid) in views.items():
            seen = _has_data(valid, *(side // patch_px for side in valid.shape))
            keep = None if seen.all() else torch.from_numpy(np.flatnonzero(seen))[None]
            images, metres = torch.from_numpy(levels)[None], torch.tensor([gsd_m[name]])
            view = View(images, metres, torch.from_numpy(valid)[None])
            encoded[name] = model.encode_view(name, view, keep)
        joint = model.fuse(encoded)
    vectors[covered[0]] = joint.x[0].float().cpu().numpy()
    if not np.isfinite(vectors[covered[0]]).all():
        names = "+".join(views)
        raise ValueError(f"embeddings of sensor {names!r} must be finite, got NaN or infinity")
    vectors[~everywhere] = np.nan
    return vectors.reshape(rows, cols, -1)


def _has_data(
    valid: Bool[np.ndarray, "height width"], rows: int, cols: int
) -> Bool[np.ndarray, " cells"]:
    """Which cells of a grid over the image hold enough data, row by row."""
    height, width = valid.shape
    shares = valid.reshape(rows, height // rows, cols, width // cols).mean(axis=(1, 3))
    return shares.ravel() >= LEAST_VALID


@lru_cache(maxsize=1)
def model_of(folder: str, digest: str, device: str) -> ScaleAlibi:
    """A model, read once a process.

    Raises:
        ValueError: if the folder holds no model, or another one than `digest` tells.
    """
    model = load_model(folder)
    if model_digest(folder) != digest:
        raise ValueError(f"model must not change during a run, got other files in {folder}")
    return model.to(device)


def model_digest(folder: str | Path) -> str:
    """Sha256 over the configuration and the weights.

    Raises:
        ValueError: if a file is missing.
    """
    return sha256("".join(map(file_digest, model_files(folder))).encode()).hexdigest()
