"""The columns of a table of results, candidates and baselines, and their features of a task."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from salib.config import SENSOR_NAMES, SENSORS, Precision
from salib.evaluate.features import (
    BATCH,
    Baseline,
    Embedder,
    embed,
    image_statistics,
    random_convolution,
)
from salib.evaluate.probes.data import Labels
from salib.evaluate.tasks.inputs import centre_square, to_input
from salib.evaluate.tasks.task import Task, iter_split
from salib.files.artifact import check_disk_space

STATISTICS = "image statistics"
CONVOLUTION = "random convolution"
Side = tuple[str, int]
"""A modality, and the side of its images in pixels."""
Resized = tuple[Shaped[np.ndarray, "items side side bands"], Float64[np.ndarray, " items"]]
"""Images, and the metres per pixel of each."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model evaluated through one of its sensor encoders, or through several jointly.

    Its images have `image_px` a side, those of hires twice as many.

    Args:
        sensor: "lores" and "hires" see red, green, blue; "radar" VV and VH, "s2" twelve bands, and
            no task without (`Task.sensors`); "joint" all of `sensors`, where a task has them.
        trained: False for the same architecture as built, the baseline of every candidate.
        sensors: what "joint" fuses.
    """

    model: Embedder
    sensor: str
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
        names = self.sensors if self.sensor == "joint" else (self.sensor,)
        return {name: SENSORS[name].factor for name in names}


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
        attention: implementations that ran, by column; none of the baselines, "unknown" of a model
            that does not say.
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
        OSError: if the folder's disk has no space for them.
    """
    able = {name: one for name, one in candidates.items() if set(one.views) <= set(task.sensors)}
    wanted: dict[str, dict[str, Side]] = {
        name: {sensor: (SENSORS[sensor].modality, image_px * n) for sensor, n in one.views.items()}
        for name, one in able.items()
    }
    labels = _Stack(folder / f"{split}-masks" if folder else None)
    paths = [folder / f"{split}-{number}" if folder else None for number in range(len(able))]
    features = {name: _Stack(path) for name, path in zip(able, paths, strict=True)}
    attention: dict[str, set[str]] = {name: set() for name in able}
    gsds: dict[str, list[np.ndarray]] = {name: [] for name in able}
    sides = {side for views in wanted.values() for side in views.values()}
    for shown, truth in in_chunks(task, split, sides):
        labels.append(truth)
        for name, one in able.items():
            images, gsd_m = (
                {sensor: shown[side][part] for sensor, side in wanted[name].items()}
                for part in (0, 1)
            )
            gsds[name].append(np.max([*gsd_m.values()], axis=0))
            ran: set[str] = getattr(one.model, "attention_used", set())
            ran.clear()
            sensor = None if one.sensor == "joint" else one.sensor
            options = {"sensor": sensor, "precision": precision, "tokens": bool(folder)}
            rows = embed(one.model, images, gsd_m=gsd_m, **options)
            attention[name] |= ran if hasattr(one.model, "attention_used") else {"unknown"}
            if folder:
                rows = rows.reshape(len(rows), isqrt(rows.shape[1]), isqrt(rows.shape[1]), -1)
            features[name].append(rows)
    return Split(
        {name: stack.whole() for name, stack in features.items()},
        labels.whole(),
        {name: float(np.median(np.concatenate(parts))) for name, parts in gsds.items()},
        attention,
    )


class _Stack:
    """An array to which parts are appended, in memory or, with a path, in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.parts = path, []

    def append(self, part: np.ndarray) -> None:
        if self.path is not None:
            check_disk_space(self.path.parent, part.nbytes)
            with self.path.open("ab" if self.parts else "wb") as file:
                file.write(part.tobytes())
            part = np.empty((0, *part.shape[1:]), part.dtype)
        self.parts.append(part)

    def whole(self) -> np.ndarray:
        if self.path is None:
            return np.concatenate(self.parts)
        empty = self.parts[0]
        return np.memmap(self.path, empty.dtype, "r").reshape(-1, *empty.shape[1:])


def named_seed(seed: int, *names: str) -> int:
    """A 32-bit seed for these names, spawned from one seed; the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = np.frombuffer(digest[:16], np.dtype("<u4")).tolist()
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def in_chunks(
    task: Task, split: str, sides: set[Side]
) -> Iterator[tuple[dict[Side, Resized], Labels]]:
    """Images by modality and side, with the metres per pixel of each, and labels, in batches.

    Raises:
        ValueError: if the masks of a segmentation task differ in size.
    """
    modalities, sizes = {modality for modality, _ in sides}, set()
    items = zip(*(iter_split(task, split, modality=one) for one in modalities), strict=True)
    while chunk := list(islice(items, BATCH)):
        images = {one: [item[n][0] for item in chunk] for n, one in enumerate(modalities)}
        shown = {side: _resized(task, side, images[side[0]]) for side in sides}
        labels = [np.asarray(item[0][1], np.int64) for item in chunk]
        if task.kind == "segmentation":  # the ground that the images are cropped to
            labels = [centre_square(mask) for mask in labels]
        sizes |= {label.shape for label in labels}
        if len(sizes) > 1:
            raise ValueError(f"masks of {task.name} must have one size, got {sorted(sizes)}")
        yield shown, np.stack(labels)


def _resized(task: Task, side: Side, images: list[np.ndarray]) -> Resized:
    native_gsd_m = task.rule_of(side[0]).native_gsd_m
    pairs = [to_input(image, native_gsd_m=native_gsd_m, image_px=side[1]) for image in images]
    return np.stack([pixels for pixels, _ in pairs]), np.array([gsd_m for _, gsd_m in pairs])
