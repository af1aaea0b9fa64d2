"""GEO-Bench's folder layout for procedural tasks, written through the benchmark's own classes."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from geobench.dataset import Band, Partition, Sample
from geobench.label import Classification
from geobench.task import TaskSpecifications
from tqdm import tqdm

from salib.artifact import atomic_dir
from salib.world.tasks import TASKS, Task

BENCHMARK = "classification_v1.0"
SHARES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50, 1.00)
_PERCENTILES = {"0_1": 0.1, "1": 1, "5": 5, "95": 95, "99": 99, "99_9": 99.9}
_PIXELS = 1000


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

    Args:
        out: becomes a GEO_BENCH_DIR: `out/classification_v1.0/<task>/...`; whole or absent.
        seed: the world; the same arguments give the same samples with any number of processes.
        tasks: names out of `salib.world.tasks.TASKS`.
        train: samples to learn from; labels are balanced within each split.
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
    sizes = {"train": train, "valid": valid, "test": test}
    with atomic_dir(out) as part:
        for name in tasks:
            _write_task(part / BENCHMARK / name, TASKS[name], seed, sizes, processes)
    return Path(out)


def _write_task(folder: Path, task: Task, seed: int, sizes: dict[str, int], processes: int) -> None:
    folder.mkdir(parents=True)
    names = [f"{split}_{number:05d}" for split, size in sizes.items() for number in range(size)]
    rng = np.random.default_rng([seed, 41, *task.name.encode()])
    labels = np.concatenate([_labels(rng, size, len(task.classes)) for size in sizes.values()])
    chunks = np.array_split(np.arange(len(names)), min(4 * processes, len(names)))
    job = partial(_write_samples, folder, task.name, seed, names, labels)
    if processes == 1:
        pixels = [job(chunk) for chunk in tqdm(chunks, task.name, disable=None)]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            done = pool.map(job, chunks)
            pixels = list(tqdm(done, task.name, len(chunks), disable=None))
    _write_partitions(folder, names, labels, sizes, len(task.classes))
    _write_json(folder / "band_stats.json", _band_stats(task, np.concatenate(pixels, 1)))
    by_label = {
        str(label): [n for n, own in zip(names, labels, strict=True) if own == label]
        for label in range(len(task.classes))
    }
    _write_json(folder / "label_map.json", by_label)
    TaskSpecifications(
        dataset_name=task.name,
        benchmark_name=BENCHMARK,
        patch_size=(task.side_px, task.side_px),
        n_time_steps=1,
        bands_info=list(task.bands),
        label_type=Classification(len(task.classes), list(task.classes)),
        spatial_resolution=task.gsd_m,
    ).save(str(folder))


def _labels(rng: np.random.Generator, size: int, classes: int) -> np.ndarray:
    return rng.permutation(np.arange(size) % classes)


def _write_samples(
    folder: Path, name: str, seed: int, names: list[str], labels: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Write some samples; return a few pixels of each train sample for the band statistics."""
    task, kept = TASKS[name], []
    for number in chosen.tolist():
        image = task.sample(seed, int(labels[number]), number)
        bands = [
            Band(
                data=np.ascontiguousarray(band),
                band_info=info,
                spatial_resolution=task.gsd_m,
                date=task.when,
            )
            for band, info in zip(image, task.bands, strict=True)
        ]
        Sample(bands, int(labels[number]), names[number]).write(str(folder))
        if names[number].startswith("train"):
            rng = np.random.default_rng([seed, 43, number])
            pixels = rng.integers(image[0].size, size=_PIXELS)
            kept.append(image.reshape(len(image), -1)[:, pixels].astype(np.float64))
    return np.concatenate(kept, 1) if kept else np.empty((len(task.bands), 0))


def _write_partitions(
    folder: Path, names: list[str], labels: np.ndarray, sizes: dict[str, int], classes: int
) -> None:
    """`default`, and nested train subsets with at least one sample of each class."""
    split = {part: [n for n in names if n.startswith(part)] for part in sizes}
    Partition(dict(split)).save(str(folder), "default")
    order = np.argsort(_rank_in_class(labels[: sizes["train"]]), kind="stable")
    for share in SHARES:
        count = max(round(share * sizes["train"]), min(classes, sizes["train"]))
        few = [split["train"][number] for number in order[:count]]
        Partition({**split, "train": sorted(few)}).save(str(folder), f"{share:.2f}x_train")


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    seen: dict[int, int] = {}
    ranks = []
    for label in labels.tolist():
        ranks.append(seen.get(label, 0))
        seen[label] = ranks[-1] + 1
    return np.array(ranks)


def _band_stats(task: Task, pixels: np.ndarray) -> dict[str, dict[str, float]]:
    suffix = f"_{task.when:%Y-%m-%d}" if task.when else ""
    stats = {info.name: _describe(values) for info, values in zip(task.bands, pixels, strict=True)}
    if suffix:
        stats |= {name + suffix: dict(values) for name, values in stats.items()}
    return stats


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
