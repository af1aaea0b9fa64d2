"""GEO-Bench folders: the specification of a task, its splits, and its samples one at a time.

Specifications are read through geobench's own classes. Its loader of samples reads every band and
builds an object of each; here the bands that are wanted are read alone, which is more than twice as
fast (`benchmarks/reading.py`). Every path is given: `GEO_BENCH_DIR`, which geobench reads once when
it is imported, has no part in it.
"""

import ast
import json
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from jaxtyping import Int64, Shaped

from salib.evaluate.tasks import SPLITS
from salib.evaluate.tasks.inputs import THIRTEEN

LabelKind = Literal["classification", "multilabel", "segmentation"]
Label = int | Int64[np.ndarray, " classes"] | Int64[np.ndarray, "height width"]

KINDS: dict[str, LabelKind] = {
    "Classification": "classification",
    "MultiLabelClassification": "multilabel",
    "SegmentationClasses": "segmentation",
    "SemanticSegmentation": "segmentation",
}
"""Kinds of task by the class of geobench's that describes their labels."""

UNLABELLED = -1
"""Class of a pixel that no metric and no loss counts."""
STORED_AS: dict[str, dict[str, str]] = {
    "m-eurosat": dict(zip((*THIRTEEN[:8], *THIRTEEN[9:], THIRTEEN[8]), THIRTEEN, strict=True))
}
"""True band to the name it is stored under where publication confused them.

Issue 28 of ServiceNow/geo-bench. Procedural m-eurosat is stored as the published one. Red, green
and blue of m-brick-kiln (issue 29) bear their names.
"""


class FolderFacts(NamedTuple):
    """The specification in a task folder.

    Attributes:
        class_names: numbers where the task does not name its classes.
        bands: full names, and others they answer to.
    """

    kind: LabelKind
    class_names: tuple[str, ...]
    bands: dict[str, tuple[str, ...]]


def safe_loads() -> Callable[[bytes], Any]:
    """Return geobench's unpickler, which makes the types that geobench writes and nothing else.

    Raises:
        ValueError: if the installed geobench is older than 1.1.0: its unpickler runs code
            in a file. Python 3.11 gets such a version from a plain `pip install geobench`.
    """
    try:
        from geobench._safe_pickle import safe_loads as loads
    except ImportError as error:
        versions = {package.name: package.version for package in metadata.distributions()}
        raise ValueError(
            f"geobench must be 1.1.0 or newer, got {versions.get('geobench')}: older ones run code "
            "in a data file; "
            "pip install --no-deps --ignore-requires-python geobench==1.1.0"
        ) from error
    return loads


def describe(folder: str | Path) -> FolderFacts:
    """Read a task folder's specification.

    The specification is a pickle; geobench unpickles only the types it writes itself and runs
    nothing else.

    Raises:
        ValueError: if the folder has no specification, one that is not geobench's, or one of
            another kind of task; or geobench is too old to unpickle safely.
    """
    safe_loads()
    from geobench.task import load_task_specs

    folder = Path(folder)
    try:
        specs = load_task_specs(folder)
        label: Any = specs.label_type
        kind = KINDS[type(label).__name__]
        names = (label.class_name if kind == "multilabel" else label.class_names) or ()
        if len(names) != label.n_classes:
            names = range(label.n_classes)
        infos = specs.bands_info or ()
        bands = {str(info.name): tuple(map(str, info.alt_names)) for info in infos}
        return FolderFacts(kind, tuple(map(str, names)), bands)
    except Exception as error:
        raise _unreadable(folder / "task_specs.pkl", error) from error


