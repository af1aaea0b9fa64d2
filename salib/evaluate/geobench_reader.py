"""GEO-Bench classification folders, read through geobench's own classes."""

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

SPLITS = ("train", "valid", "test")
UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What a task folder says of itself: class names and the metres a pixel."""

    class_names: tuple[str, ...]
    gsd_m: float


def describe(folder: str | Path) -> FolderFacts:
    """Read a task folder's specification.

    The specification is a pickle; geobench unpickles only the types it writes itself and runs
    nothing else.

    Raises:
        ValueError: if the folder has no specification, one that is not geobench's, or one of
            another kind of task than single-label classification.
    """
    from geobench.label import Classification, SemanticSegmentation
    from geobench.task import load_task_specs

    path = Path(folder) / "task_specs.pkl"
    try:
        specs = load_task_specs(Path(folder))
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from error
    label = specs.label_type
    if not isinstance(label, Classification) or isinstance(label, SemanticSegmentation):
        raise ValueError(f"{path} must describe single-label classification, got {label!r}")
    names = label.class_names or [str(index) for index in range(label.n_classes)]
    return FolderFacts(class_names=tuple(names), gsd_m=float(specs.spatial_resolution))


def sample_names(folder: str | Path) -> dict[str, list[str]]:
    """Sample names of the default partition, by split.

    Raises:
        ValueError: if the partition is missing or unreadable, lacks a split, or names a sample
            of which there is no file.
    """
    folder = Path(folder)
    names = _dataset(folder, None).active_partition.partition_dict
    missing = [split for split in SPLITS if not names.get(split)]
    if missing:
        raise ValueError(f"partition of {folder} must name samples of {missing}, got none")
    files = {path.stem for path in folder.glob("*.hdf5")}
    absent = sorted(set().union(*names.values()) - files)
    if absent:
        raise ValueError(
            f"partition of {folder} must name existing files, got {len(absent)} names without "
            f"one, the first {absent[0]!r}; download the task again"
        )
    return names


def raw_samples(
    folder: str | Path, split: str, bands: tuple[str, ...]
) -> Iterator[tuple[Shaped[np.ndarray, "_ _ bands"], int]]:
    """Raw band values, in the stored type, and the label of each sample of a split.

    Raises:
        ValueError: as `sample_names`, or if a sample's file is damaged or not geobench's.
    """
    names = sample_names(folder)
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    dataset = _dataset(Path(folder), bands)
    for name in names[split]:
        try:
            sample = dataset.get_sample(name)
            raw, _ = sample.pack_to_3d(band_names=list(bands))
            label = sample.label
        except UNREADABLE as error:
            raise ValueError(_unreadable(Path(folder) / f"{name}.hdf5", error)) from error
        if not isinstance(label, int | np.integer):
            raise ValueError(f"label of {name} must be a class number, got {type(label).__name__}")
        yield raw, int(label)


def _dataset(folder: Path, bands: tuple[str, ...] | None):
    from geobench.dataset import GeobenchDataset

    if not (folder / "default_partition.json").is_file():
        raise ValueError(f"{folder} must hold default_partition.json, got a folder without it")
    with warnings.catch_warnings():
        # Published m-eurosat names bands from 08A on wrongly; red, green and blue are right.
        warnings.filterwarnings("ignore", message=".*stores incorrect band names")
        try:
            return GeobenchDataset(folder, band_names=bands, split=None)
        except UNREADABLE as error:
            raise ValueError(_unreadable(folder, error)) from error


def _unreadable(path: Path, error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}"
    return f"{path} must be a readable GEO-Bench file, got {reason}; download it again"
