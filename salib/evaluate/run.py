"""Tasks and models to rows: embed, probe, put an interval on it."""

import inspect
import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import nn
from tqdm import tqdm

from salib.config import Precision
from salib.evaluate.columns import (
    CONVOLUTION,
    STATISTICS,
    Candidate,
    Split,
    baselines,
    embed_split,
)
from salib.evaluate.croma import with_task_stats
from salib.evaluate.probes.data import ProbeData
from salib.evaluate.probes.fitting import Examples
from salib.evaluate.probes.segmentation import HEADS, fit_segmentation, segment
from salib.evaluate.probes.table import PROBES
from salib.evaluate.protocol import Protocol, protocol_named
from salib.evaluate.rows import COLUMNS, Cell, Run, check_rows, rows_of
from salib.evaluate.scores.metrics import class_scores, label_scores, mask_scores
from salib.evaluate.tasks.task import SPLITS, Task, check_disjoint
from salib.files.artifact import atomic_file
from salib.files.disk import beside
from salib.files.tables import check_table, write_table
from salib.model.precision import instructions, resolve_device, resolve_precision

MAJORITY, AGAINST, COLOURS = "majority class", "CROMA", ("lores", "hires")
COLUMNS_BESIDE = (STATISTICS, CONVOLUTION, MAJORITY)
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
    overwrite: bool = False,
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
        image_px: image side; that of hires is twice as long.
        precision: of the encoders, see `embed`. Rows hold it, the implementations of attention
            that ran ("none" of a baseline, "unknown" of a model that does not say), and what the
            device multiplies with.
        device: "cpu", "cuda" or "auto", a GPU where there is one. Encoders move there, and neural
            and segmentation heads are fitted there; the other probes run on the CPU.
        out: `.csv` or `.parquet`, written anew after each task, so that an end before the last task
            loses none that was finished; rows that it holds already stay until all are there.
        overwrite: replace rows of other models, tasks, protocols or seeds; no other file ever is.

    Raises:
        ValueError: if there is no task, no untrained encoder, no such protocol or column `against`,
            a task is of a kind that the protocol does not know, its splits overlap, one of its
            files is damaged, the device is not there, or `out` holds something else.
        OSError: if TMPDIR, which holds a segmentation task's tokens, has too little disk space.
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    _check(models, tasks, chosen, out, against)
    out = None if out is None else Path(out)
    if out is not None and not overwrite:
        check_rows(out, tasks, [*models, *COLUMNS_BESIDE], chosen, seed)
    placed = resolve_device(device)
    for candidate in models.values():
        if isinstance(candidate.model, nn.Module):
            candidate.model.to(placed).eval()
    rows, frame = [], pd.DataFrame()
    unfinished = beside(out, ".unfinished") if out is not None and out.exists() else out
    for task in tqdm(tasks, desc="evaluate", unit="task"):
        run = Run(
            candidates=with_task_stats(models, task) | baselines(seed),
            protocol=chosen,
            image_px=image_px,
            seed=seed,
            precision=resolve_precision(precision, placed),
            device=str(placed),
            instructions=instructions(placed),
            against=against,
        )
        rows += rows_of(task, list(_cells(task, run)), run)
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        if out is not None and unfinished is not None:
            if out.suffix == ".csv":
                with atomic_file(unfinished) as part:
                    frame.to_csv(part, index=False)
            else:
                write_table(unfinished, frame)
    if out is not None and unfinished is not None:
        unfinished.replace(out)
    return frame


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
    columns = (*models, *COLUMNS_BESIDE)
    if against not in (*columns, AGAINST):
        raise ValueError(f"against must be one of {', '.join(columns)}, got {against!r}")
    if not tasks:
        raise ValueError("tasks must name at least one task, got none")
    if out is not None and Path(out).suffix not in (".csv", ".parquet"):
        raise ValueError(f"out must end in .csv or .parquet, got {out}")
    if out is not None:
        check_table(out, COLUMNS)
    for task in tasks:
        if task.kind not in protocol.kinds:
            raise ValueError(
                f"tasks under protocol {protocol.name!r} must be {' or '.join(protocol.kinds)}, "
                f"got {task.name} ({task.kind}): leave it out"
            )
        check_disjoint(task)


