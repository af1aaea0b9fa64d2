"""The heads of Table 2 at real size: four tasks, three columns, 768 wide, features made up.

    python benchmarks/heads.py --scale 0.05
    python benchmarks/heads.py

Features are z-scored Gaussian classes drawn anew for each task and column: no image is read and no
accuracy here means anything. Items are those of GEO-Bench's splits times --scale. Rows, the seconds
of each task, column and stage, go to results/performance/heads.csv; the slowest stage is named at
the end.
"""

import argparse
import time
from pathlib import Path

import measure
import numpy as np
import pandas as pd
import torch

from salib.evaluate.columns import named_seed
from salib.evaluate.probes.data import ProbeData, Setting, standardise
from salib.evaluate.probes.table import PROBES
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


def made_up(task: str, scale: float) -> tuple[dict[str, ProbeData], np.ndarray]:
    """Gaussian classes that overlap, as an encoder's do, by column; and the test labels."""
    classes, sizes = TASKS[task]
    rng = np.random.default_rng(named_seed(0, task))
    labels = [rng.integers(classes, size=max(60, round(scale * size))) for size in sizes]
    # Few directions hold most of the variance, as in an encoder's features.
    spread = np.arange(1, DIM + 1) ** -0.5
    columns = {}
    for column in COLUMNS:
        centres = APART * rng.normal(size=(classes, DIM))
        parts = [(centres[of] + rng.normal(size=(len(of), DIM))) * spread for of in labels]
        train, valid, test = standardise(*(part.astype(np.float32) for part in parts))
        known = {"train_labels": labels[0], "valid_labels": labels[1], "n_classes": classes}
        columns[column] = ProbeData(train=train, valid=valid, test=test, **known)
    return columns, labels[2]


def timed(task: str, stages: list[str], scale: float) -> list[dict]:
    """Rows of one task."""
    columns, truth = made_up(task, scale)
    rows = []
    for column, data in columns.items():
        for stage in stages:
            wall, cpu = time.perf_counter(), time.process_time()
            setting = Setting(PROTOCOLS["default"], named_seed(0, task, column, stage))
            predicted = PROBES[stage].run(data, setting).classes
            spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            accuracy = (predicted == truth).mean()
            rows.append({"task": task, "column": column, "stage": stage, **spent})
            rows[-1] |= {"n_train": len(data.train), "accuracy_made_up": accuracy}
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
