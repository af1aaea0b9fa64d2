"""The columns of a table of results, candidates and baselines, and their features of a task."""

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isqrt, prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from salib.config import SENSOR_NAMES, SENSORS, Precision
from salib.evaluate.features import (
    Baseline,
    Embedder,
    embed,
    image_statistics,
    random_convolution,
)
from salib.evaluate.probes.data import Labels
from salib.evaluate.tasks.geobench_reader import sample_names
from salib.evaluate.tasks.inputs import Modality, centre_square, to_input
from salib.evaluate.tasks.task import Task, iter_split, modality_of

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
        """Check the sensor.

        Raises:
            ValueError: if there is no such sensor.
        """
        if self.sensor not in (*SENSORS, "joint"):
            known = ", ".join(SENSORS)
            raise ValueError(f"sensor must be {known} or joint, got {self.sensor!r}")

    @property
    def kind(self) -> str:
        """What its rows call it."""
        if isinstance(self.model, Baseline):
            return "baseline"
        return "trained" if self.trained else "untrained"

    @property
    def views(self) -> dict[str, int]:
        """The sensors it sees, and the side of their images in units of `image_px`."""
        if self.sensor == "joint":
            return {name: self.upsample * SENSORS[name].factor for name in self.sensors}
        return {self.sensor: self.upsample}

    def sides(self, image_px: int) -> dict[str, Side]:
        """By sensor, which modality of a task it is given, and the side of those images."""
        views = self.views.items()
        return {name: (modality_of(name), image_px * scale) for name, scale in views}


def baselines(seed: int) -> dict[str, Candidate]:
    """Image statistics and random convolutional features, which stand beside every model."""
    convolution = partial(random_convolution, seed=named_seed(seed, CONVOLUTION))
    described = {STATISTICS: image_statistics, CONVOLUTION: convolution}
    return {name: Candidate(model=Baseline(one), sensor="lores") for name, one in described.items()}


class Split(NamedTuple):
    """What one split gives each column.

    Attributes:
        features: by column; a grid of tokens per item where they were put into a folder.
        labels: a class per item, 0/1 of each class, or masks.
        gsd_m: median metres per pixel by column, of several images those of the coarsest.
        attention: implementations that ran, by column; none of the baselines.
    """

    features: dict[str, Float32[np.ndarray, "items *grid dim"]]
    labels: Labels
    gsd_m: dict[str, float]
    attention: dict[str, set[str]]


def embed_split(
    task: Task,
    split: str,
    candidates: dict[str, Candidate],
    *,
    image_px: int,
    precision: Precision = "float32",
    folder: Path | None = None,
) -> Split:
    """Features of a split for every column that the task has images for; images are a stream.

    Args:
        folder: for the grids of tokens and the masks of a segmentation task, which do not fit in
            memory; without it features are the means of tokens.

    Raises:
        ValueError: if the folder's disk has no space for them, or masks differ in size.
    """
    start = time.perf_counter()
    able = {name: one for name, one in candidates.items() if set(one.views) <= set(task.sensors)}
    wanted = {name: one.sides(image_px) for name, one in able.items()}
    sides = {side for views in wanted.values() for side in views.values()}
    count = len(sample_names(task.path)[split]) if folder else 0

    def stack(name: str) -> "list[np.ndarray] | _OnDisk":
        return _OnDisk(folder / f"{split}-{name}.npy", count) if folder else []

    features = {name: stack(f"tokens-{number}") for number, name in enumerate(able)}
    labels = stack("masks")
    attention: dict[str, set[str]] = {name: set() for name in able}
    gsds: dict[str, list[np.ndarray]] = {name: [] for name in able}
    for shown, truth in in_chunks(task, split, sides):
        labels.append(truth)
        for name, one in able.items():
            images, gsd_m = (
                {sensor: shown[side][part] for sensor, side in wanted[name].items()}
                for part in (0, 1)
            )
            gsds[name].append(np.max([*gsd_m.values()], axis=0))
            given = {} if one.sensor == "joint" else {"sensor": one.sensor}
            if given:
                images, gsd_m = images[one.sensor], gsd_m[one.sensor]
            options = {"precision": precision, "used": attention[name], "tokens": bool(folder)}
            rows = embed(one.model, images, gsd_m=gsd_m, **given, **options)
            if folder:
                rows = rows.reshape(len(rows), isqrt(rows.shape[1]), isqrt(rows.shape[1]), -1)
            features[name].append(rows)
    seconds = time.perf_counter() - start
    logger.info("%s %s: read and embedded in %.1f s", task.name, split, seconds)
    return Split(
        {name: _whole(parts) for name, parts in features.items()},
        _whole(labels),
        {name: float(np.median(np.concatenate(parts))) for name, parts in gsds.items()},
        attention,
    )


class _OnDisk:
    """An array on disk to which parts are appended."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.filled = path, count, 0
        self.array = np.empty(0)

    def append(self, part: np.ndarray) -> None:
        if not self.filled:
            shape = (self.count, *part.shape[1:])
            size, free = prod(shape) * part.itemsize, shutil.disk_usage(self.path.parent).free
            if size > free:
                raise ValueError(
                    f"tokens need {size / 1e9:.1f} GB in {self.path.parent}, got {free / 1e9:.1f} "
                    "GB free: set TMPDIR to a folder on a larger disk"
                )
            self.array = np.lib.format.open_memmap(self.path, "w+", part.dtype, shape)
        if part.shape[1:] != self.array.shape[1:]:
            sizes = sorted({part.shape[1:], self.array.shape[1:]})
            raise ValueError(f"items of a split must have one size, got {sizes}")
        self.array[self.filled : self.filled + len(part)] = part
        self.filled += len(part)


def _whole(parts: list[np.ndarray] | _OnDisk) -> np.ndarray:
    return parts.array if isinstance(parts, _OnDisk) else np.concatenate(parts)


def named_seed(seed: int, *names: str) -> int:
    """A 32-bit seed for what `names` say, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def in_chunks(
    task: Task, split: str, sides: set[Side]
) -> Iterator[tuple[dict[Side, Resized], Labels]]:
    """Images by modality and side, with the metres per pixel of each, and labels, in chunks."""
    modalities: set[Modality] = {modality for modality, _ in sides}
    items = zip(*(iter_split(task, split, modality=one) for one in modalities), strict=True)
    while chunk := list(islice(items, IMAGES_AT_ONCE)):
        images = {one: [item[n][0] for item in chunk] for n, one in enumerate(modalities)}
        shown = {side: _resized(task, side, images[side[0]]) for side in sides}
        labels = [np.asarray(item[0][1], np.int64) for item in chunk]
        if task.kind == "segmentation":  # the ground that the images are cropped to
            labels = [centre_square(mask) for mask in labels]
        if len(sizes := {label.shape for label in labels}) > 1:
            raise ValueError(f"masks of {task.name} must have one size, got {sorted(sizes)}")
        yield shown, np.stack(labels)


def _resized(task: Task, side: Side, images: list[np.ndarray]) -> Resized:
    native_gsd_m = task.rule_of(side[0]).native_gsd_m
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side[1]) for image in images]
    return np.stack([pixels for pixels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
