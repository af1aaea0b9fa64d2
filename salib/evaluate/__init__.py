"""Evaluation: tasks, inputs, features, probes, intervals, rows."""

from salib.evaluate.columns import Encoder
from salib.evaluate.comparison import compare, encoders_of, find_tasks
from salib.evaluate.inputs import GEOBENCH_TASKS, input_rules
from salib.evaluate.multiple import comparisons
from salib.evaluate.normalised import geobench_score
from salib.evaluate.pictures import chips_by_class, missing_samples, sample_pictures
from salib.evaluate.protocol import PROTOCOLS, Protocol, protocol_named
from salib.evaluate.run import evaluate
from salib.evaluate.tasks import (
    Task,
    folder_task,
    geobench_task,
    geobench_tasks,
    missing_real,
    read_split,
    real_tasks,
)

__all__ = [
    "GEOBENCH_TASKS",
    "PROTOCOLS",
    "Encoder",
    "Protocol",
    "Task",
    "chips_by_class",
    "compare",
    "comparisons",
    "encoders_of",
    "evaluate",
    "find_tasks",
    "folder_task",
    "geobench_score",
    "geobench_task",
    "geobench_tasks",
    "input_rules",
    "missing_real",
    "missing_samples",
    "protocol_named",
    "read_split",
    "real_tasks",
    "sample_pictures",
]
