"""The labelled tasks we probe: GEO-Bench folders, EuroSAT, UC Merced, any folder of images."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from salib.config import SENSORS
from salib.evaluate.tasks import SPLITS, class_folders, geobench_reader
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.evaluate.tasks.geobench_reader import Label, LabelKind
from salib.evaluate.tasks.inputs import (
    RADAR_RULES,
    RULES,
    TWELVE_BAND_RULES,
    InputRule,
    to_pixel_values,
)

logger = logging.getLogger(__name__)
BENCHMARKS = ("classification_v1.0", "segmentation_v1.0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled task on disk.

    Args:
        source: "geobench", "eurosat", "ucmerced" or "folder".
        path: task folder (GEO-Bench), zip file, or folder of images.
        procedural: whether its images were made by `earth`; every row says so.
        rules: how its images are read, one rule per modality, the optical one first.
        kind: one class per image, 0/1 of each class, or a class per pixel.
        ignore: of masks, the value of pixels without a label, which neither loss nor metric counts.
        reading: of a folder, what its files do not tell, see `class_folders.read_rgb`.
    """

    name: str
    source: str
    path: Path
    procedural: bool
    class_names: tuple[str, ...]
    rules: tuple[InputRule, ...]
    kind: LabelKind = "classification"
    ignore: int | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors whose encoders it has images for: "lores" and "hires" RGB, others if any."""
        modalities = {rule.modality for rule in self.rules}
        return tuple(name for name, sensor in SENSORS.items() if sensor.modality in modalities)

    def rule_of(self, modality: str = "optical") -> InputRule:
        """How the raw values of a modality become pixel values.

        Raises:
            ValueError: if the task has no such modality.
        """
        for rule in self.rules:
            if rule.modality == modality:
                return rule
        known = " or ".join(repr(rule.modality) for rule in self.rules)
        raise ValueError(f"modality must be {known} for {self.name}, got {modality!r}")


def geobench_task(folder: str | Path, *, procedural: bool, ignore: int | None = None) -> Task:
    """A GEO-Bench task from its folder.

    Args:
        procedural: whether its images were made by `earth`.
        ignore: see `Task`.

    Raises:
        ValueError: if there is no input rule for it, or the folder is damaged.
    """
    folder = Path(folder)
    if folder.name not in RULES:
        raise ValueError(f"task must be one of {', '.join(RULES)}, got {folder.name!r}")
    tables = (RULES, RADAR_RULES, TWELVE_BAND_RULES)
    facts = geobench_reader.describe(folder)
    geobench_reader.sample_names(folder)
    return Task(
        name=folder.name,
        source="geobench",
        path=folder,
        procedural=procedural,
        class_names=facts.class_names,
        rules=tuple(rules[folder.name] for rules in tables if folder.name in rules),
        kind=facts.kind,
        ignore=ignore,
    )


def geobench_tasks(
    folder: str | Path, *, procedural: bool, ignore: int | None = None
) -> list[Task]:
    """All tasks below a GEO-Bench folder: classification then segmentation, each by name.

    Args:
        folder: the folder that holds `classification_v1.0`, `segmentation_v1.0` or both.
        procedural: whether its images were made by `earth`.
        ignore: see `Task`.

    Raises:
        ValueError: if there is none, or a task is damaged.
    """
    paths = [path for bench in BENCHMARKS for path in sorted((Path(folder) / bench).glob("[!._]*"))]
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        raise ValueError(
            f"folder must hold classification_v1.0/<task> or segmentation_v1.0/<task>, got "
            f"{folder} without"
        )
    if skipped := [path.name for path in folders if path.name not in RULES]:
        logger.info("no input rule for %s: not evaluated", ", ".join(skipped))
    known = [path for path in folders if path.name in RULES]
    return [geobench_task(path, procedural=procedural, ignore=ignore) for path in known]


def real_tasks(folder: str | Path) -> list[Task]:
    """The real labelled tasks present in a data folder: EuroSAT, then UC Merced."""
    paths = {source: Path(folder) / layout.file for source, layout in CHIP_ZIPS.items()}
    return [chip_task(path, source=source) for source, path in paths.items() if path.is_file()]


def chip_task(path: str | Path, *, source: str) -> Task:
    """EuroSAT or UC Merced from its zip.

    Raises:
        ValueError: if the zip is damaged.
    """
    return _image_task(source, source, Path(path), RULES[source])


def folder_task(
    folder: str | Path,
    *,
    gsd_m: float,
    name: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Task:
    """Any labelled folder of RGB images, `<class>/<image>` or `<split>/<class>/<image>`.

    `salib.evaluate.tasks.class_folders` says which images make which split.

    Args:
        gsd_m: metres per pixel of the images as they are stored.
        name: for rows and pages, by default the folder's.
        reading: what its files do not tell, see `class_folders.read_rgb`.

    Raises:
        ValueError: if `gsd_m` is not positive, the name is that of a published task, or the folder
            does not hold such images. An image itself is checked when it is read.
    """
    folder = Path(folder)
    if not 0 < gsd_m < math.inf:
        raise ValueError(f"gsd_m must be positive metres per pixel, got {gsd_m}")
    name = folder.resolve().name if name is None else name
    if name in RULES:
        raise ValueError(f"name must differ from the published tasks', got {name!r}: give another")
    class_folders.check_name("name", name)
    rule = InputRule(native_gsd_m=float(gsd_m), why="8-bit RGB, as stored in the folder")
    return replace(_image_task(name, "folder", folder, rule), reading=dict(reading or {}))


def _image_task(name: str, source: str, path: Path, rule: InputRule) -> Task:
    classes = tuple(class_folders.members(path, CHIP_ZIPS.get(source))["train"])
    about = {"source": source, "path": path, "procedural": False}
    return Task(name=name, class_names=classes, rules=(rule,), **about)


def iter_split(
    task: Task, split: str, *, modality: str = "optical"
) -> Iterator[tuple[Shaped[np.ndarray, "_ _ bands"], Label]]:
    """Pixel values at native size and the label of each item of a split, one at a time.

    Args:
        modality: "optical" gives red, green, blue; "radar" VV and VH, of m-so2sat alone;
            "multispectral" the twelve bands of s2, of the tasks that have them.

    Yields:
        The image, and its label: a class number; for a multi-label task 0/1 of each class; for
        a segmentation task the class of each pixel.

    Raises:
        ValueError: if there is no such split or modality, a file is damaged, a value is not
            finite, or a label does not fit the task.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    rule = task.rule_of(modality)
    if task.source == "geobench":
        options = {"ignore": task.ignore}
        items = geobench_reader.raw_samples(task.path, split, rule.bands, **options)
    else:
        classes = class_folders.members(task.path, CHIP_ZIPS.get(task.source))[split]
        paths = ((path, label) for label, part in enumerate(classes.values()) for path in part)
        items = ((class_folders.read_rgb(path, **task.reading), label) for path, label in paths)
    for number, (raw, label) in enumerate(items):
        try:
            image = to_pixel_values(raw, rule)
        except ValueError as error:
            raise ValueError(f"{error} in item {number} of {task.name}, {split}") from error
        if task.kind == "segmentation" and np.shape(label) != image.shape[:2]:
            raise ValueError(
                f"mask of item {number} of {task.name}, {split} must be {image.shape[:2]} as its "
                f"image, got {np.shape(label)}"
            )
        yield image, label


def check_disjoint(task: Task) -> None:
    """Refuse a task whose test items were seen in training.

    Images of a folder or zip are compared by their bytes, those of GEO-Bench by name.

    Raises:
        ValueError: if two splits share an item, as in GEO-Bench's five-sample test fixtures.
    """
    if task.source == "geobench":
        names = geobench_reader.sample_names(task.path)
        items = {split: {name: name for name in names[split]} for split in SPLITS}
    else:
        items = class_folders.contents(task.path, CHIP_ZIPS.get(task.source))
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        if shared := items[first].keys() & items[second].keys():
            item = min(shared, key=items[first].__getitem__)
            one, other = items[first][item], items[second][item]
            example = repr(one) if one == other else f"{one!r}, the same image as {other!r}"
            raise ValueError(
                f"splits of {task.name} must be disjoint, got {len(shared)} items in both "
                f"{first} and {second}, the first {example}"
            )
