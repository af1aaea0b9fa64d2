"""Rows to Tables 1 and 2, tables of real tasks and of speed, and verdicts on the paper's claims."""

from salib.tables.printed import real_table, table1, table2, text_table2
from salib.tables.rows import BASELINES, MODELS, PROBE_NAMES
from salib.tables.speed import memory_growth, speed, speed_ratios
from salib.tables.summary import gains, knn_accuracy, mean_accuracy, over_seeds
from salib.tables.tasks import other_tasks
from salib.tables.verdicts import verdicts

__all__ = [
    "BASELINES",
    "MODELS",
    "PROBE_NAMES",
    "gains",
    "knn_accuracy",
    "mean_accuracy",
    "memory_growth",
    "other_tasks",
    "over_seeds",
    "real_table",
    "speed",
    "speed_ratios",
    "table1",
    "table2",
    "text_table2",
    "verdicts",
]
