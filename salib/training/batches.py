"""Samples to batches: crops of the same ground, turned, with a radiometry of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from salib.config import SENSORS, TILE_PX, Sensor, TrainConfig
from salib.files.images import resize_bands
from salib.training.data import Pixels, Samples
from salib.training.sampling import order_of, stream

BAND_SHARE = 0.3
"""Of the jitter of a band in that of an image."""
STARTS = 2**18
"""Places at which an image's noise begins in what all images share."""
THICKEST = 0.5
"""Share of the light of the ground that haze takes away at most."""


@dataclass(frozen=True)
class Batch:
    """Images of the same ground by sensor, in pixel values of tiles, and metres per pixel.

    Attributes:
        images: of samples that lack the sensor, zeros.
        gsd_m: metres per pixel.
        present: which samples have the sensor; None if all have all.
    """

    images: Mapping[str, Float[Tensor, "batch bands height width"]]
    gsd_m: Mapping[str, Float[Tensor, " batch"]]
    present: Mapping[str, Bool[Tensor, " batch"]] | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed, such as put on a device or cut to some rows."""
        parts = {
            field: {name: change(value) for name, value in part.items()}
            for field, part in vars(self).items()
            if part is not None
        }
        return Batch(**parts)


@dataclass(frozen=True)
class Crop:
    """A square of ground within a sample: lores pixels of the tile, then a turn or flip."""

    top: int
    left: int
    side_px: int
    turn: int


def draw_batch(
    samples: Samples,
    config: TrainConfig,
    *,
    seed: int,
    step: int,
    view: int = 0,
    rank: int = 0,
    ranks: int = 1,
    sensors: Sequence[str] = (),
) -> Batch:
    """Samples, crops and radiometry of one view of a step.

    Samples are drawn without replacement, epoch by epoch (see `training.sampling.Order`). A crop is
    the same ground for all sensors; its side is drawn, so that every encoder meets a range of
    ground sample distances, each stated truly in `gsd_m` (D18). Radiometry is drawn for each sensor
    apart. A step's batch does not depend on the number of ranks; a rank gets its share.

    Args:
        samples: of a curated folder.
        config: batch, crops, radiometry.
        seed: of the run.
        step: whose samples to draw; all views of a step show the same ones.
        view: number of the view.
        rank: of this process.
        ranks: in all.
        sensors: which images to cut; by default all that the samples have.

    Raises:
        ValueError: if the ranks do not divide the batch, or it is larger than the samples.
    """
    if config.batch % ranks:
        raise ValueError(f"batch must be a multiple of the ranks, got {config.batch} and {ranks}")
    generator = stream(seed, f"batches{view or ''}", step)
    drawn = order_of(len(samples), config.batch, seed).batch(step)
    grounds = _draw_grounds(config, len(drawn), seed=seed, step=step)
    crops = [_draw_crop(config, ground, generator) for ground in grounds]
    gains = {n: _draw_gains(config, len(SENSORS[n].bands), generator) for n in samples.sensors}
    mine = list(range(rank, config.batch, ranks))
    sensors = sensors or samples.sensors
    there = _draw_present(samples, config, drawn, sensors, seed=seed, step=step)
    images, gsd_m = {}, {}
    for name in sensors:
        row = SENSORS[name]
        side = config.image_px * row.factor
        empty = np.zeros((side, side, len(row.bands)), row.dtype)
        cut = [
            cut_crop(samples.image(drawn[i], name), crops[i], row.factor, side)
            if there is None or there[name][i]
            else empty
            for i in mine
        ]
        pixels = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous().float()
        pixels = pixels.mul_(gains[name][mine]).clamp_(0, row.max_value)
        images[name] = _weather(pixels, config, row, stream(seed, f"{name}{view}", step), mine)
        zoomed = [samples.gsd_m(drawn[i], name) * crops[i].side_px / config.image_px for i in mine]
        gsd_m[name] = torch.tensor(zoomed)
    return Batch(images, gsd_m, there and {name: there[name][mine] for name in sensors})


def cut_crop(
    image: Pixels, crop: Crop, factor: int, side_px: int
) -> Shaped[np.ndarray, "side side bands"]:
    """The crop's ground in one sensor, resampled to side_px, turned or flipped."""
    top, left, side = crop.top * factor, crop.left * factor, crop.side_px * factor
    part = image[top : top + side, left : left + side]
    if side != side_px:
        method = cv2.INTER_AREA if side > side_px else cv2.INTER_CUBIC
        part = resize_bands(part, side_px, method)
    turned = np.rot90(part, crop.turn % 4)
    return np.ascontiguousarray(turned if crop.turn < 4 else turned[:, ::-1])


