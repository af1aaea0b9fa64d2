"""What `ScaleAlibi.embed` accepts: images of one sensor, or of several of the same ground."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salib.config import ModelConfig

ACTIVATION_BYTES = 2**30
BYTES_PER_VALUE = 96
"""What a number of a token takes while a layer runs: 4 bytes, widened, in several copies."""


class Options(TypedDict, total=False):
    """What else `ScaleAlibi.embed` takes, by keyword."""

    tokens: bool
    pooled: bool
    batch: int | None
    device: str | torch.device | None


@dataclass(frozen=True)
class View:
    """Images of one sensor and the metres of ground per pixel of each.

    Where `valid` is False a pixel has no data; it takes the sensor's mean.
    """

    images: Float[Tensor, "batch bands height width"] | Tensor
    gsd_m: Float[Tensor, " batch"]
    valid: Bool[Tensor, "batch height width"] | None = None

    def part(self, rows: slice) -> "View":
        """Some of the images."""
        valid = None if self.valid is None else self.valid[rows]
        return View(self.images[rows], self.gsd_m[rows], valid)

    def standardised(
        self, standardise: Callable[[Tensor], Tensor], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Pixels as an encoder takes them, and metres per pixel: one where all images share it."""
        pixels = standardise(self.images.to(device).float())
        if not bool(pixels.isfinite().all()):
            raise ValueError("images must be finite pixel values, got NaN or infinity")
        if self.valid is not None:
            pixels = pixels.masked_fill(~self.valid[:, None].to(device), 0.0)
        gsd_m = self.gsd_m.to(device)
        shared = len(gsd_m) and bool((gsd_m == gsd_m[0]).all())
        return pixels, gsd_m[:1] if shared else gsd_m


def checked_views(
    images: Tensor | np.ndarray | Mapping, sensor: str | None, gsd_m: object, config: ModelConfig
) -> dict[str, View]:
    """Images by sensor, in fusion order, of which each fits and all show the same ground.

    Raises:
        ValueError: as `ScaleAlibi.embed`.
    """
    if isinstance(images, Mapping):
        if sensor is not None:
            raise ValueError(f"sensor must not be given with images by sensor, got {sensor!r}")
        metres = gsd_m if isinstance(gsd_m, Mapping) else {}
    else:
        sensor = str(sensor)
        images, metres = {sensor: images}, {sensor: gsd_m} if gsd_m is not None else {}
    check_fusible(images, config.sensors, partial=config.partial)
    if strange := [name for name in metres if name not in config.sensors]:
        raise ValueError(f"sensor must be one of {config.sensors}, got {strange[0]!r} in gsd_m")
    if missing := [name for name in images if name not in metres]:
        raise ValueError(f"gsd_m must give the metres per pixel of {', '.join(missing)}, got none")
    views = {
        name: _view(images[name], metres[name], name) for name in config.sensors if name in images
    }
    if len(views) > 1:
        _check_same_ground(views, config.patch_px)
    return views


def check_fusible(given: Collection[str], order: tuple[str, ...], *, partial: bool = False) -> None:
    """One sensor alone, or the first ones of the order in which they are fused.

    Args:
        given: names of sensors.
        order: the model's sensors.
        partial: any of them may be missing (`ModelConfig.partial`).

    Raises:
        ValueError: if there is none, one that the model lacks, or another one is missing.
    """
    if not given:
        raise ValueError("images must be of one sensor or more, got an empty mapping")
    for name in given:
        if name not in order:
            raise ValueError(
                f"sensor must be one of the model's, {', '.join(order)}, got {name!r}: choose one, "
                "or another model"
            )
    if partial:
        return
    needed = order[: max(order.index(name) for name in given) + 1]
    absent = [name for name in needed if name not in given]
    if len(given) > 1 and absent:
        raise ValueError(
            f"images must hold what the others are fused into, got {', '.join(given)} without "
            f"{', '.join(absent)}: fusion takes {', then '.join(order)}; embed each sensor alone, "
            "or pretrain with samples that lack some (sensor_dropout)"
        )


def _view(images: Tensor | np.ndarray, gsd_m: object, sensor: str) -> View:
    images = torch.as_tensor(images)
    if images.ndim != 4 or min(images.shape[1:]) < 1:
        raise ValueError(
            f"images must be (batch, bands, height, width), got {tuple(images.shape)} of {sensor}"
        )
    try:
        metres = torch.as_tensor(gsd_m, dtype=torch.float32).expand(len(images))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"gsd_m must be one number, or one per image of {len(images)}, got {gsd_m!r}"
        ) from error
    if not bool((metres.isfinite() & (metres > 0)).all()):
        raise ValueError(f"gsd_m must be positive metres per pixel, got {gsd_m} of {sensor}")
    return View(images, metres)


def _check_same_ground(views: Mapping[str, View], patch_px: int) -> None:
    """North-west corners are common by definition; the far sides may differ by half a patch."""
    counts = {name: len(view.images) for name, view in views.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"images must be as many of each sensor, got {counts}")
    gsd_m = torch.stack([view.gsd_m.cpu() for view in views.values()])
    shapes = torch.tensor([view.images.shape[-2:] for view in views.values()])
    sides, patch_m = shapes[:, None] * gsd_m[..., None], gsd_m.amax(0) * patch_px
    apart = (sides - sides[0]).abs().amax(-1)
    for other, image in (apart > patch_m / 2).nonzero()[:1].tolist():
        shown = {
            name: "{:g} x {:g} m".format(*sides[n, image].tolist())
            for n, name in enumerate(views)
            if n in (0, other)
        }
        raise ValueError(
            f"images must show the same ground to within half a patch ({patch_m[image] / 2:g} m),"
            f" got {shown} in image {image}: cut them to one area, or correct gsd_m"
        )


def in_parts(
    views: Mapping[str, View], config: ModelConfig, batch: int | None
) -> Iterator[dict[str, View]]:
    """`batch` images at a time, or as many as take about ACTIVATION_BYTES; one part at least.

    Raises:
        ValueError: if batch is below one.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    pixels = sum(view.images.shape[-2] * view.images.shape[-1] for view in views.values())
    tokens = max(1, pixels // config.patch_px**2)
    step = batch or max(1, ACTIVATION_BYTES // (tokens * config.dim * BYTES_PER_VALUE))
    for start in range(0, max(1, len(next(iter(views.values())).images)), step):
        yield {name: view.part(slice(start, start + step)) for name, view in views.items()}
