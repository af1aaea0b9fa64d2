"""Choices that the paper's text leaves open, and what each protocol does."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from salib.evaluate.protocol import PROTOCOLS
from salib.evaluate.tasks.inputs import RADAR_RULES, RULES, TWELVE_BAND_RULES

KNOWN = {
    "text": "the text says so",
    "inferred": "inferred from Table 2",
    "assumed": "assumed",
}
"""Why we hold that the paper did so; "inferred" is from the digits of Table 2."""
TOKENS = "mean of the encoder's last tokens"
CHOICES = (
    ("neighbours", "text", "knn_k"),
    ("distance between neighbours", "assumed", "knn_metric"),
    ("weights of votes", "assumed", ("uniform; exponential beside", "uniform")),
    ("features z-scored", "assumed", "standardise"),
    ("cluster ids to classes", "inferred", "match"),
    ("restarts of k-means", "assumed", "kmeans_restarts"),
    ("clusters", "assumed", ("one per class", "one per class")),
    ("k-means and UMAP fitted on", "assumed", ("train", "train")),
    ("UMAP dimensions", "assumed", "umap_dim"),
    ("UMAP neighbours", "assumed", "umap_neighbours"),
    ("kinds of task", "text", "kinds"),
    ("probes", "text", "probes"),
    ("hidden units", "text", "hidden"),
    ("activation", "assumed", "activation"),
    ("dropout", "assumed", ("none", "none")),
    ("learning rate (AdamW; Adam without decay)", "assumed", "learning_rates"),
    ("weight decay", "assumed", "weight_decay"),
    ("epochs at most", "assumed", "epochs"),
    ("items per batch", "assumed", "batch"),
    ("weights kept", "assumed", "keep"),
    ("split scored", "inferred", ("test", "test")),
    ("features", "assumed", (TOKENS, TOKENS)),
    ("seeds", "assumed", ("one per row", "one per row")),
    ("percentages cut, not rounded", "inferred", "truncate"),
)
"""Each choice, how it is known, and the field of `Protocol` that holds it; or, where it is fixed
outside of the probes, what the default and the paper's protocol do."""


def choices() -> pd.DataFrame:
    """Each choice under the default protocol and the paper's; what is known best comes first.

    Returns:
        Indexed by choice: "default", "paper", "of the paper", "differ" ("yes" or "").
    """
    lines = [(choice, *_shown(does), KNOWN[known]) for choice, known, does in CHOICES]
    names = ["choice", "default", "paper", "of the paper"]
    table = pd.DataFrame(lines, columns=pd.Index(names)).set_index("choice")
    table["differ"] = np.where(table["default"] != table["paper"], "yes", "")
    order = [*KNOWN.values()]
    return table.sort_values(
        "of the paper", key=lambda known: known.map(order.index), kind="stable"
    )


def _shown(does: str | tuple[str, str]) -> tuple[str, ...]:
    """What the default and the paper's protocol do, as text."""
    if isinstance(does, tuple):
        return does
    values = [getattr(PROTOCOLS[name], does) for name in ("default", "paper")]
    return tuple(", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)


def input_rules() -> pd.DataFrame:
    """From raw values to inputs: a row per task and modality."""
    named = RULES | {f"{task}, radar": rule for task, rule in RADAR_RULES.items()}
    named |= {f"{task}, 12 bands": rule for task, rule in TWELVE_BAND_RULES.items()}
    table = pd.DataFrame([{"task": name, **asdict(rule)} for name, rule in named.items()])
    bands = table["bands"].map(", ".join)
    return table.assign(bands=bands).drop(columns="modality").set_index("task")
