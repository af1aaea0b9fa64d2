"""One window of a scene, or of several of one ground, to one vector per patch."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32

from salib.files.artifact import file_digest
from salib.mapping.raster import Pixels
from salib.model import ScaleAlibi, load_model
from salib.model.precision import autocast
from salib.model.store import model_files
from salib.model.views import View

LEAST_VALID = 0.5
"""Of the pixels of a patch that an encoder is shown."""


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
    first = next(iter(views))
    patch_px = model.config.patch_px
    rows, cols = (side // patch_px for side in views[first][1].shape)
    covered = [_has_data(valid, rows, cols) for _, valid in views.values()]
    vectors = np.full((rows * cols, model.config.dim), np.nan, np.float32)
    if not np.logical_and.reduce(covered).any():
        return vectors.reshape(rows, cols, -1)
    encoded = {}
    with torch.inference_mode(), autocast(precision, model.log_scale.device):
        for name, (levels, valid) in views.items():
            seen = _has_data(valid, *(side // patch_px for side in valid.shape))
            keep = None if seen.all() else torch.from_numpy(np.flatnonzero(seen))[None]
            images, metres = torch.from_numpy(levels)[None], torch.tensor([gsd_m[name]])
            view = View(images, metres, torch.from_numpy(valid)[None])
            encoded[name] = model.encode_view(name, view, keep)
        joint = model.fuse(encoded) if len(views) > 1 else encoded[first]
    vectors[covered[0]] = joint.x[0].float().cpu().numpy()
    if not np.isfinite(vectors[covered[0]]).all():
        names = "+".join(views)
        raise ValueError(f"embeddings of sensor {names!r} must be finite, got NaN or infinity")
    vectors[~np.logical_and.reduce(covered)] = np.nan
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
