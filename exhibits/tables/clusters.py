"""The paper's k-means rows against what raw cluster ids score by chance (D15)."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float64

from exhibits.tables.rows import MODELS, PROBE_NAMES, Rows, Table, read_rows

COUNTS = {
    "m-bigearthnet": (20_000, 1_000, 1_000),
    "m-brick-kiln": (15_063, 999, 999),
    "m-eurosat": (2_000, 1_000, 1_000),
    "m-forestnet": (6_464, 989, 993),
    "m-pv4ger": (11_814, 999, 999),
    "m-so2sat": (19_992, 986, 986),
}
"""Samples in train, valid and test of GEO-Bench's classification tasks, as in
`results/all_results.csv` of torchgeo-bench."""
TABLE2_CLASSES = {"m-pv4ger": 2, "m-forestnet": 12, "m-eurosat": 10, "m-brick-kiln": 2}
KMEANS = ("kmeans", "kmeans_umap")
MIDDLE = 0.95


def raw_id_accuracy(
    n_classes: int, n: int, *, matched: float, draws: int, seed: int
) -> Float64[np.ndarray, " draws"]:
    """Accuracy of raw cluster ids on n test items of balanced classes, over runs of k-means.

    Each cluster holds a share `matched` of one class and the rest spread evenly; which number a
    cluster bears is chance. So the expected accuracy is 1/K whatever `matched` is; only the
    spread tells good clusters from bad: with s = (matched - (1 - matched) / (K - 1)) / K its
    variance is s^2 over the numbering, plus that of drawing n items.

    Args:
        matched: accuracy of the best one-to-one match, from 1/K (clusters know nothing of the
            classes) to 1 (clusters are the classes).
    """
    rng = np.random.default_rng(seed)
    other = (1 - matched) / (n_classes - 1)
    numbering = rng.permuted(np.tile(np.arange(n_classes), (draws, 1)), axis=1)
    fixed = (numbering == np.arange(n_classes)).sum(1)
    expected = (fixed * matched + (n_classes - fixed) * other) / n_classes
    return rng.binomial(n, np.clip(expected, 0, 1)) / n


def paper_kmeans(known: Sequence[float], *, draws: int, seed: int) -> pd.DataFrame:
    """Accuracy of raw cluster ids on the paper's four tasks at their published test sizes.

    Args:
        known: what clusters know of the classes: 0 is nothing (`matched` = 1/K), 1 is all.

    Returns:
        task, known, classes, accuracy: `draws` rows for each task and value of known.

    Raises:
        ValueError: if known is empty or a value of it lies outside 0..1.
    """
    if not known or not all(0 <= share <= 1 for share in known):
        raise ValueError(f"known must hold values in 0..1, got {tuple(known)}")
    parts = []
    for (task, classes), share in product(TABLE2_CLASSES.items(), known):
        drawn_from = np.random.SeedSequence([seed, len(parts)]).generate_state(1)[0]
        matched = min(1.0, 1 / classes + share * (1 - 1 / classes))
        options = {"matched": matched, "draws": draws, "seed": int(drawn_from)}
        accuracy = raw_id_accuracy(classes, COUNTS[task][2], **options)
        facts = {"task": task, "known": float(share), "classes": classes}
        parts.append(pd.DataFrame({**facts, "accuracy": accuracy}))
    return pd.concat(parts, ignore_index=True)


def kmeans_entries(paper: Rows) -> pd.DataFrame:
    """The printed accuracies of both k-means probes: task, probe, model, value (a fraction).

    Raises:
        ValueError: if there are none.
    """
    printed = read_rows(paper).query("probe in @KMEANS").set_index(["task", "probe"])[[*MODELS]]
    if printed.empty:
        raise ValueError(f"paper must have rows of {' and '.join(KMEANS)}, got none")
    values = printed.div(100).stack().rename_axis(["task", "probe", "model"])
    return values.rename("value").reset_index().replace({"probe": PROBE_NAMES})


def chance(simulated: pd.DataFrame, entries: pd.DataFrame) -> pd.DataFrame:
    """Where the middle 95 % of simulated accuracies lie, in percent, and the entries inside.

    Args:
        simulated: of `paper_kmeans`.
        entries: of `kmeans_entries`.

    Returns:
        A line for each value of known, a column for each task, and "entries inside".
    """
    spans = 100 * _spans(simulated)
    lines = {}
    for known, count in entries_inside(simulated, entries).items():
        cells = {
            f"{task}, {classes} classes": "{:.1f} to {:.1f}".format(*spans.loc[known, task])
            for task, classes in TABLE2_CLASSES.items()
        }
        lines[f"{known:.0%}"] = cells | {"entries inside": f"{count} of {len(entries)}"}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("clusters know")


def entries_inside(simulated: pd.DataFrame, entries: pd.DataFrame) -> dict[float, int]:
    """How many entries lie within the middle 95 % of their task's simulations, by known."""
    spans, counts = _spans(simulated), {}
    for known in simulated["known"].unique():
        ends = spans.loc[known].loc[entries["task"]].reset_index(drop=True)
        counts[float(known)] = int(entries["value"].between(ends["low"], ends["high"]).sum())
    return counts


def entries_below(entries: Table) -> int:
    """How many entries lie below one over the number of classes, as no best match can."""
    return int((entries["value"] < 1 / entries["task"].map(TABLE2_CLASSES)).sum())


def best_of_two_classes(entries: Table) -> float:
    """Highest accuracy of any entry of a two-class task under the better numbering.

    Two clusters have two numberings, and the accuracies under them add up to one.
    """
    two = entries.loc[entries["task"].map(TABLE2_CLASSES) == 2, "value"]
    return float(np.maximum(two, 1 - two).max())


def _spans(simulated: pd.DataFrame) -> pd.DataFrame:
    ends = {"low": (1 - MIDDLE) / 2, "high": (1 + MIDDLE) / 2}
    by_task = simulated.groupby(["known", "task"])["accuracy"]
    return pd.DataFrame({name: by_task.quantile(share) for name, share in ends.items()})
