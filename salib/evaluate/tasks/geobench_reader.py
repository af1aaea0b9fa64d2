"""GEO-Bench folders: what a task says of itself, its splits, and its samples one at a time.

Specifications and partitions are read through geobench's own classes, samples by
`geobench_sample`. Every path is given: `GEO_BENCH_DIR`, which geobench reads once when it is
imported, has no part in it.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, Shaped

from salib.evaluate.tasks.geobench_sample import UNREADABLE, read_sample, safe_loads, unreadable

SPLITS = ("train", "valid", "test")
Kind = Literal["classification", "multilabel", "segmentation"]
Label = int | Int64[np.ndarray, " classes"] | Int64[np.ndarray, "height width"]

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "m-chesapeake": (
        *("water", "tree-canopy-forest", "low-vegetation-field", "barren-land"),
        *("impervious-other", "impervious-roads", "no-data"),
    ),
    "m-cashew-plant": (
        *("no data", "well-managed plantation", "poorly-managed plantation", "non-plantation"),
        *("residential", "background", "uncertain"),
    ),
    "m-SA-crop-type": (
        *("No Data", "Lucerne/Medics", "Planted pastures (perennial)", "Fallow", "Wine grapes"),
        *("Weeds", "Small grain grazing", "Wheat", "Canola", "Rooibos"),
    ),
}
"""Classes of the published tasks that do not name them, from geobench's converters."""

