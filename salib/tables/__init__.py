"""Rows to Tables 1 and 2, the table of real tasks, and verdicts on the paper's claims."""

from salib.tables.printed import real_table, table1, table2
from salib.tables.rows import BASELINES, MODELS, PROBE_NAMES
from salib.tables.summary import gains, knn_accuracy, mean_accuracy, over_seeds
from salib.tables.verdicts import verdicts

__all__ = [
    "BASELINES",
    "MODELS",
    "PROBE_NAMES",
    "gains",
    "knn_accuracy",
    "mean_accuracy",
    "over_seeds",
    "real_table",
    "table1",
    "table2",
    "verdicts",
]
