"""GEO-Bench's folder layout for procedural tasks, written through the benchmark's own classes."""

import json
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from geobench.dataset import Band, Partition, Sample, SegmentationClasses, compute_stats
from geobench.task import TaskSpecifications

from earth.tasks.table import PAINTED_TASKS, PaintedTask
from earth.workers import results
from salib.files.artifact import MADE_FROM, atomic_dir, check_replaceable, stamp


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

    A segmentation mask is the class of the painted ground, a multi-label vector says which
    themes of the world a window shows.

    Args:
        out: becomes a GEO_BENCH_DIR: `out/classification_v1.0/<task>/...` and
            `out/segmentation_v1.0/<task>/...`; whole or absent.
        seed: the world; the same arguments give the same samples with any number of processes.
        tasks: names out of `earth.tasks.table.PAINTED_TASKS`; the default are the four of Table 2.
        train: samples to learn from; classes are balanced within each split.
        valid: samples to choose by.
        test: samples to report.
        processes: worker processes.

    Returns:
        `out`.

    Raises:
        ValueError: if a task is unknown, or a size or number of processes is not positive.
    """
    unknown = [name for name in tasks if name not in PAINTED_TASKS]
    if unknown:
        raise ValueError(f"tasks must be among {sorted(PAINTED_TASKS)}, got {unknown}")
    if min(train, valid, test, processes) < 1 or seed < 0:
        raise ValueError(
            "train, valid, test and processes must be positive and seed not negative, got "
            f"{train}, {valid}, {test}, {processes} and {seed}"
        )
    check_replaceable(out, "*_v1.0", MADE_FROM, stamped=True)
    sizes = {"train": train, "valid": valid, "test": test}
    with atomic_dir(out) as part:
        for name in tasks:
            task = PAINTED_TASKS[name]
            _write_task(part / task.benchmark / name, task, seed, sizes, processes)
        stamp(part, {"tasks": list(tasks), "seed": seed, **sizes})
    return Path(out)


def _write_task(
    folder: Path, task: PaintedTask, seed: int, sizes: dict[str, int], processes: int
) -> None:
    folder.mkdir(parents=True)
    names = {split: [f"{split}_{n:05d}" for n in range(size)] for split, size in sizes.items()}
    rng = np.random.default_rng([seed, 41, *task.name.encode()])
    strata = [rng.permutation(np.arange(n) % task.strata).tolist() for n in sizes.values()]
    samples = zip(chain(*names.values()), chain(*strata), strict=True)
    job = partial(_write_sample, folder, task.name, seed)
    seen = list(results(job, list(enumerate(samples)), processes, task.name))
    pixels = np.concatenate(seen[: sizes["train"]], axis=1, dtype=np.float64)
    Partition(names).save(str(folder), "default")
    infos = list(task.bands.infos)
    pairs = zip(infos, pixels, strict=True)
    stats = {info.name: compute_stats(band).to_dict() for info, band in pairs}
    (folder / "band_stats.json").write_text(json.dumps(stats, indent=2))
    TaskSpecifications(
        dataset_name=task.name,
        benchmark_name=task.benchmark,
        patch_size=(task.side_px, task.side_px),
        n_time_steps=1,
        bands_info=infos,
        label_type=task.label,
        spatial_resolution=getattr(task.label, "spatial_resolution", task.gsd_m),
    ).save(str(folder))


def _write_sample(
    folder: Path, task_name: str, seed: int, sample: tuple[int, tuple[str, int]]
) -> np.ndarray:
    """Write a sample, given by its number, name and stratum; return every seventh pixel."""
    task, (number, (name, stratum)) = PAINTED_TASKS[task_name], sample
    label: Any
    values, label = task.chip(seed, stratum, number)
    gsd_m = getattr(task.label, "spatial_resolution", task.gsd_m)
    pairs = zip(values, task.bands.infos, strict=True)
    bands = [Band(band, info, gsd_m, date=task.when) for band, info in pairs]
    if isinstance(task.label, SegmentationClasses):
        label = Band(label, task.label, gsd_m)
    Sample(bands, label, name).write(str(folder))
    return values.reshape(len(values), -1)[:, ::7]
