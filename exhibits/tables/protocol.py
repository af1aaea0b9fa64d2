"""Choices that the paper's text leaves open, and what each protocol does."""

from dataclasses import asdict

import pandas as pd

from salib.evaluate.protocol import PROTOCOLS
from salib.evaluate.tasks.inputs import RADAR_RULES, RULES, TWELVE_BAND_RULES

KNOWN = {
    "text": "the text says so",
    "inferred": "inferred from Table 2",
    "assumed": "assumed",
}
"""Why we hold that the paper did so; "inferred" is from the digits of Table 2."""
CHOICES = (
    ("neighbours", "text", "knn_k"),
    ("kinds of task", "text", "kinds"),
    ("probes", "text", "probes"),
    ("hidden units", "text", "hidden"),
    ("cluster ids to classes", "inferred", "match"),
    ("split scored", "inferred", ("test", "test")),
    ("percentages cut, not rounded", "inferred", "truncate"),
    ("distance between neighbours", "assumed", "knn_metric"),
    ("weights of votes", "assumed", ("uniform; exponential beside", "uniform")),
    ("features z-scored", "assumed", "standardise"),
    ("restarts of k-means", "assumed", "kmeans_restarts"),
    ("clusters", "assumed", ("one per class", "one per class")),
    ("k-means and UMAP fitted on", "assumed", ("train", "train")),
    ("UMAP dimensions", "assumed", "umap_dim"),
    ("UMAP neighbours", "assumed", "umap_neighbours"),
    ("activation", "assumed", "activation"),
    ("dropout", "assumed", ("none", "none")),
    ("learning rate (AdamW; Adam without decay)", "assumed", "learning_rates"),
    ("weight decay", "assumed", "weight_decay"),
    ("epochs at most", "assumed", "epochs"),
    ("items per batch", "assumed", "batch"),
    ("weights kept", "assumed", "keep"),
    ("features", "assumed", ("mean of the encoder's last tokens",) * 2),
    ("seeds", "assumed", ("one per row", "one per row")),
)
"""Each choice, how it is known (best first), and the field of `Protocol` that holds it; or, where
it is fixed outside of the probes, what the default and the paper's protocol do."""


def choices() -> pd.DataFrame:
    """Each choice under the default protocol and the paper's; what is known best comes first.

    Returns:
        Indexed by choice: "default", "paper", "of the paper", "differ" ("yes" or "").
    """
    lines = {}
    for choice, known, does in CHOICES:
        both = does if isinstance(does, tuple) else [_shown(does, name) for name in PROTOCOLS]
        lines[choice] = [*both, KNOWN[known], "yes" if both[0] != both[1] else ""]
    columns = ["default", "paper", "of the paper", "differ"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("choice")


def _shown(field: str, protocol: str) -> str:
    value = getattr(PROTOCOLS[protocol], field)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def input_rules() -> pd.DataFrame:
    """From raw values to inputs: a row per task and modality."""
    named = RULES | {f"{task}, radar": rule for task, rule in RADAR_RULES.items()}
    named |= {f"{task}, 12 bands": rule for task, rule in TWELVE_BAND_RULES.items()}
    table = pd.DataFrame([{"task": name, **asdict(rule)} for name, rule in named.items()])
    bands = table["bands"].map(", ".join)
    return table.assign(bands=bands).drop(columns="modality").set_index("task")
