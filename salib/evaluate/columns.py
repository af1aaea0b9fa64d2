"""The columns of a table of results, encoders and baselines, and their features of a task."""

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8

from salib.config import Precision
from salib.evaluate.features import Embedder, embed, image_statistics, random_convolution
from salib.evaluate.geobench_reader import Label
from salib.evaluate.inputs import Look, to_input
from salib.evaluate.tasks import Task, iter_split

IMAGES_AT_ONCE = 256
STATISTICS = "image statistics"
CONVOLUTION = "random convolution"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One column: a model looking through one of its sensors.

    Args:
        sensor: "lores" and "hires" look at red, green, blue; "radar" at VV and VH, and at no task
            without (`Task.sensors`).
        zoom: side of its images in units of `image_px`; the paper's hires encoder takes 2.
        trained: False for the same architecture as built, the baseline of every column.
    """

    model: Embedder
    sensor: Literal["radar", "lores", "hires"]
    zoom: int = 1
    trained: bool = True

    def __post_init__(self) -> None:
        """Check the sensor and the zoom.

        Raises:
            ValueError: if there is no such sensor, or the zoom is below one.
        """
        if self.sensor not in ("radar", "lores", "hires"):
            raise ValueError(f"sensor must be radar, lores or hires, got {self.sensor!r}")
        if self.zoom < 1:
            raise ValueError(f"zoom must be at least 1, got {self.zoom}")


class Split(NamedTuple):
    """Features by column, labels, and median metres a pixel by image side, of one split.

    Labels are a class an item, or 0/1 of each class where the task is multi-label.
    """

    features: dict[str, Float32[np.ndarray, "_ _"]]
    labels: Int64[np.ndarray, " items"] | Int64[np.ndarray, "items classes"]
    gsd_m: dict[int, float]


def embed_split(
    task: Task,
    split: str,
    encoders: dict[str, Encoder],
    *,
    image_px: int,
    seed: int,
    precision: Precision = "float32",
) -> Split:
    """Features of a split for every column that can look at the task; images are a stream.

    Image statistics and random convolutional features see the images of side `image_px`. Columns
    that look at radar read the split once more.
    """
    start = time.perf_counter()
    sides = sorted({image_px, *(image_px * encoder.zoom for encoder in encoders.values())})
    features: dict[str, list] = {}
    gsds: dict[int, list] = {side: [] for side in sides}
    labels: list[Label] = []
    looking = {n: task.look_of(e.sensor) for n, e in encoders.items() if e.sensor in task.sensors}
    looks: tuple[Look, ...] = ("optical", "radar") if "radar" in looking.values() else ("optical",)
    for look in looks:
        own = {name: encoders[name] for name in looking if looking[name] == look}
        for images, chunk_labels in in_chunks(task, split, look=look):
            labels += chunk_labels if look == "optical" else []
            for side in sides:
                levels, gsd_m = resized(images, task.gsd_m, side)
                for name, encoder in own.items():
                    if image_px * encoder.zoom == side:
                        seen = {"sensor": encoder.sensor, "gsd_m": gsd_m, "precision": precision}
                        vectors = embed(encoder.model, levels, **seen)
                        features.setdefault(name, []).append(vectors)
                if look == "optical":
                    gsds[side].append(gsd_m)
                if look == "optical" and side == image_px:
                    features.setdefault(STATISTICS, []).append(image_statistics(levels))
                    generator = torch.Generator().manual_seed(stream(seed, CONVOLUTION))
                    convolved = random_convolution(levels, generator)
                    features.setdefault(CONVOLUTION, []).append(convolved)
    seconds = time.perf_counter() - start
    logger.info("%s %s: %d read, embedded in %.1f s", task.name, split, len(labels), seconds)
    return Split(
        {name: np.concatenate(features[name]) for name in (*looking, STATISTICS, CONVOLUTION)},
        np.array(labels, np.int64),
        {side: float(np.median(np.concatenate(parts))) for side, parts in gsds.items()},
    )


def stream(seed: int, *names: str) -> int:
    """A 32-bit seed for what `names` say, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def in_chunks(
    task: Task, split: str, *, look: Look = "optical"
) -> Iterator[tuple[list[np.ndarray], list[Label]]]:
    """Images and labels of a split, some hundreds at a time."""
    items = iter_split(task, split, look=look)
    while chunk := list(islice(items, IMAGES_AT_ONCE)):
        yield [image for image, _ in chunk], [label for _, label in chunk]


def resized(
    images: list[np.ndarray], native_gsd_m: float, side: int
) -> tuple[UInt8[np.ndarray, "items side side bands"], Float64[np.ndarray, " items"]]:
    """Images of one side, and the metres a pixel of each."""
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side) for image in images]
    return np.stack([levels for levels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
