"""GEO-Bench's folder layout for procedural tasks, written through the benchmark's own classes."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from geobench.dataset import Band, Partition, Sample, SegmentationClasses
from geobench.label import Classification, MultiLabelClassification
from geobench.task import TaskSpecifications
from tqdm import tqdm

from earth.tasks.chips import Chip, Task
from earth.tasks.names import TASKS
from salib.files.artifact import MADE_FROM, atomic_dir, check_replaceable, stamp

SHARES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50, 1.00)
_PERCENTILES = {"0_1": 0.1, "1": 1, "5": 5, "95": 95, "99": 99, "99_9": 99.9}
_PIXELS = 1000

LabelType = Classification | MultiLabelClassification | SegmentationClasses


class _Written(NamedTuple):
    """Of some samples: band pixels and labels of train, and what each label holds."""

    pixels: np.ndarray
    labels: np.ndarray
    stats: dict[str, list[float]]


def write_geobench(
    out: str | Path,
    *,
    seed: int,
    tasks: tuple[str, ...] = ("m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln"),
    train: int = 400,
    valid: int = 100,
    test: int = 300,
    processes: int = 2,
) -> Path:
    """Write procedural tasks with the names, bands, sizes and types of real ones.

    Segmentation masks are the classes of the painted ground, a multi-label vector says which
    themes and lines of the world a window shows.

    Args:
        out: becomes a GEO_BENCH_DIR: `out/classification_v1.0/<task>/...` and
            `out/segmentation_v1.0/<task>/...`; whole or absent.
        seed: the world; the same arguments give the same samples with any number of processes.
        tasks: names out of `earth.tasks.names.TASKS`, which holds all twelve; the default are the
            four of the paper's Table 2.
        train: samples to learn from; classes are balanced within each split.
        valid: samples to choose by.
        test: samples to report.
        processes: worker processes.

    Returns:
        `out`.

    Raises:
        ValueError: if a task is unknown, or a size or number of processes is not positive.
    """
    unknown = [name for name in tasks if name not in TASKS]
    if unknown:
        raise ValueError(f"tasks must be among {sorted(TASKS)}, got {unknown}")
    if min(train, valid, test, processes) < 1 or seed < 0:
        raise ValueError(
            "train, valid, test and processes must be positive and seed not negative, got "
            f"{train}, {valid}, {test}, {processes} and {seed}"
        )
    check_replaceable(out, "*_v1.0", MADE_FROM, stamped=True)
    sizes = {"train": train, "valid": valid, "test": test}
    with atomic_dir(out) as part:
        for name in tasks:
            task = TASKS[name]
            _write_task(part / task.benchmark / name, task, seed, sizes, processes)
        stamp(part, {"tasks": list(tasks), "seed": seed, **sizes})
    return Path(out)


def _write_task(folder: Path, task: Task, seed: int, sizes: dict[str, int], processes: int) -> None:
    folder.mkdir(parents=True)
    names = [f"{split}_{number:05d}" for split, size in sizes.items() for number in range(size)]
    rng = np.random.default_rng([seed, 41, *task.name.encode()])
    count = task.strata or len(task.classes)
    strata = np.concatenate([_strata(rng, size, count) for size in sizes.values()])
    chunks = np.array_split(np.arange(len(names)), min(4 * processes, len(names)))
    job = partial(_write_samples, folder, task.name, seed, names, strata)
    if processes == 1:
        done = [job(chunk) for chunk in tqdm(chunks, task.name, disable=None)]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            done = list(tqdm(pool.map(job, chunks), task.name, len(chunks), disable=None))
    _write_partitions(folder, names, strata, sizes, count)
    pixels, labels = (np.concatenate(parts, -1) for parts in list(zip(*done, strict=True))[:2])
    _write_json(folder / "band_stats.json", _band_stats(task, pixels, labels))
    if task.kind == "classification":
        by_label = {
            str(label): [n for n, own in zip(names, strata, strict=True) if own == label]
            for label in range(count)
        }
        _write_json(folder / "label_map.json", by_label)
    else:
        stats = {name: found for part in done for name, found in part.stats.items()}
        _write_json(folder / "label_stats.json", stats)
    TaskSpecifications(
        dataset_name=task.name,
        benchmark_name=task.benchmark,
        patch_size=(task.side_px, task.side_px),
        n_time_steps=1,
        bands_info=list(task.bands),
        label_type=_label_type(task),
        spatial_resolution=task.spec_gsd_m,
    ).save(str(folder))


def _label_type(task: Task) -> LabelType:
    count, names = len(task.classes), list(task.classes) if task.named else None
    if task.kind == "classification":
        return Classification(count, names)
    if task.kind == "multilabel":
        return MultiLabelClassification(count, names)
    return SegmentationClasses("label", task.spec_gsd_m, count, names)


def _strata(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    return rng.permutation(np.arange(size) % count)


def _write_samples(
    folder: Path, name: str, seed: int, names: list[str], strata: np.ndarray, chosen: np.ndarray
) -> _Written:
    """Write some samples; return a few pixels of each train sample for the band statistics."""
    task, kept, labels, stats = TASKS[name], [], [], {}
    label_type = _label_type(task)
    for number in chosen.tolist():
        chip = task.chip(seed, int(strata[number]), number)
        _sample(task, chip, label_type, names[number]).write(str(folder))
        if task.kind != "classification":
            stats[names[number]] = _held(task, np.asarray(chip.label))
        if names[number].startswith("train"):
            rng = np.random.default_rng([seed, 43, number])
            pixels = rng.integers(max(band.size for band in chip.bands), size=_PIXELS)
            stored = [*chip.bands, np.asarray(chip.label)]
            *values, label = (band.reshape(-1)[pixels % band.size] for band in stored)
            kept.append(np.stack(values).astype(np.float64))
            labels.append(label)
    none = np.empty((len(task.bands), 0))
    return _Written(
        np.concatenate(kept, 1) if kept else none,
        np.concatenate(labels) if labels else np.empty(0),
        stats,
    )


def _held(task: Task, label: np.ndarray) -> list[float]:
    """Share of each class in a mask; a 0/1 vector as it is."""
    if task.kind == "multilabel":
        return label.astype(float).tolist()
    return (np.bincount(label.ravel(), minlength=len(task.classes)) / label.size).tolist()


def _sample(task: Task, chip: Chip, label_type: LabelType, name: str) -> Sample:
    bands = [
        Band(
            data=np.ascontiguousarray(band),
            band_info=info,
            spatial_resolution=task.spec_gsd_m * (task.side_px // band.shape[0]),
            date=chip.when,
        )
        for band, info in zip(chip.bands, task.bands, strict=True)
    ]
    label: Any = chip.label
    if isinstance(label_type, SegmentationClasses):
        label = Band(
            data=np.asarray(chip.label).astype(task.label_dtype),
            band_info=label_type,
            spatial_resolution=task.spec_gsd_m,
            date=chip.when if task.dated_label else None,
        )
    return Sample(bands, label, name)


def _write_partitions(
    folder: Path, names: list[str], strata: np.ndarray, sizes: dict[str, int], count: int
) -> None:
    """`default`, and nested train subsets with at least one sample of each stratum."""
    split = {part: [n for n in names if n.startswith(part)] for part in sizes}
    Partition(dict(split)).save(str(folder), "default")
    order = np.argsort(_rank_in_stratum(strata[: sizes["train"]]), kind="stable")
    for share in SHARES:
        fewest = max(round(share * sizes["train"]), min(count, sizes["train"]))
        few = [split["train"][number] for number in order[:fewest]]
        Partition({**split, "train": sorted(few)}).save(str(folder), f"{share:.2f}x_train")


def _rank_in_stratum(strata: np.ndarray) -> np.ndarray:
    seen: dict[int, int] = {}
    ranks = []
    for stratum in strata.tolist():
        ranks.append(seen.get(stratum, 0))
        seen[stratum] = ranks[-1] + 1
    return np.array(ranks)


def _band_stats(task: Task, pixels: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Statistics by band name, also under the date where all samples share it, and of the label."""
    stats = {info.name: _describe(values) for info, values in zip(task.bands, pixels, strict=True)}
    if len(task.dates) == 1:
        suffix = f"_{task.dates[0]:%Y-%m-%d}"
        stats |= {name + suffix: dict(values) for name, values in stats.items()}
    return stats | ({"label": _describe(labels)} if task.kind != "classification" else {})


def _describe(values: np.ndarray) -> dict[str, float]:
    out = {
        "max": values.max(),
        "mean": values.mean(),
        "median": np.median(values),
        "min": values.min(),
        "std": values.std(),
    }
    out |= {f"percentile_{name}": np.percentile(values, at) for name, at in _PERCENTILES.items()}
    return {name: float(value) for name, value in sorted(out.items())}


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2))
