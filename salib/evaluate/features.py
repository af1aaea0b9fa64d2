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

    Segmentation also asks for `tokens=True`: (batch tokens dim), row by row. A joint candidate is
    given `images` and `gsd_m` by sensor, and no `sensor`. A model may say in a set
    `attention_used` which implementations of attention it ran.
    """

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor) -> Tensor:
        """Embed (batch bands height width) pixel values with their metres per pixel."""
        ...


def embed(
    model: Embedder,
    images: Images | Mapping[str, Images],
    *,
    sensor: str | None = None,
    gsd_m: Metres | Mapping[str, Metres],
    batch: int = BATCH,
    precision: Precision = "float32",
    tokens: bool = False,
    used: set[str] | None = None,
) -> Float32[np.ndarray, "items *tokens dim"]:
    """Plain mean tokens of each image, without gradients, in evaluation mode, where the model is.

    Args:
        images: of one sensor; or by sensor, of the same grounds in the same order, for the joint
            representation.
        sensor: of images that are not given by sensor.
        gsd_m: metres per pixel of each image; by sensor as the images.
        tokens: all tokens of each image, not their mean.
        precision: "bf16" multiplies matrices in bfloat16 (autocast), "auto" does where that is
            native to the processor or GPU (`salib.model.precision`).
        used: the implementations of attention that ran are added to it; "unknown" of a model that
            does not say.

    Raises:
        ValueError: if there is no image, or the model returns values that are not finite.
    """
    joint = isinstance(images, Mapping)
    views: Any = images if joint else {sensor: images}
    metres: Any = gsd_m if isinstance(gsd_m, Mapping) else {sensor: gsd_m}
    if not max(map(len, views.values())):
        raise ValueError("images must hold at least one image, got none")
    device = device_of(model)
    options: dict[str, Any] = {} if joint else {"sensor": sensor}
    options |= {"tokens": True} if tokens else {}
    stacks = [torch.from_numpy(view).permute(0, 3, 1, 2).split(batch) for view in views.values()]
    stacks += [torch.from_numpy(metres[name]).float().split(batch) for name in views]
    parts = []
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    record = getattr(model, "attention_used", {"unknown"})
    earlier = set(record) - {"unknown"}
    record -= earlier
    with torch.inference_mode(), autocast(precision, device):
        for stack in zip(*stacks, strict=True):
            placed = [part.to(device) for part in stack]
            shown: Any = dict(zip(views, placed, strict=False))
            gsds: Any = dict(zip(views, placed[len(views) :], strict=True))
            if not joint:
                shown, gsds = shown[sensor], gsds[sensor]
            parts.append(model.embed(shown, gsd_m=gsds, **options))
    if isinstance(model, nn.Module):
        model.train(was_training)
    if used is not None:
        used |= record
    record |= earlier
    features = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(
            f"embeddings of {'+'.join(map(str, views))} must be finite, got NaN or infinity"
        )
    return features


class Baseline:
    """A description of images in the place of an encoder; its tokens describe patches of 8 px."""

    def __init__(self, describe: Callable[[Images], Float32[np.ndarray, "items dim"]]) -> None:
        """Take the function that describes images."""
        self.describe = describe
        self.attention_used: set[str] = set()

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
    images: Images, seed: int, *, filters: int = 256, batch: int = BATCH
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
        for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(batch):
            response = F.conv2d(part.float() / 127.5 - 1, weights, stride=2)
            halves = torch.cat([response.clamp(min=0), (-response).clamp(min=0)], dim=1)
            parts.append(halves.mean((2, 3)))
    return torch.cat(parts).numpy()


def device_of(model: Embedder) -> torch.device:
    """Where the model's parameters lie."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((parameter.device for parameter in parameters), torch.device("cpu"))
