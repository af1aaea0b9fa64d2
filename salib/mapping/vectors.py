"""One window of a scene to one vector a patch."""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from salib.artifact import file_digest
from salib.model import ScaleAlibi, load_model
from salib.model.store import CONFIG, WEIGHTS
from salib.precision import autocast

LEAST_VALID = 0.5


def embed_window(
    model: ScaleAlibi,
    levels: UInt8[np.ndarray, "bands height width"],
    valid: Bool[np.ndarray, "height width"],
    *,
    sensor: str,
    gsd_m: float,
    precision: str = "float32",
) -> Float32[np.ndarray, "rows cols dim"]:
    """What `ScaleAlibi.embed(tokens=True)` gives, on the grid of patches, NaN without data.

    A patch of which less than half is valid is not shown to the model, as a hidden patch is not in
    pretraining: no other patch attends to it. Invalid pixels of other patches take the sensor's
    mean level.

    Args:
        model: in evaluation mode.
        levels: sides are multiples of the patch.
        valid: where the scene has values.
        sensor: one of the model's.
        gsd_m: metres of ground a pixel.
        precision: "float32", "bf16" or "auto", see `salib.precision`.

    Raises:
        ValueError: if the model returns values that are not finite.
    """
    patch_px = model.config.patch_px
    rows, cols = valid.shape[0] // patch_px, valid.shape[1] // patch_px
    share = valid.reshape(rows, patch_px, cols, patch_px).mean(axis=(1, 3))
    seen = np.flatnonzero(share >= LEAST_VALID)
    found = np.full((rows * cols, model.config.dim), np.nan, np.float32)
    if not len(seen):
        return found.reshape(rows, cols, -1)
    device = model.log_scale.device
    images = torch.from_numpy(levels)[None].to(device)
    with torch.inference_mode(), autocast(precision, device):
        if valid.all():
            vectors = model.embed(images, sensor, gsd_m, tokens=True)[0]
        else:
            vectors = _seen_alone(model, images, valid, seen, sensor, gsd_m)
    found[seen] = vectors.float().cpu().numpy()
    if not np.isfinite(found[seen]).all():
        raise ValueError(f"embeddings of sensor {sensor!r} must be finite, got NaN or infinity")
    return found.reshape(rows, cols, -1)


def _seen_alone(
    model: ScaleAlibi,
    images: Tensor,
    valid: Bool[np.ndarray, "height width"],
    seen: np.ndarray,
    sensor: str,
    gsd_m: float,
) -> Tensor:
    """Encode the patches that hold data, at their places."""
    device = images.device
    pixels = model.encoder(sensor).standardise(images.float())
    pixels = pixels.masked_fill(torch.from_numpy(~valid).to(device), 0.0)
    tokens = model.tokenize(sensor, pixels, torch.tensor([gsd_m], device=device))
    return model.encode(sensor, tokens.take(torch.from_numpy(seen)[None].to(device))).x[0]


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
    files = [Path(folder) / name for name in (CONFIG, WEIGHTS)]
    for path in files:
        if not path.is_file():
            raise ValueError(
                f"model folder must hold {CONFIG} and {WEIGHTS}, got {folder} without {path.name}: "
                "write one with `salib pretrain`"
            )
    return sha256("".join(map(file_digest, files)).encode()).hexdigest()
