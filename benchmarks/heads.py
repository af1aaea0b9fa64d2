"""The heads of Table 2 at real size: four tasks, three columns, 768 wide, features made up.

    python benchmarks/heads.py --scale 0.05
    python benchmarks/heads.py

Features are Gaussian classes drawn anew for each task and column: no image is read and no accuracy
here means anything. Items are those of GEO-Bench's splits times --scale. Rows, the seconds of each
task, column and stage, go to results/performance/heads.csv; the slowest stage is named at the end.
"""

import argparse
import time
from pathlib import Path

import measure
import numpy as np
import pandas as pd
import torch

from salib.evaluate.columns import Split, stream
from salib.evaluate.probes.predict import Splits, run_probe
from salib.evaluate.protocol import PROTOCOLS

# Classes, and items of train, valid and test, of GEO-Bench v1.0.
TASKS = {
    "m-pv4ger": (2, (11814, 999, 999)),
    "m-forestnet": (12, (6464, 989, 993)),
    "m-eurosat": (10, (2000, 1000, 1000)),
    "m-brick-kiln": (2, (15063, 999, 999)),
}
COLUMNS = ("SA-high", "SA-low", "CROMA")
DIM = 768
APART = 0.1
"""Deviation of the centres of classes over that within a class, in each direction."""
TABLE_2 = ("knn", "kmeans", "kmeans_umap", "neural")
LINEAR = "linear"  # not in Table 2


def made_up(task: str, scale: float) -> Splits:
    """Gaussian classes that overlap, as an encoder's do: heads are right more often than chance."""
    classes, sizes = TASKS[task]
    rng = np.random.default_rng(stream(0, task))
    labels = [rng.integers(classes, size=max(60, round(scale * size))) for size in sizes]
    features: list[dict] = [{} for _ in sizes]
    # Few directions hold most of the variance, as in an encoder's features.
    spread = np.arange(1, DIM + 1) ** -0.5
    for column in COLUMNS:
        centres = APART * rng.normal(size=(classes, DIM))
        for part, split_labels in zip(features, labels, strict=True):
            noise = rng.normal(size=(len(split_labels), DIM))
            part[column] = ((centres[split_labels] + noise) * spread).astype(np.float32)
    return Splits(*(Split(f, y, {}, {}) for f, y in zip(features, labels, strict=True)))


def run(stage: str, splits: Splits, column: str, classes: int, seed: int) -> np.ndarray:
    """Predictions of one stage for one column."""
    options = {"n_classes": classes, "protocol": PROTOCOLS["default"], "seed": seed}
    return run_probe(stage, splits, column, **options).predicted


def timed(task: str, stages: list[str], scale: float) -> list[dict]:
    """Rows of one task."""
    splits, classes = made_up(task, scale), TASKS[task][0]
    rows = []
    for column in COLUMNS:
        for stage in stages:
            wall, cpu = time.perf_counter(), time.process_time()
            predicted = run(stage, splits, column, classes, stream(0, task, column, stage))
            spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            accuracy = (predicted == splits.test.labels).mean()
            rows.append({"task": task, "column": column, "stage": stage, **spent})
            rows[-1] |= {"n_train": len(splits.train.labels), "accuracy_made_up": accuracy}
            print(f"{task:14s}{column:9s}{stage:24s}{spent['wall_s']:8.2f} s", flush=True)
    return rows


def main() -> None:
    """Time all stages of all tasks, write the rows, name the slowest stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the real items")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    stages = (*TABLE_2, LINEAR)
    parser.add_argument("--stages", nargs="+", default=list(stages), choices=stages)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    chosen = parser.parse_args()
    if not 0 < chosen.scale <= 1:
        parser.error(f"--scale must lie in 0..1, got {chosen.scale}")
    measure.same_allocator()
    torch.set_num_threads(chosen.threads)
    rows = pd.DataFrame(
        row for task in chosen.tasks for row in timed(task, chosen.stages, chosen.scale)
    )
    found = measure.machine()
    chosen.out.mkdir(parents=True, exist_ok=True)
    table = rows.assign(scale=chosen.scale, **found)
    table.to_csv(chosen.out / "heads.csv", index=False, float_format="%.4g")
    seconds = rows.groupby("stage")["wall_s"].sum().sort_values()
    print(seconds.round(1).to_string())
    printed = seconds[seconds.index.isin(TABLE_2)]
    if len(printed):
        minutes, slowest = printed.sum() / 60, printed.index[-1]
        print(f"heads of Table 2: {minutes:.1f} min; slowest stage: {slowest}")


if __name__ == "__main__":
    main()
