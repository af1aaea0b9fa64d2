"""Evaluation: tasks, inputs, features, probes, intervals, rows."""

from salib.evaluate.columns import Encoder, paper_encoders
from salib.evaluate.comparison import compare
from salib.evaluate.inputs import input_rules
from salib.evaluate.protocol import PROTOCOLS, Protocol
from salib.evaluate.run import evaluate
from salib.evaluate.tasks import (
    Task,
    chips_by_class,
    folder_task,
    geobench_task,
    geobench_tasks,
    missing_real,
    missing_samples,
    read_split,
    real_tasks,
    sample_pictures,
)

__all__ = [
    "PROTOCOLS",
    "Encoder",
    "Protocol",
    "Task",
    "chips_by_class",
    "compare",
    "evaluate",
    "folder_task",
    "geobench_task",
    "geobench_tasks",
    "input_rules",
    "missing_real",
    "missing_samples",
    "paper_encoders",
    "read_split",
    "real_tasks",
    "sample_pictures",
]
