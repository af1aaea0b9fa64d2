"""The twelve tasks of GEO-Bench as published, and whether a folder holds one whole."""

import json
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class PublishedTask:
    """A task as published.

    Args:
        benchmark: the folder it stands in.
        gigabytes: about what it takes unpacked, from file sizes and counts.
        counts: samples in train, valid and test where a source states them, else None.
    """

    benchmark: str
    gigabytes: float
    counts: tuple[int, int, int] | None = None


def _tasks(benchmark: str, **stated: tuple[float, tuple[int, int, int] | None]):
    return {
        f"m-{name.replace('_', '-')}": PublishedTask(
            benchmark=benchmark, gigabytes=gigabytes, counts=counts
        )
        for name, (gigabytes, counts) in stated.items()
    }


TASKS = _tasks(
    "classification_v1.0",
    bigearthnet=(15.4, (20_000, 1_000, 1_000)),
    brick_kiln=(7.44, (15_063, 999, 999)),
    eurosat=(0.47, (2_000, 1_000, 1_000)),
    forestnet=(5.65, (6_464, 989, 993)),
    pv4ger=(4.33, (11_814, 999, 999)),
    so2sat=(1.89, (19_992, 986, 986)),
) | _tasks(
    "segmentation_v1.0",
    NeonTree=(0.84, None),
    SA_crop_type=(9.2, None),
    cashew_plant=(3.2, None),
    chesapeake=(7.91, None),
    nz_cattle=(0.66, None),
    pv4ger_seg=(1.59, None),
)
"""Counts of classification tasks as in `results/all_results.csv` of torchgeo-bench."""


def check_task(folder: str | Path, counts: tuple[int, int, int] | None) -> None:
    """Check that a task folder has what its default partition names; opens no sample.

    Raises:
        ValueError: if the specification or the partition is missing, a split is empty or not of
            the stated length, or a sample has no file.
    """
    folder = Path(folder)
    if not (folder / "task_specs.pkl").is_file():
        raise ValueError(f"{folder.name} must hold task_specs.pkl, got none")
    try:
        partition = json.loads((folder / "default_partition.json").read_text())
        splits = [list(map(str, partition[split])) for split in SPLITS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name} must have its default partition, got {error!r}") from error
    lengths = tuple(map(len, splits))
    if not all(lengths) or (counts and lengths != counts):
        wanted = counts or "some samples each"
        raise ValueError(f"{folder.name} must have {wanted} in {SPLITS}, got {lengths}")
    files = {path.stem for path in folder.glob("*.hdf5")}
    if absent := sorted(set().union(*splits) - files):
        raise ValueError(
            f"{folder.name} must hold every sample of its partition, got {len(absent)} without a "
            f"file, the first {absent[0]!r}"
        )
