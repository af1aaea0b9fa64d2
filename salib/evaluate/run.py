"""Tasks and models to rows: embed, probe, put an interval on it."""

import logging
import time
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from tqdm import tqdm

from salib.artifact import atomic_file
from salib.evaluate import probes
from salib.evaluate.columns import Encoder, Split, embed_split, stream
from salib.evaluate.features import Precision, device_of, resolve_precision
from salib.evaluate.neural import neural
from salib.evaluate.protocol import PROTOCOLS, Protocol
from salib.evaluate.statistics import bootstrap_mean, paired_difference, resample
from salib.evaluate.tasks import SPLITS, Task, check_disjoint

PROBES = ("neural", "kmeans", "kmeans_umap", "knn")
MAJORITY = "majority class"
COLUMNS = (
    *("task", "source", "procedural", "model", "kind", "sensor", "probe", "protocol", "metric"),
    *("value", "ci_low", "ci_high", "against", "difference", "difference_low", "difference_high"),
    *("ari", "nmi", "n_train", "n_valid", "n_test", "gsd_m", "image_px", "precision", "seed"),
)
logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """Predicted class of each test item, and its cluster where the probe made one."""

    predicted: Int64[np.ndarray, " test"]
    clusters: Int64[np.ndarray, " test"] | None = None


class Splits(NamedTuple):
    """A task's three embedded splits."""

    train: Split
    valid: Split
    test: Split


def evaluate(
    models: dict[str, Encoder],
    tasks: list[Task],
    *,
    protocol: Literal["default", "paper"] | Protocol = "default",
    image_px: int,
    seed: int,
    out: str | Path | None = None,
    against: str = "CROMA",
    precision: Precision = "float32",
) -> pd.DataFrame:
    """One row for each task, column and probe; the baselines always stand beside the models.

    Baselines: the untrained encoders among `models`, image statistics, random convolutional
    features, and the majority class of the train split (probe "none"). `value` is accuracy on the
    test split with its bootstrap interval; `difference` is accuracy minus that of column `against`
    under the same probe on the same items, with its paired interval. A row depends on the seed,
    its task and its column alone: others may be added or left out.

    Args:
        image_px: image side; an encoder's own is `zoom` times it.
        precision: of the encoders, see `embed`; rows hold it.
        out: `.csv` or `.parquet`, written whole or not at all.

    Raises:
        ValueError: if there is no task or no untrained encoder, a task is multi-label or
            segmentation, its splits overlap, or one of its files is damaged.
    """
    chosen = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    _check(models, tasks, out)
    rows = []
    looks = {"image_px": image_px, "seed": seed, "precision": precision}
    for task in tqdm(tasks, desc="evaluate", unit="task"):
        splits = Splits(*(embed_split(task, name, models, **looks) for name in SPLITS))
        outcomes = _probe_task(task, splits, chosen, seed)
        rows += _rows(task, models, splits, outcomes, chosen, against, image_px, seed)
    used = {name: _precision(precision, encoder) for name, encoder in models.items()}
    rows = [row | {"precision": used.get(row["model"], "float32")} for row in rows]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if out is not None:
        with atomic_file(out) as part:
            write = frame.to_parquet if Path(out).suffix == ".parquet" else frame.to_csv
            write(part, index=False)
    return frame


def run_probe(
    what: str, splits: Splits, column: str, *, n_classes: int, protocol: Protocol, seed: int
) -> Outcome:
    """Predictions of one probe ("neural", "kmeans", "kmeans_umap", "knn") for one column.

    Raises:
        ValueError: if there is no such probe.
    """
    if what not in PROBES:
        raise ValueError(f"probe must be one of {PROBES}, got {what!r}")
    train, valid, test = (split.features[column] for split in splits)
    if protocol.standardise:
        train, valid, test = probes.standardise(train, valid, test)
    labels = splits.train.labels
    if what == "knn":
        k, metric = protocol.knn_k, protocol.knn_metric
        return Outcome(probes.knn(train, labels, test, k=k, metric=metric))
    if what == "neural":
        held_out = (valid, splits.valid.labels)
        options = {"n_classes": n_classes, "protocol": protocol, "seed": seed}
        return Outcome(neural(train, labels, *held_out, test, **options))
    if what == "kmeans_umap":
        dim, neighbours = protocol.umap_dim, protocol.umap_neighbours
        train, test = probes.umap_reduce(train, test, dim=dim, neighbours=neighbours, seed=seed)
    clustering = probes.kmeans(
        train,
        labels,
        test,
        n_classes=n_classes,
        restarts=protocol.kmeans_restarts,
        match=protocol.match,
        seed=seed,
    )
    return Outcome(clustering.predicted, clustering.clusters)