def sample_names(folder: str | Path) -> dict[str, list[str]]:
    """Sample names of the default partition, by split.

    Raises:
        ValueError: if the partition is missing or unreadable, lacks a split, or names a sample
            of which there is no file.
    """
    folder = Path(folder)
    path = folder / "default_partition.json"
    if not path.is_file():
        raise ValueError(f"{folder} must hold default_partition.json, got a folder without it")
    try:
        names = {split: [*map(str, of)] for split, of in json.loads(path.read_text()).items()}
    except Exception as error:
        raise _unreadable(path, error) from error
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
    folder: str | Path, split: str, bands: tuple[str, ...], *, ignore: int | None = None
) -> Iterator[tuple[Shaped[np.ndarray, "_ _ bands"], Label]]:
    """Raw band values, in the stored type, and the label of each sample of a split.

    Args:
        bands: by any name the task's specification knows, such as "red" or "08 - NIR", meaning
            what the name says also where publication confused the names (`STORED_AS`).
        ignore: value of the pixels of masks that have no label; they become UNLABELLED.

    Raises:
        ValueError: as `describe` and `sample_names`; or if the task has no such band, the bands
            differ in size, or a sample's file is damaged, not geobench's, or has a label of
            another kind or range than the task's.
    """
    folder = Path(folder)
    facts = describe(folder)
    stored = []
    for band in bands:
        full = [name for name, other in facts.bands.items() if band in (name, *other)]
        if not full:
            known = f"they are {facts.bands}"
            raise ValueError(f"band must be one of {folder.name}'s, got {band!r}; {known}")
        stored.append(STORED_AS.get(folder.name, {}).get(full[0], full[0]))
    for name in sample_names(folder)[split]:
        path = folder / f"{name}.hdf5"
        raw, label = read_sample(path, tuple(stored))
        yield raw, _checked(label, facts, path, ignore)


def read_sample(
    path: Path, bands: tuple[str, ...]
) -> tuple[Shaped[np.ndarray, "height width bands"], Any]:
    """Some bands of a sample, in the stored type and in the order asked for, and its label.

    Args:
        bands: full names, without the date that some tasks append to them.

    Returns:
        Bands, and the label as stored: a number, a vector, or the pixels of its band.

    Raises:
        ValueError: if the file is damaged or not geobench's, lacks a band, holds one at several
            dates, or the bands differ in size.
    """
    loads = safe_loads()
    try:
        with h5py.File(path) as file:
            notes = loads(ast.literal_eval(str(file.attrs["pickle"])))
            keys: dict[str, list[str]] = {}
            for key, note in notes.items():
                if isinstance(note, dict):
                    keys.setdefault(note["band_info"].name, []).append(key)
            stored = {name: [_pixels(file, key) for key in keys.get(name, ())] for name in bands}
            masks = [key for name in keys if name.startswith("label") for key in keys[name]]
            label = _pixels(file, masks[0]) if masks else notes["label"]
    except Exception as error:
        raise _unreadable(path, error) from error
    for name, dates in stored.items():
        if len(dates) != 1:
            raise ValueError(
                f"band must be one that {path} holds once, got {name!r}, which it holds "
                f"{len(dates)} times; it holds {sorted(keys)}"
            )
    sizes = {name: pixels.shape[:2] for name, (pixels,) in stored.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"bands of {path} must have one size, got {sizes}: read them apart")
    return np.concatenate([np.atleast_3d(stored[name][0]) for name in bands], axis=2), label


def _pixels(file: h5py.File, key: str) -> np.ndarray:
    pixels = np.asarray(file[key])
    if pixels.dtype.kind not in "biuf" or pixels.ndim not in (2, 3):
        raise TypeError(f"{key!r} holds {pixels.dtype} of {pixels.ndim} axes, not an image")
    return pixels


def _unreadable(path: Path, error: Exception) -> ValueError:
    """The one error about a file that is damaged or not geobench's."""
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"{path} must be a readable GEO-Bench file, got {reason}; download it again")


def _checked(label: Any, facts: FolderFacts, path: Path, ignore: int | None = None) -> Label:
    """The label in the type of its task's kind, or one clear error."""
    count, values = len(facts.class_names), np.asarray(label)
    if values.dtype.kind not in "biuf" or (values != np.floor(values)).any():
        raise ValueError(f"label of {path} must hold class numbers, got {values.dtype} {label!r}")
    if facts.kind == "segmentation" and values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    wanted = {"classification": 0, "multilabel": 1, "segmentation": 2}[facts.kind]
    if values.ndim != wanted or (facts.kind == "multilabel" and len(values) != count):
        raise ValueError(
            f"{facts.kind} label of {path} must have {wanted} axes for {count} classes, got shape "
            f"{values.shape}"
        )
    limit, masked = (2 if facts.kind == "multilabel" else count), facts.kind == "segmentation"
    known = values[values != ignore] if masked and ignore is not None else values
    if known.size and (known.min() < 0 or known.max() >= limit):
        remedy = ": if one of them marks pixels without a label, state it by --ignore-label"
        raise ValueError(
            f"label of {path} must be 0 to {limit - 1}, got {known.min()} to {known.max()}"
            f"{remedy if masked else ''}"
        )
    if masked:
        return np.where(values == ignore, UNLABELLED, values.astype(np.int64))
    return int(values) if facts.kind == "classification" else values.astype(np.int64)
