"""Tasks and models to rows: embed, probe, put an interval on it."""

import inspect
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import nn
from tqdm import tqdm

from salib.config import Precision
from salib.evaluate.columns import CONVOLUTION, STATISTICS, Encoder, embed_split, stream
from salib.evaluate.croma import with_task_colours
from salib.evaluate.features import Embedder
from salib.evaluate.grids import HEADS, Head, embedded_grids, head_counts, majority_counts
from salib.evaluate.probes.predict import (
    Outcome,
    Splits,
    least_train,
    run_multilabel_probe,
    run_probe,
)
from salib.evaluate.protocol import PROBES, PROTOCOLS, Protocol
from salib.evaluate.scores.score import (
    Score,
    accuracy_score,
    difference_of,
    interval_of,
    multilabel_scores,
    segmentation_score,
)
from salib.evaluate.scores.statistics import resample
from salib.evaluate.tasks.task import SPLITS, Task, check_disjoint
from salib.files.artifact import atomic_file
from salib.model.precision import instructions, resolve_device, resolve_precision

MAJORITY, AGAINST = "majority class", "CROMA"
COLUMNS = (
    *("task", "source", "procedural", "model", "kind", "sensor", "probe", "protocol", "metric"),
    *("value", "ci_low", "ci_high", "against", "difference", "difference_low", "difference_high"),
    *("p_value", "ari", "nmi", "n_train", "n_valid", "n_test", "gsd_m", "image_px", "precision"),
    *("attention", "instructions", "seed"),
)
logger = logging.getLogger(__name__)


class Cell(NamedTuple):
    """One column under one probe: its scores, and what else its rows hold."""

    column: str
    probe: str
    scores: tuple[Score, ...]
    facts: Mapping[str, float | str]


