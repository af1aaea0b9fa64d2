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

from salib.evaluate.features import (
    Embedder,
    Precision,
    embed,
    image_statistics,
    random_convolution,
)
from salib.evaluate.geobench_reader import Label
from salib.evaluate.inputs import to_input
from salib.evaluate.tasks import Task, iter_split

IMAGES_AT_ONCE = 256
STATISTICS = "image statistics"
CONVOLUTION = "random convolution"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One column: a model looking through one of its sensors.

    Args:
        zoom: side of its images in units of `image_px`; the paper's hires encoder takes 2.
        trained: False for the same architecture as built, the baseline of every column.
    """

    model: Embedder
    sensor: Literal["lores", "hires"]
    zoom: int = 1
    trained: bool = True

    def __post_init__(self) -> None:
        """Check the sensor and the zoom.

        Raises:
            ValueError: if the sensor takes no RGB image, or the zoom is below one.
        """
        if self.sensor not in ("lores", "hires"):
            raise ValueError(f"sensor must be lores or hires for RGB tasks, got {self.sensor!r}")
        if self.zoom < 1:
            raise ValueError(f"zoom must be at least 1, got {self.zoom}")


class Split(NamedTuple):
    """Features by column, labels, and median metres a pixel by image side, of one split."""

    features: dict[str, Float32[np.ndarray, "_ _"]]
    labels: Int64[np.ndarray, " items"]
    gsd_m: dict[int, float]


def paper_encoders(
    scale_alibi: Embedder,
    croma: Embedder,
    *,
    untrained_scale_alibi: Embedder,
    untrained_croma: Embedder,
) -> dict[str, Encoder]:
    """The columns of Table 2, SA-high, SA-low and CROMA, and each of them untrained."""
    encoders = {}
    for suffix, ours, theirs in (
        ("", scale_alibi, croma),
        (" untrained", untrained_scale_alibi, untrained_croma),
    ):
        trained = not suffix
        encoders[f"SA-high{suffix}"] = Encoder(model=ours, sensor="hires", zoom=2, trained=trained)
        encoders[f"SA-low{suffix}"] = Encoder(model=ours, sensor="lores", trained=trained)
        encoders[f"CROMA{suffix}"] = Encoder(model=theirs, sensor="lores", trained=trained)
    return encoders


def embed_split(
    task: Task,
    split: str,
    encoders: dict[str, Encoder],
    *,
    image_px: int,
    seed: int,
    precision: Precision = "float32",
) -> Split:
    """Features of a split for every column; images are read once, in a stream.

    Image statistics and random convolutional features see the images of side `image_px`.
    """
    start = time.perf_counter()
    sides = sorted({image_px, *(image_px * encoder.zoom for encoder in encoders.values())})
    features: dict[str, list] = {}
    gsds: dict[int, list] = {side: [] for side in sides}
    labels: list[Label] = []
    for images, chunk_labels in _chunks(task, split):
        labels += chunk_labels
        for side in sides:
            levels, gsd_m = _resized(images, task.gsd_m, side)
            gsds[side].append(gsd_m)
            for name, encoder in encoders.items():
                if image_px * encoder.zoom == side:
                    look = {"sensor": encoder.sensor, "gsd_m": gsd_m, "precision": precision}
                    vectors = embed(encoder.model, levels, **look)
                    features.setdefault(name, []).append(vectors)
            if side == image_px:
                features.setdefault(STATISTICS, []).append(image_statistics(levels))
                generator = torch.Generator().manual_seed(stream(seed, CONVOLUTION))
                convolved = random_convolution(levels, generator)
                features.setdefault(CONVOLUTION, []).append(convolved)
    seconds = time.perf_counter() - start
    logger.info("%s %s: %d read, embedded in %.1f s", task.name, split, len(labels), seconds)
    return Split(
        {name: np.concatenate(features[name]) for name in (*encoders, STATISTICS, CONVOLUTION)},
        np.array(labels, np.int64),
        {side: float(np.median(np.concatenate(parts))) for side, parts in gsds.items()},
    )


def stream(seed: int, *names: str) -> int:
    """A 32-bit seed for what `names` say, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def _chunks(task: Task, split: str) -> Iterator[tuple[list[np.ndarray], list[Label]]]:
    items = iter_split(task, split)
    while chunk := list(islice(items, IMAGES_AT_ONCE)):
        yield [image for image, _ in chunk], [label for _, label in chunk]


def _resized(
    images: list[np.ndarray], native_gsd_m: float, side: int
) -> tuple[UInt8[np.ndarray, "items side side 3"], Float64[np.ndarray, " items"]]:
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side) for image in images]
    return np.stack([levels for levels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
