"""Evaluation: tasks, inputs, features, probes, intervals, rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "columns": ["Candidate"],
        "comparison": ["encoders_of", "find_tasks"],
        "protocol": ["PROTOCOLS", "Protocol", "protocol_named"],
        "run": ["evaluate"],
        "tasks.inputs": ["GEOBENCH_TASKS"],
        "tasks.task": [
            "Task",
            "folder_task",
            "geobench_task",
            "geobench_tasks",
            "real_tasks",
        ],
    },
)