def _check(models: dict[str, Encoder], tasks: list[Task], out: str | Path | None) -> None:
    if all(encoder.trained for encoder in models.values()):
        raise ValueError(
            "models must include an untrained encoder (Encoder(..., trained=False)), got "
            f"{', '.join(models) or 'none'}"
        )
    if not tasks:
        raise ValueError("tasks must name at least one task, got none")
    if out is not None and Path(out).suffix not in (".csv", ".parquet"):
        raise ValueError(f"out must end in .csv or .parquet, got {out}")
    for task in tasks:
        if task.kind != "classification":
            raise ValueError(
                f"tasks must have one class an image, got {task.name} ({task.kind}): leave it out"
            )
        check_disjoint(task)


def _precision(precision: Precision, encoder: Encoder) -> str:
    return resolve_precision(precision, device_of(encoder.model))


def _probe_task(
    task: Task, splits: Splits, protocol: Protocol, seed: int
) -> dict[tuple[str, str], Outcome]:
    cells = [(column, what) for column in splits.test.features for what in PROBES]
    majority = np.bincount(splits.train.labels).argmax()
    outcomes = {(MAJORITY, "none"): Outcome(np.full(len(splits.test.labels), majority))}
    for column, what in tqdm(cells, desc=task.name, unit="probe", leave=False, disable=None):
        start = time.perf_counter()
        own_seed = stream(seed, task.name, column, what)
        outcomes[column, what] = run_probe(
            what, splits, column, n_classes=task.n_classes, protocol=protocol, seed=own_seed
        )
        logger.info("%s %s %s: %.2f s", task.name, column, what, time.perf_counter() - start)
    return outcomes


def _rows(
    task: Task,
    models: dict[str, Encoder],
    splits: Splits,
    outcomes: dict[tuple[str, str], Outcome],
    protocol: Protocol,
    against: str,
    image_px: int,
    seed: int,
) -> list[dict]:
    labels = splits.test.labels
    rng = np.random.default_rng(stream(seed, task.name, "bootstrap"))
    indices = resample(len(labels), protocol.resamples, rng)
    right = {cell: outcome.predicted == labels for cell, outcome in outcomes.items()}
    shared = {
        "task": task.name,
        "source": task.source,
        "procedural": task.procedural,
        "protocol": protocol.name,
        "metric": "accuracy",
        **{f"n_{name}": len(split.labels) for name, split in splits._asdict().items()},
        "seed": seed,
    }
    rows = []
    for (column, what), outcome in outcomes.items():
        encoder = models.get(column)
        side = image_px * (encoder.zoom if encoder else 1)
        value, low, high = bootstrap_mean(right[column, what], indices, protocol.confidence)
        own = {"value": value, "ci_low": low, "ci_high": high, "probe": what}
        image = {"image_px": side, "gsd_m": splits.test.gsd_m[side]}
        paired = _paired(right, column, what, against, indices, protocol.confidence)
        identity = _identity(column, encoder)
        rows.append(shared | own | image | paired | identity | _agreement(outcome, labels))
    return rows


def _identity(column: str, encoder: Encoder | None) -> dict:
    if encoder is None:
        return {"model": column, "kind": "baseline", "sensor": "none"}
    kind = "trained" if encoder.trained else "untrained"
    return {"model": column, "kind": kind, "sensor": encoder.sensor}


def _paired(
    right: dict[tuple[str, str], Bool[np.ndarray, " test"]],
    column: str,
    what: str,
    against: str,
    indices: Int64[np.ndarray, "resamples test"],
    confidence: float,
) -> dict:
    names = ("difference", "difference_low", "difference_high")
    if column == against or (against, what) not in right:
        return {"against": against, **dict.fromkeys(names, np.nan)}
    theirs = right[against, what]
    interval = paired_difference(right[column, what], theirs, indices, confidence)
    return {"against": against, **dict(zip(names, interval, strict=True))}


def _agreement(outcome: Outcome, labels: Int64[np.ndarray, " test"]) -> dict:
    if outcome.clusters is None:
        return {"ari": np.nan, "nmi": np.nan}
    return {
        "ari": float(adjusted_rand_score(labels, outcome.clusters)),
        "nmi": float(normalized_mutual_info_score(labels, outcome.clusters)),
    }
