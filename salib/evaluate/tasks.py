"""The labelled tasks we probe: GEO-Bench folders, EuroSAT and UC Merced."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from salib.evaluate import chip_zips, geobench_reader
from salib.evaluate.inputs import RULES, rule_of, to_levels

logger = logging.getLogger(__name__)
SPLITS = geobench_reader.SPLITS
SAMPLES = Path("geobench_real/classification_v1.0/m-eurosat")
Source = Literal["geobench", "eurosat", "ucmerced"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A single-label classification task on disk.

    Args:
        path: task folder (GEO-Bench) or zip file.
        procedural: whether its images were made by `salib.world`; every row says so.
        gsd_m: metres of ground a pixel as published.
        sensor: the sensor whose native pixel is nearer to the task's, for display.
    """

    name: str
    source: Source
    path: Path
    procedural: bool
    class_names: tuple[str, ...]
    gsd_m: float

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def sensor(self) -> str:
        """The sensor this task looks like: "hires" below 2.5 m a pixel, else "lores"."""
        return "hires" if self.gsd_m < 2.5 else "lores"


def geobench_task(folder: str | Path, *, procedural: bool) -> Task:
    """A GEO-Bench classification task from its folder.

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
    )


def geobench_tasks(folder: str | Path, *, procedural: bool) -> list[Task]:
    """All classification tasks below a GEO-Bench folder, by name.

    Args:
        folder: the folder that holds `classification_v1.0`.

    Raises:
        ValueError: if there is none, or a task is damaged.
    """
    root = Path(folder) / "classification_v1.0"
    folders = sorted(path for path in root.glob("*") if path.is_dir() and path.name[0] not in "._")
    if not folders:
        raise ValueError(f"folder must hold classification_v1.0/<task>, got {folder} without")
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


def iter_split(task: Task, split: str) -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], int]]:
    """RGB levels at native size and the label of each item of a split, one at a time.

    Raises:
        ValueError: if a file is damaged or a label outside the task's classes.
    """
    rule = rule_of(task.name)
    if task.source == "geobench":
        items = geobench_reader.raw_samples(task.path, split, rule.bands)
    else:
        layout = chip_zips.CHIP_ZIPS[task.source]
        items = chip_zips.chips(task.path, chip_zips.split_members(task.path, layout, split))
    for raw, label in items:
        if not 0 <= label < task.n_classes:
            raise ValueError(f"label must be below {task.n_classes} in {task.name}, got {label}")
        yield to_levels(raw, rule), label


def read_split(
    task: Task, split: str
) -> tuple[list[UInt8[np.ndarray, "_ _ 3"]], Int64[np.ndarray, " items"]]:
    """All images (sizes may differ) and labels of a split; see `iter_split`."""
    items = list(iter_split(task, split))
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
