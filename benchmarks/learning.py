"""Is learning real? Both models against their untrained selves and image statistics, over seeds.

    python benchmarks/learning.py --seeds 3 --out results/learning.csv

Curates the smoke profile's procedural tiles once a seed (the world's seed is the run's), pretrains
both models, probes four procedural tasks by k-NN-20 (cosine on z-scored mean tokens), and, with
SALIB_DATA_DIR set, EuroSAT and UC Merced. Prints for each model the accuracy averaged over the
four procedural tasks less that of each baseline, with a 95 % bootstrap interval over test items
(the seeds are held fixed). About eight minutes a seed on two cores.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from earth import write_geobench, write_scenes
from salib import TRAINING, preset
from salib.curate import Engine, curate
from salib.evaluate import encoders_of, geobench_tasks, real_tasks
from salib.evaluate.columns import baselines, embed_split
from salib.evaluate.probes.data import standardise
from salib.evaluate.probes.neighbours import votes
from salib.files.artifact import atomic_file, keep
from salib.training.train import pretrain

TILES_SIDE, ZOOM, PRESET = 16, 14, "tiny"
MODELS = {"SA-high": "SA-high untrained", "SA-low": "SA-low untrained", "CROMA": "CROMA untrained"}
STATISTICS, RESAMPLES = "image statistics", 2000


def one_seed(folder: Path, seed: int, test: int) -> pd.DataFrame:
    """Whether each test item was right, by task and column."""
    scenes = keep(
        folder / "world", write_scenes, seed=seed, zoom=ZOOM, tiles=TILES_SIDE, processes=2
    )
    tiles = curate(scenes / "catalog.json", folder / "tiles", zoom=ZOOM, engine=Engine(workers=2))
    models = []
    for kind in ("scale_alibi", "croma"):
        config = preset(PRESET, kind=kind)
        out = folder / "models" / kind
        models.append(pretrain(config, TRAINING[PRESET], tiles=tiles, out=out, seed=seed))
    columns = encoders_of(models, seed=seed) | baselines(seed)
    sizes = {"train": 400, "valid": 1, "test": test}
    bench = keep(folder / "geobench", write_geobench, seed=seed, processes=2, **sizes)
    tasks = geobench_tasks(bench, procedural=True)
    if data := os.environ.get("SALIB_DATA_DIR"):
        tasks += real_tasks(data)
    rows = []
    for task in tasks:
        train, held = (
            embed_split(task, split, columns, image_px=TRAINING[PRESET].image_px)
            for split in ("train", "test")
        )
        for column, features in train.features.items():
            known, asked = standardise(features, held.features[column])
            one_hot = np.eye(task.n_classes, dtype=np.float32)[train.labels]
            guess = votes(known, one_hot, asked, k=20, metric="cosine").argmax(1)
            right = (guess == held.labels).astype(int)
            rows.append({"seed": seed, "task": task.name, "column": column, "right": right})
    return pd.DataFrame(rows)


def mean_difference(rows: pd.DataFrame, column: str, other: str) -> tuple[float, float, float]:
    """Accuracy of column less other, over procedural tasks and seeds, with its 95 % interval."""
    rng = np.random.default_rng(0)
    cells = rows[rows.task.str.startswith("m-")].pivot(
        index=["seed", "task"], columns="column", values="right"
    )
    each = [
        cells.loc[cell, column] - cells.loc[cell, other]  # paired by test item
        for cell in cells.index
    ]
    means = np.mean([d.mean() for d in each])
    drawn = [np.mean([rng.choice(d, len(d)).mean() for d in each]) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(means), float(low), float(high)


def main() -> None:
    """Run the seeds and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=500, help="test items a procedural task")
    parser.add_argument("--work", type=Path, default=Path("runs/learning"))
    parser.add_argument("--out", type=Path, default=Path("results/learning.csv"))
    chosen = parser.parse_args()
    rows = pd.concat(
        [one_seed(chosen.work / str(seed), seed, chosen.test) for seed in range(chosen.seeds)]
    )
    accuracy = rows.assign(accuracy=[right.mean() for right in rows.right], n=rows.right.map(len))
    with atomic_file(chosen.out) as part:
        accuracy.drop(columns="right").to_csv(part, index=False, float_format="%.4f")
    table = accuracy.pivot_table(index="column", columns="task", values="accuracy")
    print((100 * table).round(1).to_string())
    found = [
        (column, other, *(100 * value for value in mean_difference(rows, column, other)))
        for column, untrained in MODELS.items()
        for other in (untrained, STATISTICS)
    ]
    differences = pd.DataFrame(found, columns=["column", "less", "points", "ci_low", "ci_high"])
    with atomic_file(chosen.out.with_name(f"{chosen.out.stem}_differences.csv")) as part:
        differences.to_csv(part, index=False, float_format="%.1f")
    print(differences.round(1).to_string(index=False))


if __name__ == "__main__":
    main()
