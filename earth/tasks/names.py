"""The twelve tasks of GEO-Bench v1 that the procedural Earth writes, by name."""

from earth.tasks.chip_tasks import CHIP_TASKS
from earth.tasks.cover_tasks import COVER_TASKS

TASKS = {task.name: task for task in (*CHIP_TASKS, *COVER_TASKS)}
