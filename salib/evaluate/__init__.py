"""Evaluation: tasks, inputs, features, probes, intervals, rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "columns": ["Candidate"],
        "comparison": ["compare", "encoders_of", "find_tasks"],
        "protocol": ["PROTOCOLS", "Protocol", "protocol_named"],
        "run": ["evaluate"],
        "scores.multiple": ["comparisons"],
        "tasks.inputs": ["GEOBENCH_TASKS", "input_rules"],
        "tasks.task": [
            "Task",
            "folder_task",
            "geobench_task",
            "geobench_tasks",
            "missing_real",
            "real_tasks",
        ],
    },
)
