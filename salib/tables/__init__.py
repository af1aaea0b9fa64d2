"""Rows to Tables 1 and 2, tables of real tasks and of speed, anchors, verdicts on the claims."""

from salib.tables.anchors import anchors, below, not_run, published_points
from salib.tables.chance import (
    best_of_two_classes,
    chance,
    entries_below,
    entries_inside,
    kmeans_entries,
)
from salib.tables.choices import choices
from salib.tables.printed import real_table, table1, table2, text_results, text_table2
from salib.tables.rows import BASELINES, MODELS, PROBE_NAMES
from salib.tables.speed import (
    memory_growth,
    per_sample,
    rates,
    speed,
    speed_ratios,
    stage_seconds,
)
from salib.tables.summary import gains, knn_accuracy, mean_accuracy, over_seeds
from salib.tables.tasks import other_tasks
from salib.tables.verdicts import verdicts

__all__ = [
    "BASELINES",
    "MODELS",
    "PROBE_NAMES",
    "anchors",
    "below",
    "best_of_two_classes",
    "chance",
    "choices",
    "entries_below",
    "entries_inside",
    "gains",
    "kmeans_entries",
    "knn_accuracy",
    "mean_accuracy",
    "memory_growth",
    "not_run",
    "other_tasks",
    "over_seeds",
    "per_sample",
    "published_points",
    "rates",
    "real_table",
    "speed",
    "speed_ratios",
    "stage_seconds",
    "table1",
    "table2",
    "text_results",
    "text_table2",
    "verdicts",
]