def evaluate(
    models: dict[str, Encoder],
    tasks: list[Task],
    *,
    protocol: Literal["default", "paper"] | Protocol = "default",
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
        image_px: image side; an encoder's own is `zoom` times it.
        precision: of the encoders, see `embed`. Rows hold it, the implementations of attention
            that ran ("none" of a baseline, "unknown" of a model that does not say), and what the
            device multiplies with.
        device: "cpu", "cuda" or "auto", a GPU where there is one. Encoders move there, and linear,
            neural and segmentation heads are fitted there; the other probes run on the CPU.
        out: `.csv` or `.parquet`, written anew after each task, so that an end before the last task
            loses none that was finished.

    Raises:
        ValueError: if there is no task, no untrained encoder or no column `against`, a task is of
            a kind that the protocol does not know, its splits overlap, one of its files is damaged,
            or the device is not there.
    """
    chosen = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    _check(models, tasks, chosen, out, against)
    placed = resolve_device(device)
    for encoder in models.values():
        if isinstance(encoder.model, nn.Module):
            encoder.model.to(placed)
    precision = resolve_precision(precision, placed)
    rows = []
    looks = {"image_px": image_px, "seed": seed, "precision": precision}
    for task in tqdm(tasks, desc="evaluate", unit="task"):
        probed = _segmented if task.kind == "segmentation" else _probed
        own = with_task_colours(models, task)
        cells = list(probed(task, own, chosen, looks, placed))
        for row in _rows(task, own, cells, chosen, against, image_px, seed):
            multiplied = precision if row["model"] in models else "float32"
            rows.append(row | {"precision": multiplied, "instructions": instructions(placed)})
        if out is not None:
            _write(rows, Path(out))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _write(rows: list[dict], out: Path) -> None:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    with atomic_file(out) as part:
        (frame.to_parquet if out.suffix == ".parquet" else frame.to_csv)(part, index=False)


def _check(
    models: dict[str, Encoder],
    tasks: list[Task],
    protocol: Protocol,
    out: str | Path | None,
    against: str,
) -> None:
    if all(encoder.trained for encoder in models.values()):
        raise ValueError(
            "models must include an untrained encoder (Encoder(..., trained=False)), got "
            f"{', '.join(models) or 'none'}"
        )
    columns = (*models, STATISTICS, CONVOLUTION, MAJORITY)
    if against not in (*columns, AGAINST):
        raise ValueError(f"against must be one of {', '.join(columns)}, got {against!r}")
    if not tasks:
        raise ValueError("tasks must name at least one task, got none")
    if out is not None:
        if Path(out).suffix not in (".csv", ".parquet"):
            raise ValueError(f"out must end in .csv or .parquet, got {out}")
        Path(out).parent.mkdir(parents=True, exist_ok=True)  # now, not after the first task
    for task in tasks:
        if task.kind not in protocol.kinds:
            raise ValueError(
                f"tasks under protocol {protocol.name!r} must be {' or '.join(protocol.kinds)}, "
                f"got {task.name} ({task.kind}): leave it out"
            )
        check_disjoint(task)


def _probed(
    task: Task, models: dict[str, Encoder], protocol: Protocol, looks: dict, device: torch.device
) -> Iterator[Cell]:
    """Cells of a task with one class, or several, an image."""
    splits = Splits(*(embed_split(task, name, models, **looks) for name in SPLITS))
    several, truth, seed = task.kind == "multilabel", splits.test.labels, looks["seed"]
    sizes = {f"n_{name}": len(split.labels) for name, split in splits._asdict().items()}
    if several:
        shares = splits.train.labels.mean(0, dtype=np.float32)
        scores = multilabel_scores(np.tile(shares, (len(truth), 1)), truth)
    else:
        majority = np.bincount(splits.train.labels).argmax()
        scores = accuracy_score(np.full(len(truth), majority), truth)
    facts = sizes | {"gsd_m": splits.test.gsd_m[looks["image_px"]], "attention": "none"}
    yield Cell(MAJORITY, "none", scores, facts)
    names = _probes_of(task, protocol, len(splits.train.labels))
    cells = [(column, what) for column in splits.test.features for what in names]
    for column, what in tqdm(cells, desc=task.name, unit="probe", leave=False, disable=None):
        start = time.perf_counter()
        options = {"protocol": protocol, "seed": stream(seed, task.name, what), "device": device}
        zoom = models[column].zoom if column in models else 1
        facts = sizes | {"gsd_m": splits.test.gsd_m[looks["image_px"] * zoom]}
        used = set().union(*(split.attention.get(column, set()) for split in splits))
        facts |= {"attention": "+".join(sorted(used)) or "none"}
        if several:
            found = run_multilabel_probe(what, splits, column, **options)
            yield Cell(column, what, multilabel_scores(found, truth), facts)
        else:
            outcome = run_probe(what, splits, column, n_classes=task.n_classes, **options)
            scores = accuracy_score(outcome.predicted, truth)
            yield Cell(column, what, scores, facts | _agreement(outcome, truth))
        logger.info("%s %s %s: %.2f s", task.name, column, what, time.perf_counter() - start)


def _probes_of(task: Task, protocol: Protocol, n_train: int) -> list[str]:
    """The protocol's probes that a task has enough train items for."""
    names = []
    for probe in PROBES[task.kind]:
        least = least_train(probe, protocol, task.n_classes)
        if probe in protocol.probes and n_train >= least:
            names.append(probe)
        elif probe in protocol.probes:
            logger.warning(
                "%s has no %s: it needs %d train items, not %d", task.name, probe, least, n_train
            )
    return names


def _segmented(
    task: Task, models: dict[str, Encoder], protocol: Protocol, looks: dict, device: torch.device
) -> Iterator[Cell]:
    """Cells of a segmentation task; one column's tokens are on disk at a time."""
    heads: list[Head] = [head for head in HEADS if head in protocol.probes]
    optical = [name for name, encoder in models.items() if encoder.sensor in ("lores", "hires")]
    for name in optical:
        _check_tokens(models[name].model, task)
    classes, seed = task.n_classes, looks["seed"]
    columns = (STATISTICS, CONVOLUTION, *optical)
    for column in tqdm(columns, desc=task.name, unit="column", leave=False, disable=None):
        used: set[str] = set()
        with embedded_grids(task, column, models.get(column), used=used, **looks) as grids:
            facts = {f"n_{name}": len(part.grids) for name, part in grids._asdict().items()}
            facts |= {"gsd_m": grids.test.gsd_m, "attention": "+".join(sorted(used)) or "none"}
            if column == STATISTICS:
                counts = majority_counts(grids, classes)
                yield Cell(MAJORITY, "none", segmentation_score(counts), facts)
            for what in heads:
                start = time.perf_counter()
                own = {"seed": stream(seed, task.name, what), "device": device}
                counts = head_counts(what, grids, n_classes=classes, **own)
                yield Cell(column, what, segmentation_score(counts), facts)
                spent = time.perf_counter() - start
                logger.info("%s %s %s: %.2f s", task.name, column, what, spent)


def _check_tokens(model: Embedder, task: Task) -> None:
    takes = inspect.signature(model.embed).parameters.values()
    if not any(one.name == "tokens" or one.kind is one.VAR_KEYWORD for one in takes):
        raise ValueError(
            f"models must embed with tokens=True, which {type(model).__name__} does not, got "
            f"{task.name} ({task.kind}): leave one of them out"
        )


def _rows(
    task: Task,
    models: dict[str, Encoder],
    cells: list[Cell],
    protocol: Protocol,
    against: str,
    image_px: int,
    seed: int,
) -> list[dict]:
    rng = np.random.default_rng(stream(seed, task.name, "bootstrap"))
    indices = resample(int(cells[0].facts["n_test"]), protocol.resamples, rng)
    shared = {
        "task": task.name,
        "source": task.source,
        "procedural": task.procedural,
        "protocol": protocol.name,
        "against": against,
        "seed": seed,
    }
    theirs = {
        (cell.probe, score.metric): score
        for cell in cells
        for score in cell.scores
        if cell.column == against
    }
    rows = []
    for cell in cells:
        encoder = models.get(cell.column)
        own = {**shared, **_identity(cell.column, encoder), "probe": cell.probe, **cell.facts}
        own["image_px"] = image_px * (encoder.zoom if encoder else 1)
        for score in cell.scores:
            value, low, high = interval_of(score, indices, protocol.confidence)
            row = own | {"metric": score.metric, "value": value, "ci_low": low, "ci_high": high}
            other = theirs.get((cell.probe, score.metric))
            if other is not None and cell.column != against:
                apart, p_value = difference_of(score, other, indices, protocol.confidence)
                names = ("difference", "difference_low", "difference_high")
                row |= {**dict(zip(names, apart, strict=True)), "p_value": p_value}
            rows.append(row)
    return rows


def _identity(column: str, encoder: Encoder | None) -> dict:
    if encoder is None:
        return {"model": column, "kind": "baseline", "sensor": "none"}
    kind = "trained" if encoder.trained else "untrained"
    return {"model": column, "kind": kind, "sensor": encoder.sensor}


def _agreement(outcome: Outcome, labels: np.ndarray) -> dict[str, float]:
    if outcome.clusters is None:
        return {}
    return {
        "ari": float(adjusted_rand_score(labels, outcome.clusters)),
        "nmi": float(normalized_mutual_info_score(labels, outcome.clusters)),
    }
