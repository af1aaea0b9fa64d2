"""The columns of a table of results, candidates and baselines, and their features of a task."""

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from salib.config import SENSOR_NAMES, SENSORS, Precision
from salib.evaluate.features import Embedder, embed, image_statistics, random_convolution
from salib.evaluate.tasks.geobench_reader import Label
from salib.evaluate.tasks.inputs import Modality, to_input
from salib.evaluate.tasks.task import Task, iter_split

IMAGES_AT_ONCE = 256
STATISTICS = "image statistics"
CONVOLUTION = "random convolution"
Side = tuple[Modality, int]
Resized = tuple[Shaped[np.ndarray, "items side side bands"], Float64[np.ndarray, " items"]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model evaluated through one of its sensor encoders, or through several jointly.

    Args:
        sensor: "lores" and "hires" see red, green, blue; "radar" VV and VH, "s2" twelve bands, and
            no task without (`Task.sensors`); "joint" all of `sensors`, where a task has them.
        upsample: side of its images in units of `image_px`; the paper's hires encoder takes 2. Of
            "joint", hires images have twice the side whatever it is.
        trained: False for the same architecture as built, the baseline of every candidate.
        sensors: what "joint" fuses.
    """

    model: Embedder
    sensor: str
    upsample: int = 1
    trained: bool = True
    sensors: tuple[str, ...] = SENSOR_NAMES

    def __post_init__(self) -> None:
        """Check the sensor and the side.

        Raises:
            ValueError: if there is no such sensor, or `upsample` is below one.
        """
        if self.sensor not in (*SENSORS, "joint"):
            known = ", ".join(SENSORS)
            raise ValueError(f"sensor must be {known} or joint, got {self.sensor!r}")
        if self.upsample < 1:
            raise ValueError(f"upsample must be at least 1, got {self.upsample}")

    @property
    def views(self) -> dict[str, int]:
        """The sensors it sees, and the side of their images in units of `image_px`."""
        if self.sensor == "joint":
            return {name: self.upsample * SENSORS[name].factor for name in self.sensors}
        return {self.sensor: self.upsample}

    def sides(self, task: Task, image_px: int) -> dict[str, Side]:
        """By sensor, which modality of a task it is given, and the side of those images."""
        views = self.views.items()
        return {name: (task.modality_of(name), image_px * scale) for name, scale in views}


class Split(NamedTuple):
    """What one split gives each column.

    Attributes:
        features: by column.
        labels: a class per item, or 0/1 of each class where the task is multi-label.
        gsd_m: median metres per pixel by side of the optical images.
        attention: implementations that ran, by column; none of the baselines.
    """

    features: dict[str, Float32[np.ndarray, "_ _"]]
    labels: Int64[np.ndarray, " items"] | Int64[np.ndarray, "items classes"]
    gsd_m: dict[int, float]
    attention: dict[str, set[str]]


def embed_split(
    task: Task,
    split: str,
    candidates: dict[str, Candidate],
    *,
    image_px: int,
    seed: int,
    precision: Precision = "float32",
) -> Split:
    """Features of a split for every column that the task has images for; images are a stream.

    Image statistics and random convolutional features see the optical images of side `image_px`.
    """
    start = time.perf_counter()
    able = {name: one for name, one in candidates.items() if set(one.views) <= set(task.sensors)}
    wanted = {name: one.sides(task, image_px) for name, one in able.items()}
    sides: set[Side] = {("optical", image_px)}
    sides.update(side for views in wanted.values() for side in views.values())
    features: dict[str, list] = {name: [] for name in (*able, STATISTICS, CONVOLUTION)}
    attention: dict[str, set[str]] = {name: set() for name in able}
    gsds: dict[int, list] = {side: [] for modality, side in sides if modality == "optical"}
    labels: list[Label] = []
    for shown, chunk_labels in in_chunks(task, split, sides):
        labels += chunk_labels
        for name, one in able.items():
            views = {sensor: shown[side] for sensor, side in wanted[name].items()}
            features[name].append(_vectors(one, views, precision, attention[name]))
        for side, parts in gsds.items():
            parts.append(shown["optical", side][1])
        pixels, _ = shown["optical", image_px]
        features[STATISTICS].append(image_statistics(pixels))
        features[CONVOLUTION].append(random_convolution(pixels, named_seed(seed, CONVOLUTION)))
    seconds = time.perf_counter() - start
    logger.info("%s %s: %d read, embedded in %.1f s", task.name, split, len(labels), seconds)
    return Split(
        {name: np.concatenate(parts) for name, parts in features.items()},
        np.array(labels, np.int64),
        {side: float(np.median(np.concatenate(parts))) for side, parts in gsds.items()},
        attention,
    )


def _vectors(
    candidate: Candidate, views: dict[str, Resized], precision: Precision, used: set[str]
) -> Float32[np.ndarray, "items dim"]:
    images, gsd_m = ({name: view[part] for name, view in views.items()} for part in (0, 1))
    options = {"precision": precision, "used": used}
    if candidate.sensor == "joint":
        return embed(candidate.model, images, gsd_m=gsd_m, **options)
    sensor = candidate.sensor
    return embed(candidate.model, images[sensor], sensor=sensor, gsd_m=gsd_m[sensor], **options)


def named_seed(seed: int, *names: str) -> int:
    """A 32-bit seed for what `names` say, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def in_chunks(
    task: Task, split: str, sides: set[Side]
) -> Iterator[tuple[dict[Side, Resized], list[Label]]]:
    """Images by modality and side, with the metres per pixel of each, and labels, in chunks."""
    modalities: set[Modality] = {modality for modality, _ in sides}
    items = zip(*(iter_split(task, split, modality=one) for one in modalities), strict=True)
    while chunk := list(islice(items, IMAGES_AT_ONCE)):
        images = {one: [item[n][0] for item in chunk] for n, one in enumerate(modalities)}
        shown = {side: _resized(task, side, images[side[0]]) for side in sides}
        yield shown, [item[0][1] for item in chunk]


def _resized(task: Task, side: Side, images: list[np.ndarray]) -> Resized:
    native_gsd_m = task.rule_of(side[0]).native_gsd_m
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side[1]) for image in images]
    return np.stack([pixels for pixels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
