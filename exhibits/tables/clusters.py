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
    """
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
    """The printed accuracies of both k-means probes: task, classes, probe, model, value (0..1)."""
    printed = read_rows(paper).query("probe.str.startswith('kmeans')")
    entries = printed.replace({"probe": PROBE_NAMES}).melt(["task", "probe"], MODELS, "model")
    classes = entries["task"].map(TABLE2_CLASSES)
    return entries.assign(classes=classes, value=entries["value"] / 100)


def entries_inside(simulated: pd.DataFrame, entries: pd.DataFrame) -> dict[float, int]:
    """How many entries lie within the middle 95 % of their task's simulations, by known.

    Args:
        simulated: of `paper_kmeans`.
        entries: of `kmeans_entries`.
    """
    accuracy: Table = simulated.groupby(["known", "task"])["accuracy"]
    low, high = accuracy.quantile(0.025), accuracy.quantile(0.975)
    inside = {}
    for known in simulated["known"].unique():
        first, last = (end[known][entries["task"]].to_numpy() for end in (low, high))
        inside[float(known)] = int(entries["value"].between(first, last).sum())
    return inside
