"""What accuracy raw cluster ids have by chance: the k-means rows of the paper's Table 2 (D15)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64

from salib.evaluate.fetch.published_tasks import COUNTS

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

    Raises:
        ValueError: if there are fewer than two classes, no item or draw, or matched lies outside
            1/K..1.
    """
    if n_classes < 2 or n < 1 or draws < 1:
        raise ValueError(
            f"n_classes must be at least 2, n and draws 1, got {n_classes}, {n}, {draws}"
        )
    if not 1 / n_classes <= matched <= 1:
        raise ValueError(f"matched must lie in {1 / n_classes:.3g}..1, got {matched}")
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
    for task, classes in TABLE2_CLASSES.items():
        for share in known:
            drawn_from = np.random.SeedSequence([seed, len(parts)]).generate_state(1)[0]
            matched = min(1.0, 1 / classes + share * (1 - 1 / classes))
            options = {"matched": matched, "draws": draws, "seed": int(drawn_from)}
            accuracy = raw_id_accuracy(classes, COUNTS[task][2], **options)
            facts = {"task": task, "known": float(share), "classes": classes}
            parts.append(pd.DataFrame({**facts, "accuracy": accuracy}))
    return pd.concat(parts, ignore_index=True)
