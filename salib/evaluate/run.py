"""Tasks and models to rows: embed, probe, put an interval on it."""

import inspect
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import nn
from tqdm import tqdm

from salib.config import Precision
from salib.evaluate.columns import CONVOLUTION, STATISTICS, Candidate, embed_split
from salib.evaluate.croma import with_task_stats
from salib.evaluate.grids import embedded_grids, majority_masks, predicted_masks
from salib.evaluate.probes.data import Prediction, ProbeData, standardise
from salib.evaluate.probes.segmentation import HEADS
from salib.evaluate.probes.table import PROBES
from salib.evaluate.protocol import Protocol, protocol_named
from salib.evaluate.rows import COLUMNS, Cell, Run, rows_of
from salib.evaluate.scores.metrics import class_scores, label_scores, mask_scores
from salib.evaluate.tasks.task import SPLITS, Task, check_disjoint
from salib.files.artifact import atomic_file
from salib.model.precision import instructions, resolve_device, resolve_precision

MAJORITY, AGAINST = "majority class", "CROMA"
logger = logging.getLogger(__name__)


def evaluate(
    models: dict[str, Candidate],
    tasks: list[Task],
    *,
    protocol: str | Protocol = "default",
    image_px: int,
    seed: int,
    out: str | Path | None = None,
    against: str = AGAINST,
    precision: Precision = "float32",
    device: str = "auto",
) -> pd.DataFrame:
    """One row for each task, column and probe; the baselines always stand beside the models.

    Baselines: the untrained encoders among `models`, image statistics, random convolutional
    features, and the majority class of the train split (probe "none"; of a multi-label task, how
    often each class occurs). `value` is `metric` on the test split with its interval: accuracy;
    of a multi-label task a row of micro F1 and one of micro mAP; of segmentation mIoU. `difference`
    is the value minus that of column `against` under the same probe on the same items, with its
    paired interval and p-value (`scores`). A row depends on the seed, its task and its column
    alone: others may be added or left out. Encoders of radar, and joint ones, stand in tasks that
    have it. A probe that needs more train items than a task has gives no row, and a warning.

    Args:
        image_px: image side; a candidate's own is `upsample` times it.
        precision: of the encoders, see `embed`. Rows hold it, the implementations of attention
            that ran ("none" of a baseline, "unknown" of a model that does not say), and what the
            device multiplies with.
        device: "cpu", "cuda" or "auto", a GPU where there is one. Encoders move there, and neural
            and segmentation heads are fitted there; the other probes run on the CPU.
        out: `.csv` or `.parquet`, written anew after each task, so that an end before the last task
            loses none that was finished.

    Raises:
        ValueError: if there is no task, no untrained encoder, no such protocol or column `against`,
            a task is of a kind that the protocol does not know, its splits overlap, one of its
            files is damaged, or the device is not there.
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    _check(models, tasks, chosen, out, against)
    placed = resolve_device(device)
    for candidate in models.values():
        if isinstance(candidate.model, nn.Module):
            candidate.model.to(placed)
    rows = []
    for task in tqdm(tasks, desc="evaluate", unit="task"):
        run = Run(
            candidates=with_task_stats(models, task),
            protocol=chosen,
            image_px=image_px,
            seed=seed,
            precision=resolve_precision(precision, placed),
            device=str(placed),
            against=against,
        )
        probed = _segmented if task.kind == "segmentation" else _probed
        rows += rows_of(task, list(probed(task, run)), run, instructions(placed))
        if out is not None:
            frame = pd.DataFrame(rows, columns=list(COLUMNS))
            with atomic_file(out) as part:
                (frame.to_csv if Path(out).suffix == ".csv" else frame.to_parquet)(
                    part, index=False
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check(
    models: dict[str, Candidate],
    tasks: list[Task],
    protocol: Protocol,
    out: str | Path | None,
    against: str,
) -> None:
    if all(candidate.trained for candidate in models.values()):
        raise ValueError(
            "models must include an untrained encoder (Candidate(..., trained=False)), got "
            f"{', '.join(models) or 'none'}"
        )
    columns = (*models, STATISTICS, CONVOLUTION, MAJORITY)
    if against not in (*columns, AGAINST):
        raise ValueError(f"against must be one of {', '.join(columns)}, got {against!r}")
    if not tasks:
        raise ValueError("tasks must name at least one task, got none")
    if out is not None and Path(out).suffix not in (".csv", ".parquet"):
        raise ValueError(f"out must end in .csv or .parquet, got {out}")
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)  # now, not after the first task
    for task in tasks:
        if task.kind not in protocol.kinds:
            raise ValueError(
                f"tasks under protocol {protocol.name!r} must be {' or '.join(protocol.kinds)}, "
                f"got {task.name} ({task.kind}): leave it out"
            )
        check_disjoint(task)


def _probed(task: Task, run: Run) -> Iterator[Cell]:
    """Cells of a task with one class, or several, per image."""
    train, valid, test = (embed_split(task, name, run.candidates, **run.view) for name in SPLITS)
    scored = label_scores if task.kind == "multilabel" else class_scores
    sizes = {"n_train": len(train.labels), "n_valid": len(valid.labels), "n_test": len(test.labels)}
    if task.kind == "multilabel":
        majority = np.tile(train.labels.mean(0, dtype=np.float32), (len(test.labels), 1))
    else:
        majority = np.full(len(test.labels), np.bincount(train.labels).argmax())
    facts = sizes | {"gsd_m": test.gsd_m[run.image_px], "attention": "none"}
    yield Cell(MAJORITY, "none", scored(majority, test.labels), facts)
    names = _probes_of(task, run.protocol, len(train.labels))
    for column in tqdm(test.features, desc=task.name, unit="column", leave=False, disable=None):
        features = [split.features[column] for split in (train, valid, test)]
        if run.protocol.standardise:
            features = standardise(*features)
        data = ProbeData(
            train=features[0],
            train_labels=train.labels,
            valid=features[1],
            valid_labels=valid.labels,
            test=features[2],
            n_classes=task.n_classes,
        )
        side = run.image_px * (run.candidates[column].upsample if column in run.candidates else 1)
        used = set().union(*(split.attention.get(column, ()) for split in (train, valid, test)))
        facts = sizes | {"gsd_m": test.gsd_m[side], "attention": "+".join(sorted(used)) or "none"}
        for name in names:
            start = time.perf_counter()
            found = PROBES[name].run(data, run.setting(task, name))
            values = found.scores if task.kind == "multilabel" else found.classes
            yield Cell(
                column, name, scored(values, test.labels), facts | _agreement(found, test.labels)
            )
            logger.info("%s %s %s: %.2f s", task.name, column, name, time.perf_counter() - start)


def _probes_of(task: Task, protocol: Protocol, n_train: int) -> list[str]:
    """The protocol's probes that a task has enough train items for."""
    names = []
    for name, probe in PROBES.items():
        if task.kind not in probe.kinds or not protocol.runs(name):
            continue
        least = probe.least_train(protocol, task.n_classes)
        if n_train >= least:
            names.append(name)
        else:
            logger.warning(
                "%s has no %s: it needs %d train items, not %d", task.name, name, least, n_train
            )
    return names


