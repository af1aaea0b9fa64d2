"""Images to vectors: an encoder's mean tokens, and the baselines beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor, nn

from salib.config import Precision
from salib.precision import autocast

FILTER_PX = 5


@runtime_checkable
class Embedder(Interface):
    """Anything that embeds images of one sensor: one vector an image, the mean of its tokens.

    Segmentation also asks for `tokens=True`: (batch tokens dim), row by row.
    """

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor) -> Tensor:
        """Embed (batch bands height width) levels 0..255 with their metres a pixel."""
        ...


def embed(
    model: Embedder,
    images: UInt8[np.ndarray, "items height width bands"],
    *,
    sensor: str,
    gsd_m: Float64[np.ndarray, " items"],
    batch: int = 64,
    precision: Precision = "float32",
    tokens: bool = False,
) -> Float32[np.ndarray, "items *tokens dim"]:
    """Plain mean tokens of each image, without gradients, in evaluation mode.

    Args:
        tokens: all tokens of each image, not their mean.
        precision: "bf16" multiplies matrices in bfloat16 (autocast), "auto" does where that is
            native to the processor or GPU (`salib.precision`).

    Raises:
        ValueError: if there is no image, or the model returns values that are not finite.
    """
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    device = device_of(model)
    parts = []
    with torch.inference_mode(), _evaluating(model), autocast(precision, device):
        for start in range(0, len(images), batch):
            levels = torch.from_numpy(images[start : start + batch]).to(device)
            gsd = torch.from_numpy(gsd_m[start : start + batch]).float().to(device)
            look: dict[str, Any] = {"sensor": sensor, "gsd_m": gsd}
            look |= {"tokens": True} if tokens else {}
            parts.append(model.embed(levels.permute(0, 3, 1, 2), **look))
    features = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"embeddings of sensor {sensor!r} must be finite, got NaN or infinity")
    return features


def image_statistics(
    images: UInt8[np.ndarray, "items height width bands"],
) -> Float32[np.ndarray, "items four_bands"]:
    """Mean, standard deviation, minimum and maximum of each band, in that order."""
    pixels = images.reshape(len(images), -1, images.shape[-1]).astype(np.float32)
    moments = [pixels.mean(1), pixels.std(1), pixels.min(1), pixels.max(1)]
    return np.concatenate(moments, axis=1)


def random_convolution(
    images: UInt8[np.ndarray, "items height width bands"],
    generator: torch.Generator,
    *,
    filters: int = 256,
    batch: int = 64,
) -> Float32[np.ndarray, "items two_filters"]:
    """Mean of the positive and of the negative part of random 5x5 filters, stride 2.

    Filters are unit normal over 5 x 5 x bands, scaled to unit gain; levels are taken as -1..1.
    """
    bands = images.shape[-1]
    shape = (filters, bands, FILTER_PX, FILTER_PX)
    weights = torch.randn(shape, generator=generator) / (bands * FILTER_PX**2) ** 0.5
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            levels = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2)
            response = F.conv2d(levels.float() / 127.5 - 1, weights, stride=2)
            halves = torch.cat([response.clamp(min=0), (-response).clamp(min=0)], dim=1)
            parts.append(halves.mean((2, 3)))
    return torch.cat(parts).numpy()


@contextmanager
def _evaluating(model: Embedder) -> Iterator[None]:
    """Put a module into evaluation mode for the block, as it was afterwards."""
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        if isinstance(model, nn.Module):
            model.train(was_training)


def device_of(model: Embedder) -> torch.device:
    """Where the model's parameters lie."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")