def _cells(task: Task, run: Run) -> Iterator[Cell]:
    """Cells of a task; of a segmentation task one column's tokens are on disk at a time."""
    masks = task.kind == "segmentation"
    columns = _with_tokens(task, run) if masks else run.candidates
    groups = [{name: one} for name, one in columns.items()] if masks else [columns]
    scored = {
        "classification": class_scores,
        "multilabel": label_scores,
        "segmentation": partial(mask_scores, n_classes=task.n_classes),
    }[task.kind]
    for number, group in enumerate(groups):
        with tempfile.TemporaryDirectory(prefix="salib-tokens-") as folder:
            options: dict[str, Any] = {"image_px": run.image_px, "precision": run.precision}
            options["folder"] = Path(folder) if masks else None
            splits = [embed_split(task, split, group, **options) for split in SPLITS]
            train, _, test = splits
            facts = {f"n_{name}": len(one.labels) for name, one in zip(SPLITS, splits, strict=True)}
            if number == 0:
                about = {"gsd_m": test.gsd_m[STATISTICS], "attention": "none"}
                scores = scored(majority(task, train.labels, test.labels), test.labels)
                yield Cell(MAJORITY, "none", scores, facts | about)
            for column in tqdm(test.features, task.name, leave=False, disable=None):
                used = set().union(*(split.attention[column] for split in splits))
                about = {"gsd_m": test.gsd_m[column], "attention": "+".join(sorted(used)) or "none"}
                probed = (_segmented if masks else _probed)(task, run, column, *splits)
                for name, values, more in probed:
                    yield Cell(column, name, scored(values, test.labels), facts | about | more)


def majority(task: Task, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """For each test item or pixel the commonest class of train, or how often each class occurs."""
    if task.kind == "multilabel":
        return np.tile(train.mean(0, dtype=np.float32), (len(test), 1))
    counts = np.zeros(task.n_classes, np.int64)
    for label in train:
        counts += np.bincount(np.ravel(label), minlength=task.n_classes)
    return np.broadcast_to(counts.argmax(), test.shape)


def _probed(
    task: Task, run: Run, column: str, train: Split, valid: Split, test: Split
) -> Iterator[tuple[str, np.ndarray, dict[str, float]]]:
    """By probe, scores or classes of the test items, and how clusters agree with the classes."""
    raw = ProbeData(
        train=train.features[column],
        train_labels=train.labels,
        valid=valid.features[column],
        valid_labels=valid.labels,
        test=test.features[column],
        n_classes=task.n_classes,
    )
    data = raw.standardised() if run.protocol.standardise else raw
    for name in _probes_of(task, run.protocol, len(train.labels)):
        probe = PROBES[name]
        given = probe.run(raw if probe.raw else data, run.setting(task, name))
        agree = {"ari": adjusted_rand_score, "nmi": normalized_mutual_info_score}
        agree = agree if given.clusters is not None else {}
        values = given.scores if task.kind == "multilabel" else given.classes
        yield name, values, {key: of(test.labels, given.clusters) for key, of in agree.items()}


def _segmented(
    task: Task, run: Run, column: str, train: Split, valid: Split, test: Split
) -> Iterator[tuple[str, np.ndarray, dict[str, float]]]:
    """By head, the masks that it predicts."""
    examples = [Examples(split.features[column], split.labels) for split in (train, valid)]
    for name in filter(run.protocol.runs, HEADS):
        _, seed, device = run.setting(task, name)
        options = {"kind": name, "n_classes": task.n_classes, "seed": seed, "device": device}
        head = fit_segmentation(*examples, **options)
        yield name, segment(head, test.features[column], test.labels.shape[1:]), {}


def _probes_of(task: Task, protocol: Protocol, n_train: int) -> Iterator[str]:
    """The protocol's probes that a task has enough train items for."""
    names = [name for name, probe in PROBES.items() if task.kind in probe.kinds]
    least = {name: PROBES[name].least_train(protocol, task.n_classes) for name in names}
    for name in filter(protocol.runs, names):
        if n_train >= least[name]:
            yield name
        else:
            message = "%s has no %s: it needs %d train items, not %d"
            logger.warning(message, task.name, name, least[name], n_train)


def _with_tokens(task: Task, run: Run) -> dict[str, Candidate]:
    """The columns of a segmentation task: baselines, and encoders of red, green and blue."""
    columns = {name: one for name, one in run.candidates.items() if one.sensor in COLOURS}
    for model in (one.model for one in columns.values()):
        takes = inspect.signature(model.embed).parameters.values()
        if not any(one.name == "tokens" or one.kind is one.VAR_KEYWORD for one in takes):
            raise ValueError(
                f"models must embed with tokens=True, which {type(model).__name__} does not, got "
                f"{task.name} ({task.kind}): leave one of them out"
            )
    return {STATISTICS: columns[STATISTICS]} | columns
