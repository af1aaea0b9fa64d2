"""Images to vectors: an encoder's mean tokens, and the baselines beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor, nn

from salib.config import Precision
from salib.model.precision import autocast

FILTER_PX = 5


Levels8 = UInt8[np.ndarray, "items height width bands"]
Metres = Float64[np.ndarray, " items"]


@runtime_checkable
class Embedder(Interface):
    """Anything that embeds images of one sensor: one vector an image, the mean of its tokens.

    Segmentation also asks for `tokens=True`: (batch tokens dim), row by row. A joint column gives
    `images` and `gsd_m` by sensor, and no `sensor`. A model may say in a set `attention_used` which
    implementations of attention it ran.
    """

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor) -> Tensor:
        """Embed (batch bands height width) levels 0..255 with their metres a pixel."""
        ...


def embed(
    model: Embedder,
    images: Levels8 | Mapping[str, Levels8],
    *,
    sensor: str | None = None,
    gsd_m: Metres | Mapping[str, Metres],
    batch: int = 64,
    precision: Precision = "float32",
    tokens: bool = False,
    used: set[str] | None = None,
) -> Float32[np.ndarray, "items *tokens dim"]:
    """Plain mean tokens of each image, without gradients, in evaluation mode, where the model lies.

    Args:
        images: of one sensor; or by sensor, of the same grounds in the same order, for the joint
            representation.
        sensor: of images that are not given by sensor.
        gsd_m: metres a pixel of each image; by sensor as the images.
        tokens: all tokens of each image, not their mean.
        precision: "bf16" multiplies matrices in bfloat16 (autocast), "auto" does where that is
            native to the processor or GPU (`salib.model.precision`).
        used: the implementations of attention that ran are added to it; "unknown" of a model that
            does not say.

    Raises:
        ValueError: if there is no image, or the model returns values that are not finite.
    """
    views = images if isinstance(images, Mapping) else {str(sensor): images}
    metres = gsd_m if isinstance(gsd_m, Mapping) else {str(sensor): gsd_m}
    count = max(map(len, views.values()))
    if not count:
        raise ValueError("images must hold at least one image, got none")
    device = device_of(model)
    parts = []
    noted = noting_attention(model, set() if used is None else used)
    with torch.inference_mode(), _evaluating(model), noted, autocast(precision, device):
        for start in range(0, count, batch):
            rows = slice(start, start + batch)
            shown: Any = {n: _levels(view[rows], device) for n, view in views.items()}
            gsd: Any = {n: torch.from_numpy(m[rows]).float().to(device) for n, m in metres.items()}
            options: dict[str, Any] = {"tokens": True} if tokens else {}
            if not isinstance(images, Mapping):
                shown, gsd = shown[str(sensor)], gsd[str(sensor)]
                options |= {"sensor": sensor}
            parts.append(model.embed(shown, gsd_m=gsd, **options))
    features = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"embeddings of {'+'.join(views)} must be finite, got NaN or infinity")
    return features


def _levels(images: Levels8, device: torch.device) -> Tensor:
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2)


@contextmanager
def noting_attention(model: Embedder, used: set[str]) -> Iterator[None]:
    """Add to `used` which implementations of attention the model runs within the block."""
    record = getattr(model, "attention_used", None)
    earlier = set(record or ())
    if record is not None:
        record.clear()
    yield
    used |= {"unknown"} if record is None else record
    if record is not None:
        record |= earlier


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
