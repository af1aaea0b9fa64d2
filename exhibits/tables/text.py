"""What `salib evaluate` prints: results and Table 2 as plain text."""

from pathlib import Path

import pandas as pd

from exhibits.tables.claims import verdicts
from exhibits.tables.printed import cells_of_table2, with_cells
from exhibits.tables.rows import PROBE_NAMES, Rows, read_rows, spread


def text_evaluation(rows: pd.DataFrame, paper: Path) -> str:
    """All results, and Table 2 with its claims for tasks of it.

    Args:
        paper: folder of table2.csv and claims.yml.
    """
    text = text_results(rows)
    printed, claims = paper / "table2.csv", paper / "claims.yml"
    if not printed.is_file():
        missing = f"no {printed}, so no Table 2: run at the repository's root"
        return f"{text}\n{missing}" if "geobench" in set(rows["source"]) else text
    if not set(rows["task"]) & set(pd.read_csv(printed)["task"]):
        return text
    lines = [text, text_table2(rows, printed)]
    judged = verdicts(rows, claims).reset_index().to_dict("records") if claims.is_file() else []
    for claim in judged:
        made = f"; on procedural images {claim['verdict_procedural']}"
        lines.append(f"{claim['claim']}: {claim['verdict']}{made if any(rows.procedural) else ''}")
    return "\n".join(lines)


def text_table2(rows: Rows, paper: Rows) -> str:
    """Table 2 as plain text, on what images it rests, the best of three between asterisks.

    Raises:
        ValueError: as `table2`.
    """
    frame, bold, origin = cells_of_table2(rows, paper)
    frame = frame.mask(bold, "*" + frame + "*")
    frame.columns = [f"{'paper ' if block == 'paper' else ''}{name}" for block, name in frame]
    caption = (
        f"Accuracy in percent, ours and the baselines' on {origin} images, the paper's on real ones"
    )
    return f"{caption}\n{frame.reset_index().to_string(index=False)}"


def text_results(rows: Rows) -> str:
    """What `evaluate` found as plain text: a block for each task and metric, a line per column.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    blocks = []
    table = with_cells(read_rows(rows))
    for (task, metric), block in table.groupby(["task", "metric"], sort=False):
        cells = spread(block, ["model"], "probe", "cell").fillna("")
        cells = cells.rename(columns=PROBE_NAMES | {"none": "no probe"})
        cells = cells.rename_axis(index=None, columns="model")
        blocks.append(f"{task}: {metric} in percent\n{cells.to_string()}")
    return "\n\n".join(blocks)
