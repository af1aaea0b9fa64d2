"""The labelled tasks we probe: GEO-Bench folders, EuroSAT and UC Merced."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from salib.evaluate import chip_zips, geobench_reader
from salib.evaluate.geobench_reader import Kind, Label
from salib.evaluate.inputs import RADAR_RULES, RULES, Look, rule_of, to_levels

logger = logging.getLogger(__name__)
SPLITS = geobench_reader.SPLITS
BENCHMARKS = ("classification_v1.0", "segmentation_v1.0")
SAMPLES = Path("geobench_real/classification_v1.0/m-eurosat")
Source = Literal["geobench", "eurosat", "ucmerced"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled task on disk.

    Args:
        path: task folder (GEO-Bench) or zip file.
        procedural: whether its images were made by `salib.world`; every row says so.
        gsd_m: true metres of ground a pixel.
        kind: one class an image, 0/1 of each class, or a class a pixel.
        sensor: the sensor whose native pixel is nearer to the task's, for display.
        sensors: those of our encoders that can look at it, see `look_of`.
    """

    name: str
    source: Source
    path: Path
    procedural: bool
    class_names: tuple[str, ...]
    gsd_m: float
    kind: Kind = "classification"

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def sensor(self) -> str:
        """The sensor this task looks like: "hires" below 2.5 m a pixel, else "lores"."""
        return "hires" if self.gsd_m < 2.5 else "lores"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors with a look at this task: "lores" and "hires" at RGB, "radar" where it is."""
        return ("radar", "lores", "hires") if self.name in RADAR_RULES else ("lores", "hires")

    def look_of(self, sensor: str) -> Look:
        """What `iter_split` is to read for an encoder of a sensor.

        Raises:
            ValueError: if the task has no image for it.
        """
        if sensor not in self.sensors:
            raise ValueError(f"sensor must be one of {self.sensors} for {self.name}, got {sensor}")
        return "radar" if sensor == "radar" else "optical"


def geobench_task(folder: str | Path, *, procedural: bool) -> Task:
    """A GEO-Bench task from its folder.

    Raises:
        ValueError: if there is no input rule for it, or the folder is damaged.
    """
    folder = Path(folder)
    rule = rule_of(folder.name)
    facts = geobench_reader.describe(folder)
    geobench_reader.sample_names(folder)
    return Task(
        name=folder.name,
        source="geobench",
        path=folder,
        procedural=procedural,
        class_names=facts.class_names,
        gsd_m=rule.native_gsd_m,
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
        f"{source} skipped: put {layout.file} ({layout.home}) into the folder "
        "named by SALIB_DATA_DIR"
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
        gsd_m=rule_of(source).native_gsd_m,
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
    rule = rule_of(task.name, look)
    if task.source == "geobench":
        options = {"procedural": task.procedural}
        items = geobench_reader.raw_samples(task.path, split, rule.bands, **options)
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


def chips_by_class(
    folder: str | Path, *, count: int, source: chip_zips.ChipSource = "eurosat"
) -> dict[str, UInt8[np.ndarray, "count height width 3"]]:
    """The first chips of each class of an archive, for pictures; empty if it is not there."""
    layout = chip_zips.CHIP_ZIPS[source]
    path = Path(folder) / layout.file
    if not path.is_file():
        return {}
    chosen = chip_zips.members(path)
    return {
        name: np.stack([image for image, _ in chip_zips.chips(path, [(m, 0) for m in found])])
        for name, found in ((name, found[:count]) for name, found in chosen.items())
    }


def missing_samples(folder: str | Path | None) -> str | None:
    """What is lacking of the real m-eurosat samples and how to get them, or None."""
    if folder and (Path(folder) / SAMPLES / "default_partition.json").is_file():
        return None
    return (
        f"real m-eurosat samples skipped: put {SAMPLES}/ (tests/data of "
        "github.com/ServiceNow/geo-bench-experiments) into the folder named by SALIB_DATA_DIR"
    )


def sample_pictures(folder: str | Path) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """The five real m-eurosat samples of a data folder as an encoder gets them, by class name."""
    task = geobench_task(Path(folder) / SAMPLES, procedural=False)
    images = enumerate(iter_split(task, "test"), start=1)
    return {f"{n}. {task.class_names[label]}": image for n, (image, label) in images}


def check_disjoint(task: Task) -> None:
    """Refuse a task whose test items were seen in training.

    Raises:
        ValueError: if two splits share an item, as in GEO-Bench's five-sample test fixtures.
    """
    if task.source != "geobench":
        return
    names = geobench_reader.sample_names(task.path)
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        shared = set(names[first]) & set(names[second])
        if shared:
            raise ValueError(
                f"splits of {task.name} must be disjoint, got {len(shared)} items in both "
                f"{first} and {second}"
            )