def _agreement(prediction: Prediction, labels: np.ndarray) -> dict[str, float]:
    """How clusters, where there are any, agree with the classes."""
    if prediction.clusters is None:
        return {}
    agree = {"ari": adjusted_rand_score, "nmi": normalized_mutual_info_score}
    return {name: float(index(labels, prediction.clusters)) for name, index in agree.items()}


def _segmented(task: Task, run: Run) -> Iterator[Cell]:
    """Cells of a segmentation task; one column's tokens are on disk at a time."""
    optical = [name for name, one in run.candidates.items() if one.sensor in ("lores", "hires")]
    for model in (run.candidates[name].model for name in optical):
        takes = inspect.signature(model.embed).parameters.values()
        if not any(one.name == "tokens" or one.kind is one.VAR_KEYWORD for one in takes):
            raise ValueError(
                f"models must embed with tokens=True, which {type(model).__name__} does not, got "
                f"{task.name} ({task.kind}): leave one of them out"
            )
    columns, classes = (STATISTICS, CONVOLUTION, *optical), task.n_classes
    for column in tqdm(columns, desc=task.name, unit="column", leave=False, disable=None):
        used: set[str] = set()
        candidate = run.candidates.get(column)
        with embedded_grids(task, column, candidate, used=used, **run.view) as grids:
            masks = grids.test.masks
            facts = {f"n_{name}": len(part.grids) for name, part in grids._asdict().items()}
            facts |= {"gsd_m": grids.test.gsd_m, "attention": "+".join(sorted(used)) or "none"}
            if column == STATISTICS:
                majority = majority_masks(grids, classes)
                yield Cell(MAJORITY, "none", mask_scores(majority, masks, classes), facts)
            for name in filter(run.protocol.runs, HEADS):
                start = time.perf_counter()
                _, seed, device = run.setting(task, name)
                found = predicted_masks(name, grids, n_classes=classes, seed=seed, device=device)
                yield Cell(column, name, mask_scores(found, masks, classes), facts)
                spent = time.perf_counter() - start
                logger.info("%s %s %s: %.2f s", task.name, column, name, spent)
