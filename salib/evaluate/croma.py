"""CROMA's published weights as columns: of twelve bands, and of red, green and blue alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from salib.config import SENSORS, BandStats
from salib.evaluate.columns import Candidate
from salib.evaluate.tasks.task import Task, iter_split

FULL_RANGE = {
    "lores": BandStats(mean=(127.5,) * 3, std=(63.75,) * 3),
    "s2": BandStats(mean=(5000.0,) * 12, std=(2500.0,) * 12),
}


class PublishedCroma(nn.Module):
    """Published CROMA on images of other data sets than its own.

    As its training did with a data set, each band's mean -+ 2 standard deviations is mapped to
    0..1 and clipped. It was made for the twelve bands of "s2"; of "lores" it is given red, green
    and blue in their places, and the nine missing bands are 0.5, their mean.
    """

    def __init__(self, model: nn.Module, stats: Mapping[str, BandStats] = FULL_RANGE) -> None:
        """Wrap weights read by `load_croma`.

        Args:
            stats: mean and deviation of the bands of the images' data set by sensor (see
                `with_task_stats`); by default the whole range of pixel values becomes 0..1.
        """
        super().__init__()
        self.model: Any = model
        self.stats = stats

    @property
    def attention_used(self) -> set[str]:
        """Names of the implementations of attention that have served so far."""
        return self.model.attention_used

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor, **options: bool) -> Tensor:
        """Embed (batch bands height width) of "lores" or "s2"; sides must be multiples of 8.

        Raises:
            ValueError: if the images are not of the sensor's bands, or the model refuses them.
        """
        stats = self.stats[sensor]
        if images.shape[1] != len(stats.mean):
            wanted = ", ".join(SENSORS[sensor].bands)
            raise ValueError(f"images must be {wanted}, got {images.shape[1]} bands")
        table = images.new_tensor([stats.mean, stats.std], dtype=torch.float32)
        mean, std = table.view(2, 1, -1, 1, 1)
        bands = ((images.float() - mean + 2 * std) / (4 * std)).clamp(0, 1)
        if sensor == "lores":
            colours, s2 = bands, SENSORS["s2"]
            bands = colours.new_full((len(images), len(s2.bands), *images.shape[2:]), 0.5)
            bands[:, s2.shown] = colours
        return self.model.embed(bands, "s2", gsd_m, **options)


def with_task_stats(candidates: dict[str, Candidate], task: Task) -> dict[str, Candidate]:
    """The same columns, those of published weights with statistics of the task's train split."""
    mine = {name: one for name, one in candidates.items() if isinstance(one.model, PublishedCroma)}
    sensors = {one.sensor for one in mine.values()} & {*task.sensors}
    stats = FULL_RANGE | {name: train_stats(task, name) for name in sorted(sensors)}
    return candidates | {
        name: replace(one, model=PublishedCroma(one.model.model, stats))  # pyright: ignore[reportAttributeAccessIssue]
        for name, one in mine.items()
    }


def train_stats(task: Task, sensor: str) -> BandStats:
    """Mean and deviation of each band over all pixels of a task's train images, as stored.

    The deviation of a constant band is 1.
    """
    scaler: Any = StandardScaler()
    for image, _ in iter_split(task, "train", modality=SENSORS[sensor].modality):
        scaler.partial_fit(image.reshape(-1, image.shape[2]).astype(np.float64))
    return BandStats(mean=tuple(scaler.mean_.tolist()), std=tuple(scaler.scale_.tolist()))
