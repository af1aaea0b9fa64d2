"""The GEO-Bench tasks that Table 2 leaves out, each by its own metric."""

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from exhibits.tables.printed import percent_cell, styled
from exhibits.tables.rows import PROBE_NAMES, TABLE2_TASKS, Rows, one_a_cell, read_rows


def other_tasks(rows: Rows) -> Styler:
    """Score and 95 % interval by task, metric and probe, a column a model; the best is bold.

    Accuracy, micro F1 and micro mAP, or mIoU, all in percent. The last line of a task is of its
    most common class alone, which needs no probe.

    Raises:
        ValueError: if there is no such task, or a cell has several rows.
    """
    own = [
        row
        for row in read_rows(rows)
        if row["source"] == "geobench" and row["task"] not in TABLE2_TASKS
    ]
    if not own:
        raise ValueError("rows must hold GEO-Bench tasks that are not in Table 2, got none")
    models = list(dict.fromkeys(row["model"] for row in own))
    cells, bold, index = [], [], []
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in own):
        for probe, name in (PROBE_NAMES | {"none": "none"}).items():
            at = (task, metric, probe)
            found = one_a_cell(
                [row for row in own if (row["task"], row["metric"], row["probe"]) == at]
            )
            if found:
                best = max(row["value"] for row in found.values())
                shown = [found.get(model) for model in models]
                cells.append([percent_cell(row) for row in shown])
                bold.append([row is not None and row["value"] == best for row in shown])
                index.append((task, metric, name))
    frame = pd.DataFrame(
        cells,
        columns=models,
        index=pd.MultiIndex.from_tuples(index, names=["task", "metric", "probe"]),
    )
    origin = "procedural" if any(row["procedural"] for row in own) else "real"
    return styled(frame, np.array(bold), "other_tasks", f"Percent, {origin} images.")
