"""CROMA's published weights as one more column: red, green and blue in their places."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salib.config import Levels
from salib.evaluate.columns import Candidate
from salib.evaluate.tasks.task import Task, iter_split

OPTICAL_BANDS, RED_GREEN_BLUE = 12, (3, 2, 1)
"""Sentinel-2 bands in the order 1 to 8, 8A, 9, 11, 12."""
FULL_RANGE = Levels(mean=(127.5,) * 3, std=(63.75,) * 3)


class PublishedCroma(nn.Module):
    """Published CROMA looking at 8-bit red, green and blue, as our own columns do.

    As its training did with a data set, each colour's mean -+ 2 standard deviations is mapped to
    0..1 and clipped; the nine bands that are not there are 0.5, their mean. With all twelve bands
    it does better than such a row shows.
    """

    def __init__(self, model: nn.Module, colours: Levels = FULL_RANGE) -> None:
        """Wrap weights read by `load_croma`.

        Args:
            colours: mean and deviation of the red, green, blue levels of the images' data set (see
                `with_task_colours`); by default 0..255 becomes 0..1.
        """
        super().__init__()
        self.model: Any = model
        self.colours = colours

    @property
    def attention_used(self) -> set[str]:
        """Names of the implementations of attention that have served so far."""
        return self.model.attention_used

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor, **options: bool) -> Tensor:
        """Embed (batch 3 height width) levels; sides must be multiples of 8.

        Raises:
            ValueError: if the images are not of three bands, or the model refuses them.
        """
        if images.shape[1] != len(RED_GREEN_BLUE):
            raise ValueError(f"images must be red, green, blue, got {images.shape[1]} bands")
        mean, std = images.new_tensor(
            [self.colours.mean, self.colours.std], dtype=torch.float32
        ).view(2, 1, 3, 1, 1)
        colours = ((images.float() - mean + 2 * std) / (4 * std)).clamp(0, 1)
        bands = colours.new_full((len(images), OPTICAL_BANDS, *images.shape[2:]), 0.5)
        bands[:, RED_GREEN_BLUE] = colours
        return self.model.embed(bands, sensor, gsd_m, **options)


def with_task_colours(candidates: dict[str, Candidate], task: Task) -> dict[str, Candidate]:
    """The same columns, those of published weights with the colours of the task's train split."""
    if not any(isinstance(one.model, PublishedCroma) for one in candidates.values()):
        return candidates
    colours = train_colours(task)
    return {
        name: replace(one, model=PublishedCroma(one.model.model, colours))
        if isinstance(one.model, PublishedCroma)
        else one
        for name, one in candidates.items()
    }


def train_colours(task: Task) -> Levels:
    """Mean and deviation of each colour over all pixels of a task's train images, as stored.

    The deviation of a constant colour is 1.
    """
    count, sums, squares = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    for image, _ in iter_split(task, "train"):
        pixels = image.reshape(-1, 3).astype(np.int64)
        count += len(pixels)
        sums += pixels.sum(0)
        squares += (pixels**2).sum(0)
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Levels(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))
