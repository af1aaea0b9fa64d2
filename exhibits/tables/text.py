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
    caption = (
        f"Accuracy in percent, ours and the baselines' on {origin} images, the paper's on real ones"
    )
    names = [f"{'paper ' if block == 'paper' else ''}{name}" for block, name in frame.columns]
    lines = [["probe", "task", *names]]
    for label, cells, is_bold in zip(frame.index, frame.to_numpy(), bold, strict=True):
        shown = [f"*{c}*" if best else c for c, best in zip(cells, is_bold, strict=True)]
        lines.append([*label, *shown])
    return "\n".join([caption, *_aligned(lines)])


def text_results(rows: Rows) -> str:
    """What `evaluate` found as plain text: a block for each task and metric, a line per column.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    text = []
    table = with_cells(read_rows(rows))
    for (task, metric), block in table.groupby(["task", "metric"], sort=False):
        cells = spread(block, ["model"], "probe", "cell").astype(object).fillna("")
        heads = ["model", *(_heading(probe) for probe in cells)]
        lines = [
            [model, *line] for (model,), line in zip(cells.index, cells.to_numpy(), strict=True)
        ]
        text += [f"{task}: {metric} in percent", *_aligned([heads, *lines]), ""]
    return "\n".join(text[:-1])


def _heading(probe: str) -> str:
    return "no probe" if probe == "none" else PROBE_NAMES.get(probe, probe)


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
