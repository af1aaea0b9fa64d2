"""Rows of a table of results: each cell's scores with intervals, and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from salib.config import Precision
from salib.evaluate.columns import STATISTICS, Candidate, named_seed
from salib.evaluate.probes.data import Setting
from salib.evaluate.protocol import Protocol
from salib.evaluate.scores.metrics import Score
from salib.evaluate.scores.statistics import difference_of, interval_of
from salib.evaluate.tasks.task import Task

COLUMNS = (
    *("task", "source", "procedural", "model", "kind", "sensor", "probe", "protocol", "metric"),
    *("value", "ci_low", "ci_high", "against", "difference", "difference_low", "difference_high"),
    *("p_value", "ari", "nmi", "n_train", "n_valid", "n_test", "gsd_m", "image_px", "precision"),
    *("attention", "instructions", "seed"),
)


def check_rows(
    path: Path, tasks: Sequence[Task], models: Sequence[str], protocol: Protocol, seed: int
) -> None:
    """Refuse to replace a table of rows that the same command would not write again.

    Raises:
        ValueError: if there are rows of others.
    """
    if not path.exists():
        return
    held = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    wanted = {"task": [task.name for task in tasks], "model": models}
    wanted |= {"protocol": [protocol.name], "seed": [seed]}
    if others := [name for name, of in wanted.items() if not {*held[name]} <= {*of}]:
        raise ValueError(
            f"out must not exist or hold rows of the same evaluation, got {path}, which differs in "
            f"{', '.join(others)}: choose another name, or replace it with --overwrite"
        )


class Cell(NamedTuple):
    """One column under one probe: its scores, and what else its rows hold."""

    column: str
    probe: str
    scores: tuple[Score, ...]
    facts: Mapping[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the columns of one task are probed and scored.

    Args:
        device: where torch computes.
        instructions: what the device multiplies with.
    """

    candidates: dict[str, Candidate]
    protocol: Protocol
    image_px: int
    seed: int
    precision: Precision
    device: str
    instructions: str
    against: str

    def setting(self, task: Task, probe: str) -> Setting:
        """How a probe is run: its seed depends on the task and the probe alone."""
        return Setting(self.protocol, named_seed(self.seed, task.name, probe), self.device)


def rows_of(task: Task, cells: list[Cell], run: Run) -> list[dict]:
    """Rows of one task; every difference is taken on the same bootstrap samples."""
    rng = np.random.default_rng(named_seed(run.seed, task.name, "bootstrap"))
    n_test = int(cells[0].facts["n_test"])
    indices = rng.integers(n_test, size=(run.protocol.resamples, n_test))
    own = [cell for cell in cells if cell.column == run.against]
    others = {(cell.probe, score.metric): score for cell in own for score in cell.scores}
    rows = []
    for cell in cells:
        one = run.candidates.get(cell.column, run.candidates[STATISTICS])  # as the majority class
        baseline = one.kind == "baseline"
        about = {
            "task": task.name,
            "source": task.source,
            "procedural": task.procedural,
            "model": cell.column,
            "kind": one.kind,
            "sensor": "none" if baseline else one.sensor,
            "probe": cell.probe,
            "protocol": run.protocol.name,
            "against": run.against,
            "image_px": run.image_px * min(one.views.values()),
            "precision": "float32" if baseline else run.precision,
            "instructions": run.instructions,
            "seed": run.seed,
            **cell.facts,
        }
        for score in cell.scores:
            value, low, high = interval_of(score, indices)
            row = about | {"metric": score.metric, "value": value, "ci_low": low, "ci_high": high}
            other = others.get((cell.probe, score.metric))
            if other is not None and cell.column != run.against:
                interval, p_value = difference_of(score, other, indices)
                names = ("difference", "difference_low", "difference_high")
                row |= dict(zip(names, interval, strict=True)) | {"p_value": p_value}
            rows.append(row)
    return rows
