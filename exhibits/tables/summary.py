"""Short summaries of the rows, for the prose of pages."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.multitest import multipletests

from exhibits.provenance import run_facts
from exhibits.tables.rows import SEVERAL, TABLE2_TASKS, Rows, read_rows
from salib.evaluate.scores.statistics import TWO_SIDED, Interval

SUMMARY = {
    "scale_alibi": "SA-low",
    "croma": "CROMA",
    "untrained": "SA-low untrained",
    "random_conv": "random convolution",
    "statistics": "image statistics",
}
INTERVAL = "{:.1f} [{:.1f}, {:.1f}]"


def knn_accuracy(rows: Rows, task: str) -> dict[str, dict[str, Any]]:
    """Nearest-neighbour accuracy on one task, as `Ledger.number` takes it.

    Returns:
        By the keys of SUMMARY: value, ci (95 % interval), n (test items) and ran_on; empty if not
        run.
    """
    table = read_rows(rows).query("task == @task and probe == 'knn'").set_index("model")
    if not table.index.is_unique:
        raise ValueError(SEVERAL)
    models = table.to_dict("index")
    found: dict[str, dict[str, Any]] = {short: {} for short in SUMMARY}
    for short, name in SUMMARY.items():
        if row := models.get(name):
            about = {"n": int(row["n_test"]), "ran_on": run_facts(row)}
            found[short] = {"value": row["value"], "ci": (row["ci_low"], row["ci_high"]), **about}
    return found


def mean_accuracy(rows: Rows, *, procedural: bool) -> dict[str, dict[str, Any]]:
    """Nearest-neighbour accuracy averaged over Table 2's tasks, as `Ledger.number` takes it.

    Returns:
        By the keys of SUMMARY, if all tasks were run: value, and what the tasks ran on.

    Raises:
        ValueError: if there are no such rows.
    """
    table = read_rows(rows).query("source == 'geobench' and procedural == @procedural")
    names = sorted(set(table["task"]) & set(TABLE2_TASKS))
    if not names:
        raise ValueError(f"rows must hold tasks of Table 2 with procedural={procedural}, got none")
    each = [knn_accuracy(table, name) for name in names]
    means = {}
    for short in SUMMARY:
        if all(task[short] for task in each):
            facts = pd.DataFrame([task[short]["ran_on"] for task in each])
            ran_on = {str(name): ", ".join(sorted(set(facts[name].dropna()))) for name in facts}
            value = np.mean([task[short]["value"] for task in each])
            means[short] = {"value": float(value), "ran_on": ran_on}
    return means


def comparisons(rows: pd.DataFrame) -> dict[str, int]:
    """How many differences in rows remain when all of them are tested at once.

    With Holm's step-down correction the chance of any false one is below 0.05.

    Returns:
        How many differences are "compared", of how many the p-value is below 0.05 ("apart"), and
        of how many once it is corrected ("apart_adjusted").
    """
    given = rows["p_value"].dropna().to_numpy()
    adjusted: Any = multipletests(given, method="holm")[1] if len(given) else given
    apart = {"apart": (given < 0.05).sum(), "apart_adjusted": (adjusted < 0.05).sum()}
    return {"compared": len(given), **{name: int(count) for name, count in apart.items()}}


def seed_interval(values: Float[np.ndarray, " seeds"]) -> Interval:
    """Mean over seeds with Student's t interval; a single seed has no interval (NaN)."""
    mean = float(values.mean(dtype=np.float64))
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan)
    half = stats.t.ppf(TWO_SIDED, len(values) - 1) * stats.sem(values)
    return Interval(mean, float(mean - half), float(mean + half))


def over_seeds(rows: Rows) -> pd.DataFrame:
    """Accuracy in percent by column and task: mean over seeds, Student's 95 % interval over them.

    Args:
        rows: of `benchmarks/learning.py`: seed, task, column, accuracy.
    """
    seeds = read_rows(rows).groupby(["column", "task"], sort=False)["accuracy"]
    cells = {at: INTERVAL.format(*seed_interval(100 * own.to_numpy())) for at, own in seeds}
    return pd.Series(cells).unstack(sort=False)


def gains(rows: Rows) -> pd.DataFrame:
    """Points of accuracy that each column has over another, with the 95 % interval.

    Args:
        rows: of `benchmarks/learning.py`: column, less, points, ci_low, ci_high.
    """
    table = read_rows(rows).set_index("column").rename(columns={"less": "over"})
    numbers = table[["points", "ci_low", "ci_high"]].to_numpy()
    table["points"] = [INTERVAL.replace(":", ":+").format(*line) for line in numbers]
    return table[["over", "points"]]