def _draw_grounds(config: TrainConfig, count: int, *, seed: int, step: int) -> list[Crop]:
    """The square of each sample in which all views of a step are cut."""
    side = config.ground_px or TILE_PX
    corners = torch.randint(TILE_PX - side + 1, (2, count), generator=stream(seed, "ground", step))
    return [Crop(top, left, side, 0) for top, left in corners.T.tolist()]


def _draw_crop(config: TrainConfig, ground: Crop, generator: torch.Generator) -> Crop:
    smallest, largest = config.crop_px
    size, top, left, turn = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    side = round(smallest * (largest / smallest) ** size)
    corners = ground.side_px - side + 1
    return Crop(
        ground.top + int(top * corners), ground.left + int(left * corners), side, int(turn * 8)
    )


def _draw_gains(config: TrainConfig, bands: int, generator: torch.Generator) -> Tensor:
    whole = torch.randn(config.batch, 1, generator=generator)
    band = torch.randn(config.batch, bands, generator=generator)
    return (config.jitter * (whole + BAND_SHARE * band)).exp()[..., None, None]


def _draw_present(
    samples: Samples,
    config: TrainConfig,
    drawn: list[int],
    sensors: Sequence[str],
    *,
    seed: int,
    step: int,
) -> dict[str, Tensor] | None:
    """Which samples show which sensor, one at least; None if all show all."""
    if samples.complete and not config.sensor_dropout:
        return None
    there = {name: torch.from_numpy(samples.present[name][drawn]) for name in sensors}
    generator = stream(seed, "dropout", step)
    luck, which = torch.rand(2, len(drawn), generator=generator)
    held = torch.stack([*there.values()], dim=1)
    several = held.sum(1) > 1
    chosen = (which * held.sum(1)).long().clamp(max=held.sum(1) - 1)  # among those that are there
    lost = held & (held.cumsum(1) - 1 == chosen[:, None])
    held = held & ~(lost & (several & (luck < config.sensor_dropout))[:, None])
    return dict(zip(there, held.T.contiguous(), strict=True))


def _weather(
    pixels: Float[Tensor, "share bands height width"],
    config: TrainConfig,
    sensor: Sensor,
    generator: torch.Generator,
    mine: list[int],
) -> Float[Tensor, "share bands height width"]:
    """Another contrast, haze and noise of each image; overwrites `pixels`."""
    if not (config.gamma or config.haze or config.noise):
        return pixels
    top = sensor.max_value
    bend = torch.randn(config.batch, generator=generator)[mine, None, None, None]
    luck, veil, grain, *_ = torch.rand(3, config.batch, generator=generator)[:, mine]
    if config.gamma:
        pixels.div_(top).pow_((config.gamma * bend).exp()).mul_(top)
    if config.haze:
        veil = THICKEST * veil * (luck < config.haze)
        pixels.lerp_(pixels.new_tensor(float(top)), veil[:, None, None, None])
    if config.noise:
        seeds = torch.randint(STARTS, (config.batch,), generator=generator)[mine].tolist()
        for image, start, size in zip(pixels, seeds, grain.tolist(), strict=True):
            noise = _noise(image.numel())[start : start + image.numel()].view_as(image)
            image.add_(noise, alpha=size * config.noise * top)
    return pixels.clamp_(0, top)


@cache
def _noise(numbers: int) -> Tensor:
    """Normal numbers, of which each image takes some: drawing them anew takes ten times as long."""
    return torch.randn(numbers + STARTS, generator=stream(0, "noise", 0))
