"""The GEO-Bench tasks that Table 2 leaves out, each by its own metric."""

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from salib.tables.printed import percent_cell, styled
from salib.tables.rows import PROBE_NAMES, TABLE2_TASKS, Rows, one_a_cell, read_rows

WITHOUT = "(majority class)"


def other_tasks(rows: Rows) -> Styler:
    """Score and 95 % interval by task, metric and probe, a column a model; the best is bold.

    Accuracy, micro F1 and micro mAP, or mIoU, all in percent. The last line of a task is what needs
    no image: its most common class.

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
    models = [m for m in dict.fromkeys(row["model"] for row in own) if m != "majority class"]
    cells, bold, index = [], [], []
    probes = {**PROBE_NAMES, "none": WITHOUT}
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in own):
        for probe, name in probes.items():
            found = one_a_cell(
                [
                    row
                    for row in own
                    if (row["task"], row["metric"], row["probe"]) == (task, metric, probe)
                ]
            )
            if not found:
                continue
            best = max(row["value"] for row in found.values())
            needs_none = probe == "none"
            shown = [found.get("majority class" if needs_none else model) for model in models]
            cells.append(
                [
                    percent_cell(row) if not needs_none or at == 0 else ""
                    for at, row in enumerate(shown)
                ]
            )
            bold.append(
                [row is not None and not needs_none and row["value"] == best for row in shown]
            )
            index.append((task, metric, name))
    frame = pd.DataFrame(
        cells,
        columns=models,
        index=pd.MultiIndex.from_tuples(index, names=["task", "metric", "probe"]),
    )
    origin = "procedural" if any(row["procedural"] for row in own) else "real"
    return styled(frame, np.array(bold), "other_tasks", f"Percent, {origin} images.")
