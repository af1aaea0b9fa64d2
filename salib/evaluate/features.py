"""Images to vectors: an encoder's mean tokens, and the baselines beside it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, Shaped
from torch import Tensor, nn

from salib.config import Precision
from salib.model.precision import autocast

FILTER_PX, BATCH = 5, 64
PATCH_PX = 8
"""Side of the patches that are the tokens of a baseline."""
Images = Shaped[np.ndarray, "items height width bands"]
Metres = Float64[np.ndarray, " items"]


@runtime_checkable
class Embedder(Protocol):
    """Anything that embeds images of one sensor: one vector per image, the mean of its tokens.

    Segmentation also passes `tokens=True`: (batch tokens dim), row by row. A joint candidate is
    given `images` and `gsd_m` by sensor, and no `sensor`. A model may say in a set
    `attention_used` which implementations of attention it ran.
    """

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor) -> Tensor:
        """Embed (batch bands height width) pixel values with their metres per pixel."""
        ...


def embed(
    model: Embedder,
    images: Mapping[str, Images],
    *,
    gsd_m: Mapping[str, Metres],
    sensor: str | None = None,
    precision: Precision = "float32",
    tokens: bool = False,
) -> Float32[np.ndarray, "items *tokens dim"]:
    """Plain mean tokens of a batch of images, without gradients, where the model is.

    Args:
        images: by sensor, of the same grounds in the same order.
        gsd_m: metres per pixel of each image, by sensor.
        sensor: whose encoder sees its images; without it all sensors are embedded jointly.
        precision: "bf16" multiplies matrices in bfloat16 (autocast), "auto" does where that is
            native to the processor or GPU (`salib.model.precision`).
        tokens: all tokens of each image, not their mean.

    Raises:
        ValueError: if the model returns values that are not finite.
    """
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    shown: Any = {name: torch.from_numpy(view) for name, view in images.items()}
    shown = {name: view.permute(0, 3, 1, 2).to(device) for name, view in shown.items()}
    metres: Any = {name: torch.from_numpy(gsd_m[name]).float().to(device) for name in images}
    options: dict[str, Any] = {"tokens": True} if tokens else {}
    if sensor is not None:
        shown, metres, options["sensor"] = shown[sensor], metres[sensor], sensor
    with torch.inference_mode(), autocast(precision, device):
        features = model.embed(shown, gsd_m=metres, **options).float().cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"embeddings of {'+'.join(images)} must be finite, got NaN or infinity")
    return features


class Baseline:
    """A description of images instead of an encoder; its tokens describe patches of 8 px."""

    def __init__(self, describe: Callable[[Images], Float32[np.ndarray, "items dim"]]) -> None:
        """Take the function that describes images."""
        self.describe, self.attention_used = describe, set()

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor, tokens: bool = False) -> Tensor:
        """Describe (batch bands height width) pixel values; neither sensor nor GSD matters.

        Raises:
            ValueError: if tokens are asked for and the side is not a multiple of 8.
        """
        pixels = images.permute(0, 2, 3, 1).numpy()
        with torch.autocast("cpu", enabled=False):
            if not tokens:
                return torch.from_numpy(self.describe(pixels))
            items, side, _, bands = pixels.shape
            if side % PATCH_PX:
                raise ValueError(f"image_px must be a multiple of {PATCH_PX}, got {side}")
            grid = (side // PATCH_PX, PATCH_PX)
            patches = pixels.reshape(items, *grid, *grid, bands).swapaxes(2, 3)
            rows = self.describe(patches.reshape(-1, PATCH_PX, PATCH_PX, bands))
            return torch.from_numpy(rows.reshape(items, grid[0] ** 2, -1))


def image_statistics(images: Images) -> Float32[np.ndarray, "items four_bands"]:
    """Mean, standard deviation, minimum and maximum of each band, in that order."""
    pixels = images.reshape(len(images), -1, images.shape[-1]).astype(np.float32)
    moments = [pixels.mean(1), pixels.std(1), pixels.min(1), pixels.max(1)]
    return np.concatenate(moments, axis=1)


def random_convolution(
    images: Images, seed: int, *, filters: int = 256
) -> Float32[np.ndarray, "items two_filters"]:
    """Mean of the positive and of the negative part of random 5x5 filters, stride 2.

    Filters are unit normal over 5 x 5 x bands, scaled to unit gain; pixels are taken as -1..1.
    """
    bands = images.shape[-1]
    shape = (filters, bands, FILTER_PX, FILTER_PX)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    weights = drawn / (bands * FILTER_PX**2) ** 0.5
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH):
            response = F.conv2d(part.float() / 127.5 - 1, weights, stride=2)
            parts += [torch.cat([response.relu(), (-response).relu()], dim=1).mean((2, 3))]
    return torch.cat(parts).numpy()
