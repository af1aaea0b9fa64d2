"""Rows of a table of results: each cell's scores with intervals, and differences."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from salib.config import Precision
from salib.evaluate.columns import STATISTICS, Candidate, named_seed
from salib.evaluate.probes.data import Setting
from salib.evaluate.protocol import Protocol
from salib.evaluate.scores.metrics import Score
from salib.evaluate.scores.statistics import difference_of, interval_of, resample
from salib.evaluate.tasks.task import Task

COLUMNS = (
    *("task", "source", "procedural", "model", "kind", "sensor", "probe", "protocol", "metric"),
    *("value", "ci_low", "ci_high", "against", "difference", "difference_low", "difference_high"),
    *("p_value", "ari", "nmi", "n_train", "n_valid", "n_test", "gsd_m", "image_px", "precision"),
    *("attention", "instructions", "seed"),
)


class Cell(NamedTuple):
    """One column under one probe: its scores, and what else its rows hold."""

    column: str
    probe: str
    scores: tuple[Score, ...]
    facts: Mapping[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What stays the same over the tasks of one call of `evaluate`."""

    candidates: dict[str, Candidate]
    protocol: Protocol
    image_px: int
    seed: int
    precision: Precision
    device: str
    against: str

    def setting(self, task: Task, probe: str) -> Setting:
        """How a probe is run: its seed is the task's and its own, whatever stands beside."""
        return Setting(self.protocol, named_seed(self.seed, task.name, probe), self.device)


def rows_of(task: Task, cells: list[Cell], run: Run, multiplied: str) -> list[dict]:
    """Rows of one task; every difference is taken on the same bootstrap samples."""
    rng = np.random.default_rng(named_seed(run.seed, task.name, "bootstrap"))
    indices = resample(int(cells[0].facts["n_test"]), run.protocol.resamples, rng)
    shared = {
        "task": task.name,
        "source": task.source,
        "procedural": task.procedural,
        "protocol": run.protocol.name,
        "against": run.against,
        "instructions": multiplied,
        "seed": run.seed,
    }
    others = {
        (cell.probe, score.metric): score
        for cell in cells
        for score in cell.scores
        if cell.column == run.against
    }
    confidence, rows = run.protocol.confidence, []
    for cell in cells:
        about = shared | _identity(cell.column, run) | {"probe": cell.probe, **cell.facts}
        for score in cell.scores:
            value, low, high = interval_of(score, indices, confidence)
            row = about | {"metric": score.metric, "value": value, "ci_low": low, "ci_high": high}
            other = others.get((cell.probe, score.metric))
            if other is not None and cell.column != run.against:
                interval, p_value = difference_of(score, other, indices, confidence)
                names = ("difference", "difference_low", "difference_high")
                row |= dict(zip(names, interval, strict=True)) | {"p_value": p_value}
            rows.append(row)
    return rows


def _identity(column: str, run: Run) -> dict[str, Any]:
    candidate = run.candidates.get(column, run.candidates[STATISTICS])  # as the majority class
    baseline = candidate.kind == "baseline"
    return {
        "model": column,
        "kind": candidate.kind,
        "sensor": "none" if baseline else candidate.sensor,
        "precision": "float32" if baseline else run.precision,
        "image_px": run.image_px * candidate.upsample,
    }