_RIGHT = {
    f"0{number} - {name}": f"0{number} - {name}"
    for number, name in enumerate(
        ("Coastal aerosol", "Blue", "Green", "Red", "Vegetation Red Edge"), start=1
    )
} | {"08 - NIR": "08 - NIR"}
STORED_AS: dict[str, dict[str, str]] = {
    "m-eurosat": {
        **_RIGHT,
        "06 - Vegetation Red Edge": "06 - Vegetation Red Edge",
        "07 - Vegetation Red Edge": "07 - Vegetation Red Edge",
        "08A - Vegetation Red Edge": "12 - SWIR",
        "09 - Water vapour": "08A - Vegetation Red Edge",
        "10 - SWIR - Cirrus": "09 - Water vapour",
        "11 - SWIR": "10 - SWIR - Cirrus",
        "12 - SWIR": "11 - SWIR",
    },
    "m-brick-kiln": {
        **_RIGHT,
        "07 - Vegetation Red Edge": "06 - Vegetation Red Edge",
        "08A - Vegetation Red Edge": "07 - Vegetation Red Edge",
        "11 - SWIR": "08A - Vegetation Red Edge",
        "12 - SWIR": "09 - Water vapour",
    },
}
"""True band to the name it is stored under where publication confused them.

Issues 28 and 29 of ServiceNow/geo-bench. Published m-brick-kiln has no bands 06, 09 and 10, and
8-bit colour under the last three names. Procedural m-eurosat is stored as the published one,
procedural m-brick-kiln under its true names.
"""


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What a task folder says of itself.

    Args:
        bands: full name of each band, and the other names it answers to.
        gsd_m: metres a pixel as stated; `salib.evaluate.tasks.inputs` knows where that is wrong.
    """

    kind: Kind
    class_names: tuple[str, ...]
    bands: dict[str, tuple[str, ...]]
    gsd_m: float


def describe(folder: str | Path) -> FolderFacts:
    """Read a task folder's specification.

    The specification is a pickle; geobench unpickles only the types it writes itself and runs
    nothing else.

    Raises:
        ValueError: if the folder has no specification, one that is not geobench's, or one of
            another kind of task; or geobench is too old to unpickle safely.
    """
    safe_loads()
    from geobench.dataset import SegmentationClasses
    from geobench.label import Classification, MultiLabelClassification, SemanticSegmentation
    from geobench.task import load_task_specs

    folder = Path(folder)
    path = folder / "task_specs.pkl"
    try:
        specs = load_task_specs(folder)
        label, gsd_m = specs.label_type, float(specs.spatial_resolution)
        bands = {str(info.name): tuple(map(str, info.alt_names)) for info in specs.bands_info or ()}
        if isinstance(label, MultiLabelClassification):
            kind, count, names = "multilabel", int(label.n_classes), label.class_name
        elif isinstance(label, SegmentationClasses | SemanticSegmentation):
            kind, count, names = "segmentation", int(label.n_classes), label.class_names
        elif isinstance(label, Classification):
            kind, count, names = "classification", int(label.n_classes), label.class_names
        else:
            raise ValueError(f"label type {label!r}")
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    names = names or CLASS_NAMES.get(folder.name, ())
    if len(names) != count:
        names = [str(number) for number in range(count)]
    return FolderFacts(kind=kind, class_names=tuple(map(str, names)), bands=bands, gsd_m=gsd_m)


def sample_names(folder: str | Path) -> dict[str, list[str]]:
    """Sample names of the default partition, by split.

    Raises:
        ValueError: if the partition is missing or unreadable, lacks a split, or names a sample
            of which there is no file.
    """
    folder = Path(folder)
    names = _partition(folder)
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
    folder: str | Path, split: str, bands: tuple[str, ...], *, procedural: bool = False
) -> Iterator[tuple[Shaped[np.ndarray, "_ _ bands"], Label]]:
    """Raw band values, in the stored type, and the label of each sample of a split.

    Args:
        bands: by any name the task's specification knows, such as "red" or "08 - NIR", meaning
            what the name says also where publication confused the names (`STORED_AS`).
        procedural: whether the folder was written by `earth`.

    Raises:
        ValueError: as `describe` and `sample_names`; or if the task has no such band, the bands
            differ in size, or a sample's file is damaged, not geobench's, or has a label of
            another kind or range than the task's.
    """
    folder = Path(folder)
    facts, names, loads = describe(folder), sample_names(folder), safe_loads()
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    stored = tuple(_stored_name(folder.name, facts, name, procedural) for name in bands)
    for name in names[split]:
        path = folder / f"{name}.hdf5"
        raw, label = read_sample(path, stored, loads)
        yield raw, _checked(label, facts, path)


def _stored_name(task: str, facts: FolderFacts, band: str, procedural: bool) -> str:
    full = [name for name, other in facts.bands.items() if band in (name, *other)]
    if not full:
        raise ValueError(f"band must be one of {task}'s, got {band!r}; they are {facts.bands}")
    if task not in STORED_AS or (procedural and task == "m-brick-kiln"):
        return full[0]
    if full[0] not in STORED_AS[task]:
        raise ValueError(
            f"band must be one that published {task} holds, got {band!r}, which it only names; "
            f"it holds {sorted(STORED_AS[task])}"
        )
    return STORED_AS[task][full[0]]


def _checked(label: Any, facts: FolderFacts, path: Path) -> Label:
    """The label in the type of its task's kind, or one clear error."""
    count = len(facts.class_names)
    values = np.asarray(label)
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
    limit = 2 if facts.kind == "multilabel" else count
    if values.min() < 0 or values.max() >= limit:
        raise ValueError(
            f"label of {path} must be 0 to {limit - 1}, got {values.min()} to {values.max()}"
        )
    return int(values) if facts.kind == "classification" else values.astype(np.int64)


def _partition(folder: Path) -> dict[str, list[str]]:
    """The default partition, through geobench's class."""
    safe_loads()
    from geobench.dataset import GeobenchDataset

    if not (folder / "default_partition.json").is_file():
        raise ValueError(f"{folder} must hold default_partition.json, got a folder without it")
    with warnings.catch_warnings():
        # Band names that publication confused: see STORED_AS.
        warnings.filterwarnings("ignore", message=".*stores incorrect band names")
        try:
            dataset = GeobenchDataset(folder, band_names=(), split=None)
            return {k: [*map(str, v)] for k, v in dataset.active_partition.partition_dict.items()}
        except UNREADABLE as error:
            raise unreadable(folder / "default_partition.json", error) from error
