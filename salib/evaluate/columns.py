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

from salib.config import SENSOR_NAMES, SENSORS, Precision
from salib.evaluate.features import Embedder, embed, image_statistics, random_convolution
from salib.evaluate.tasks.geobench_reader import Label
from salib.evaluate.tasks.inputs import Modality, to_input
from salib.evaluate.tasks.task import Task, iter_split

IMAGES_AT_ONCE = 256
STATISTICS = "image statistics"
CONVOLUTION = "random convolution"
Side = tuple[Modality, int]
Resized = tuple[UInt8[np.ndarray, "items side side bands"], Float64[np.ndarray, " items"]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One column: a model looking through one of its sensors, or through several together.

    Args:
        sensor: "lores" and "hires" look at red, green, blue; "radar" at VV and VH, and at no task
            without (`Task.sensors`); "joint" at all of `sensors`, where a task has radar.
        zoom: side of its images in units of `image_px`; the paper's hires encoder takes 2. Of
            "joint", hires images have twice the side whatever it is.
        trained: False for the same architecture as built, the baseline of every column.
        sensors: what "joint" fuses.
    """

    model: Embedder
    sensor: Literal["radar", "lores", "hires", "joint"]
    zoom: int = 1
    trained: bool = True
    sensors: tuple[str, ...] = SENSOR_NAMES

    def __post_init__(self) -> None:
        """Check the sensor and the zoom.

        Raises:
            ValueError: if there is no such sensor, or the zoom is below one.
        """
        if self.sensor not in (*SENSOR_NAMES, "joint"):
            raise ValueError(f"sensor must be radar, lores, hires or joint, got {self.sensor!r}")
        if self.zoom < 1:
            raise ValueError(f"zoom must be at least 1, got {self.zoom}")

    @property
    def views(self) -> dict[str, int]:
        """The sensors it looks through, and the side of their images in units of `image_px`."""
        if self.sensor == "joint":
            return {name: self.zoom * SENSORS[name].factor for name in self.sensors}
        return {self.sensor: self.zoom}


class Split(NamedTuple):
    """What one split gives each column.

    Attributes:
        features: by column.
        labels: a class an item, or 0/1 of each class where the task is multi-label.
        gsd_m: median metres a pixel by side of the optical images.
        attention: implementations that ran, by column; none of the baselines.
    """

    features: dict[str, Float32[np.ndarray, "_ _"]]
    labels: Int64[np.ndarray, " items"] | Int64[np.ndarray, "items classes"]
    gsd_m: dict[int, float]
    attention: dict[str, set[str]]


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

    Image statistics and random convolutional features see the optical images of side `image_px`.
    """
    start = time.perf_counter()
    looking = {n: e for n, e in encoders.items() if set(e.views) <= set(task.sensors)}
    wanted = {name: _inputs(task, encoder, image_px) for name, encoder in looking.items()}
    needed: set[Side] = {("optical", image_px)}
    needed.update(side for inputs in wanted.values() for side in inputs.values())
    sides = sorted(needed)
    features: dict[str, list] = {name: [] for name in (*looking, STATISTICS, CONVOLUTION)}
    attention: dict[str, set[str]] = {name: set() for name in looking}
    gsds: dict[int, list] = {side: [] for look, side in sides if look == "optical"}
    labels: list[Label] = []
    looks: set[Modality] = {look for look, _ in sides}
    for images, chunk_labels in in_chunks(task, split, tuple(looks)):
        labels += chunk_labels
        seen = {
            (look, side): resized(images[look], task.rule_of(look).native_gsd_m, side)
            for look, side in sides
        }
        for name, encoder in looking.items():
            shown = {sensor: seen[side] for sensor, side in wanted[name].items()}
            features[name].append(_vectors(encoder, shown, precision, attention[name]))
        for side, parts in gsds.items():
            parts.append(seen["optical", side][1])
        levels, _ = seen["optical", image_px]
        generator = torch.Generator().manual_seed(stream(seed, CONVOLUTION))
        features[STATISTICS].append(image_statistics(levels))
        features[CONVOLUTION].append(random_convolution(levels, generator))
    seconds = time.perf_counter() - start
    logger.info("%s %s: %d read, embedded in %.1f s", task.name, split, len(labels), seconds)
    return Split(
        {name: np.concatenate(parts) for name, parts in features.items()},
        np.array(labels, np.int64),
        {side: float(np.median(np.concatenate(parts))) for side, parts in gsds.items()},
        attention,
    )


def _inputs(task: Task, encoder: Encoder, image_px: int) -> dict[str, Side]:
    """What an encoder is shown of a task, by sensor: a modality, and the side of its images."""
    return {name: (task.modality_of(name), image_px * zoom) for name, zoom in encoder.views.items()}


def _vectors(
    encoder: Encoder, shown: dict[str, Resized], precision: Precision, used: set[str]
) -> Float32[np.ndarray, "items dim"]:
    images, gsd_m = ({name: one[part] for name, one in shown.items()} for part in (0, 1))
    how = {"precision": precision, "used": used}
    if encoder.sensor == "joint":
        return embed(encoder.model, images, gsd_m=gsd_m, **how)
    sensor = encoder.sensor
    return embed(encoder.model, images[sensor], sensor=sensor, gsd_m=gsd_m[sensor], **how)


def stream(seed: int, *names: str) -> int:
    """A 32-bit seed for what `names` say, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def in_chunks(
    task: Task, split: str, looks: tuple[Modality, ...] = ("optical",)
) -> Iterator[tuple[dict[Modality, list[np.ndarray]], list[Label]]]:
    """Images by modality, each item's side by side, and labels of a split, in chunks."""
    items = zip(*(iter_split(task, split, modality=look) for look in looks), strict=True)
    while chunk := list(islice(items, IMAGES_AT_ONCE)):
        images: dict[Modality, list] = {
            look: [item[n][0] for item in chunk] for n, look in enumerate(looks)
        }
        yield images, [item[0][1] for item in chunk]


def resized(images: list[np.ndarray], native_gsd_m: float, side: int) -> Resized:
    """Images of one side, and the metres a pixel of each."""
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side) for image in images]
    return np.stack([levels for levels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
