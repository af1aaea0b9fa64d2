"""Short summaries of the rows: what prose says."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from exhibits.tables.rows import TABLE2_TASKS, Rows, one_a_cell, read_rows
from salib.evaluate.scores.statistics import seed_interval

RAN_ON = ("instructions", "precision", "attention")
"""Columns of rows that tell where and how a model ran."""
SUMMARY = {
    "scale_alibi": "SA-low",
    "croma": "CROMA",
    "untrained": "SA-low untrained",
    "random_conv": "random convolution",
    "statistics": "image statistics",
}


def knn_accuracy(rows: Rows, task: str) -> dict[str, dict[str, Any]]:
    """Nearest-neighbour accuracy on one task by short name of the column.

    Returns:
        By the keys of SUMMARY: value, ci (95 % interval), n (test items), and what it ran on; empty
        if not run.
    """
    chosen = [row for row in read_rows(rows) if row["task"] == task and row["probe"] == "knn"]
    found = one_a_cell(chosen)
    return {
        short: {
            "value": found[name]["value"],
            "ci": (found[name]["ci_low"], found[name]["ci_high"]),
            "n": int(found[name]["n_test"]),
            "ran_on": {fact: found[name].get(fact) for fact in RAN_ON},
        }
        if name in found
        else {}
        for short, name in SUMMARY.items()
    }


def mean_accuracy(rows: Rows, *, procedural: bool) -> dict[str, dict[str, Any]]:
    """Nearest-neighbour accuracy averaged over Table 2's tasks, by short name of the column.

    Returns:
        By the keys of SUMMARY, if all tasks were run: value, and what the tasks ran on.

    Raises:
        ValueError: if there are no such rows.
    """
    table = pd.DataFrame(read_rows(rows))
    chosen = table.query("source == 'geobench' and procedural == @procedural")
    names = sorted(set(chosen["task"]) & set(TABLE2_TASKS))
    if not names:
        raise ValueError(f"rows must hold tasks of Table 2 with procedural={procedural}, got none")
    each = [knn_accuracy(chosen, name) for name in names]
    return {
        short: {
            "value": float(np.mean([task[short]["value"] for task in each])),
            "ran_on": {
                fact: _distinct(task[short]["ran_on"][fact] for task in each) for fact in RAN_ON
            },
        }
        for short in SUMMARY
        if all(task[short] for task in each)
    }


def _distinct(facts: Iterable[Any]) -> str:
    return ", ".join(sorted({fact for fact in facts if isinstance(fact, str)}))


def over_seeds(rows: Rows) -> pd.DataFrame:
    """Accuracy in percent by column and task: mean over seeds, Student's 95 % interval over them.

    Args:
        rows: of `benchmarks/learning.py`: seed, task, column, accuracy.
    """
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(rows):
        cells[row["column"]][row["task"]].append(100 * row["accuracy"])
    return pd.DataFrame(
        {
            column: {
                task: "{:.1f} [{:.1f}, {:.1f}]".format(*seed_interval(np.array(values)))
                for task, values in tasks.items()
            }
            for column, tasks in cells.items()
        }
    ).T


def gains(rows: Rows) -> pd.DataFrame:
    """Points of accuracy that each column has over another, with the 95 % interval.

    Args:
        rows: of `benchmarks/learning.py`: column, less, points, ci_low, ci_high.
    """
    lines = [
        {
            "column": row["column"],
            "over": row["less"],
            "points": f"{row['points']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]",
        }
        for row in read_rows(rows)
    ]
    return pd.DataFrame(lines).set_index("column")
