"""The labelled tasks we probe: GEO-Bench folders, EuroSAT, UC Merced, any folder of images."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from salib.evaluate.tasks import chip_zips, geobench_reader, image_folder
from salib.evaluate.tasks.geobench_reader import Kind, Label
from salib.evaluate.tasks.inputs import RULES, InputRule, Look, rules_of, to_levels

logger = logging.getLogger(__name__)
SPLITS = geobench_reader.SPLITS
BENCHMARKS = ("classification_v1.0", "segmentation_v1.0")
Source = Literal["geobench", "eurosat", "ucmerced", "folder"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled task on disk.

    Args:
        path: task folder (GEO-Bench), zip file, or folder of images.
        procedural: whether its images were made by `earth`; every row says so.
        rules: how it may be looked at, one rule a look, the optical one first.
        kind: one class an image, 0/1 of each class, or a class a pixel.
        gsd_m: true metres of ground a pixel, by its rules.
        sensor: the sensor whose native pixel is nearer to the task's, for display.
        sensors: those of our encoders that can look at it, see `look_of`.
    """

    name: str
    source: Source
    path: Path
    procedural: bool
    class_names: tuple[str, ...]
    rules: tuple[InputRule, ...]
    kind: Kind = "classification"

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def gsd_m(self) -> float:
        """Metres of ground a pixel as stored."""
        return self.rules[0].native_gsd_m

    @property
    def sensor(self) -> str:
        """The sensor this task looks like: "hires" below 2.5 m a pixel, else "lores"."""
        return "hires" if self.gsd_m < 2.5 else "lores"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors with a look at this task: "lores" and "hires" at RGB, "radar" where it is."""
        radar = any(rule.look == "radar" for rule in self.rules)
        return ("radar", "lores", "hires") if radar else ("lores", "hires")

    def look_of(self, sensor: str) -> Look:
        """What `iter_split` is to read for an encoder of a sensor.

        Raises:
            ValueError: if the task has no image for it.
        """
        if sensor not in self.sensors:
            raise ValueError(f"sensor must be one of {self.sensors} for {self.name}, got {sensor}")
        return "radar" if sensor == "radar" else "optical"

    def rule_of(self, look: Look = "optical") -> InputRule:
        """How the raw values of a look become levels.

        Raises:
            ValueError: if the task has no such look.
        """
        for rule in self.rules:
            if rule.look == look:
                return rule
        looks = " or ".join(repr(rule.look) for rule in self.rules)
        raise ValueError(f"look must be {looks} for {self.name}, got {look!r}")


def geobench_task(folder: str | Path, *, procedural: bool) -> Task:
    """A GEO-Bench task from its folder.

    Raises:
        ValueError: if there is no input rule for it, or the folder is damaged.
    """
    folder = Path(folder)
    rules = rules_of(folder.name)
    facts = geobench_reader.describe(folder)
    geobench_reader.sample_names(folder)
    return Task(
        name=folder.name,
        source="geobench",
        path=folder,
        procedural=procedural,
        class_names=facts.class_names,
        rules=rules,
        kind=facts.kind,
    )


def geobench_tasks(folder: str | Path, *, procedural: bool) -> list[Task]:
    """All tasks below a GEO-Bench folder: classification then segmentation, each by name.

    Args:
        folder: the folder that holds `classification_v1.0`, `segmentation_v1.0` or both.

    Raises:
        ValueError: if there is none, or a task is damaged.
    """
    found = [path for bench in BENCHMARKS for path in sorted((Path(folder) / bench).glob("*"))]
    folders = [path for path in found if path.is_dir() and path.name[0] not in "._"]
    if not folders:
        raise ValueError(
            f"folder must hold classification_v1.0/<task> or segmentation_v1.0/<task>, got "
            f"{folder} without"
        )
    known = [path for path in folders if path.name in RULES]
    if len(known) < len(folders):
        skipped = ", ".join(path.name for path in folders if path not in known)
        logger.info("no input rule for %s: not evaluated", skipped)
    return [geobench_task(path, procedural=procedural) for path in known]


def real_tasks(folder: str | Path) -> list[Task]:
    """The real labelled tasks present in a data folder: EuroSAT, then UC Merced."""
    found = []
    for source, layout in chip_zips.CHIP_ZIPS.items():
        path = Path(folder) / layout.file
        if path.is_file():
            found.append(chip_task(path, source=source))
    return found


def missing_real(folder: str | Path | None) -> list[str]:
    """One line for each real task that `folder` lacks, saying what to do."""
    return [
        f"{source} skipped: set SALIB_DATA_DIR to a folder, then salib fetch {source} brings "
        f"{layout.file} there; or take it from {layout.home}"
        for source, layout in chip_zips.CHIP_ZIPS.items()
        if folder is None or not (Path(folder) / layout.file).is_file()
    ]


def chip_task(path: str | Path, *, source: chip_zips.ChipSource) -> Task:
    """EuroSAT or UC Merced from its zip.

    Raises:
        ValueError: if the zip is damaged.
    """
    return Task(
        name=source,
        source=source,
        path=Path(path),
        procedural=False,
        class_names=tuple(chip_zips.members(path)),
        rules=rules_of(source),
    )


def folder_task(
    folder: str | Path, *, gsd_m: float, name: str | None = None, procedural: bool = False
) -> Task:
    """Any labelled folder of 8-bit RGB images, `<class>/<image>` or `<split>/<class>/<image>`.

    `salib.evaluate.tasks.image_folder` says which images make which split.

    Args:
        gsd_m: metres of ground a pixel of the images as they lie there.
        name: for rows and pages, by default the folder's.

    Raises:
        ValueError: if `gsd_m` is not positive, the name is that of a published task, or the folder
            does not hold such images. An image itself is looked at when it is read.
    """
    folder = Path(folder)
    if not 0 < gsd_m < math.inf:
        raise ValueError(f"gsd_m must be positive metres a pixel, got {gsd_m}")
    name = folder.resolve().name if name is None else name
    if name in RULES:
        raise ValueError(f"name must differ from the published tasks', got {name!r}: give another")
    image_folder.check_name("name", name)
    rule = InputRule(native_gsd_m=float(gsd_m), why="8-bit RGB, as it lies in the folder")
    return Task(
        name=name,
        source="folder",
        path=folder,
        procedural=procedural,
        class_names=tuple(image_folder.members(folder)["train"]),
        rules=(rule,),
    )


def iter_split(
    task: Task, split: str, *, look: Look = "optical"
) -> Iterator[tuple[UInt8[np.ndarray, "_ _ bands"], Label]]:
    """Levels at native size and the label of each item of a split, one at a time.

    Args:
        look: "optical" gives red, green, blue; "radar" VV and VH, of m-so2sat alone.

    Yields:
        The image, and its label: a class number; for a multi-label task 0/1 of each class; for
        a segmentation task the class of each pixel.

    Raises:
        ValueError: if the task has no such look, a file is damaged, a value is not finite, or a
            label does not fit the task.
    """
    rule = task.rule_of(look)
    if task.source == "geobench":
        options = {"procedural": task.procedural}
        items = geobench_reader.raw_samples(task.path, split, rule.bands, **options)
    elif task.source == "folder":
        items = image_folder.images(task.path, split)
    else:
        layout = chip_zips.CHIP_ZIPS[task.source]
        items = chip_zips.chips(task.path, chip_zips.split_members(task.path, layout, split))
    for number, (raw, label) in enumerate(items):
        try:
            levels = to_levels(raw, rule)
        except ValueError as error:
            raise ValueError(f"{error} in item {number} of {task.name}, {split}") from error
        if task.kind == "segmentation" and np.shape(label) != levels.shape[:2]:
            raise ValueError(
                f"mask of item {number} of {task.name}, {split} must be {levels.shape[:2]} as its "
                f"image, got {np.shape(label)}"
            )
        yield levels, label


def read_split(
    task: Task, split: str, *, look: Look = "optical"
) -> tuple[list[UInt8[np.ndarray, "_ _ bands"]], Int64[np.ndarray, " items *label"]]:
    """All images (sizes may differ) and labels of a split; see `iter_split`.

    Raises:
        ValueError: as `iter_split`, or if masks differ in size.
    """
    items = list(iter_split(task, split, look=look))
    sizes = {np.shape(label) for _, label in items}
    if len(sizes) > 1:
        raise ValueError(f"masks of {task.name} must have one size, got {sizes}: use iter_split")
    return [image for image, _ in items], np.array([label for _, label in items], np.int64)


def check_disjoint(task: Task) -> None:
    """Refuse a task whose test items were seen in training.

    Items of a folder of images are told apart by their bytes, those of GEO-Bench by name.

    Raises:
        ValueError: if two splits share an item, as in GEO-Bench's five-sample test fixtures.
    """
    if task.source == "geobench":
        names = geobench_reader.sample_names(task.path)
        items = {split: {name: name for name in names[split]} for split in SPLITS}
    elif task.source == "folder":
        items = {split: image_folder.digests(task.path, split) for split in SPLITS}
    else:
        return
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        shared = [item for item in items[first] if item in items[second]]
        if shared:
            one, other = items[first][shared[0]], items[second][shared[0]]
            example = repr(one) if one == other else f"{one!r}, the same image as {other!r}"
            raise ValueError(
                f"splits of {task.name} must be disjoint, got {len(shared)} items in both "
                f"{first} and {second}, the first {example}"
            )
