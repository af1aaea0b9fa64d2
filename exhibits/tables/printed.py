"""Tables 1 and 2 beside the paper's, and the tables of other and of real tasks."""

import math

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from exhibits.tables.rows import (
    BASELINES,
    MODELS,
    PROBE_NAMES,
    TABLE2_TASKS,
    Row,
    Rows,
    Table,
    read_rows,
    records,
    spread,
    under_each,
)
from salib.evaluate.protocol import PROTOCOLS

ONE_CLASS = [probe for probe in PROBE_NAMES if probe != "decoder"]


def table1(
    index_rows: Rows,
    paper: Rows,
    *,
    name: str = "ours",
    description: str = "procedural, curated here",
) -> pd.DataFrame:
    """Table 1: the paper's data sets, and the samples of a curated index (one row per tile).

    Raises:
        ValueError: if the index has no column `z`.
    """
    tiles = read_rows(index_rows)
    if "z" not in tiles:
        raise ValueError(f"index_rows must have a column z, got {', '.join(tiles)}")
    samples = tiles["z"].value_counts().sort_index()
    ours = pd.DataFrame({"base_y": samples.index, "samples": samples.to_numpy()})
    both = pd.concat([read_rows(paper), ours.assign(name=name, description=description)])
    names = {"base_y": "Base Y", "name": "Name", "description": "Description"}
    return both.rename(columns=names | {"samples": "Samples"}).set_index("Name")


def table2(rows: Rows, paper: Rows) -> Styler:
    """Table 2: ours beside the paper's, accuracy in percent with its 95 % interval.

    The best of three models is bold, ours and the paper's apart. "untrained" is the best of the
    untrained encoders under the same probe. A cell without a row says n/a.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    frame, bold, origin = cells_of_table2(rows, paper)
    return _styled(frame, bold, "table2", f"Accuracy in percent, {origin} images.")


def other_tasks(rows: Rows) -> Styler:
    """The GEO-Bench tasks that Table 2 leaves out, by metric and probe; the best is bold.

    Accuracy, micro F1 and micro mAP, or mIoU, all in percent with their 95 % interval. The last
    line of a task is of its most common class alone, which needs no probe.

    Raises:
        ValueError: if there is no such task, or a cell has several rows.
    """
    table = with_cells(read_rows(rows))
    table = table[(table["source"] == "geobench") & ~table["task"].isin(TABLE2_TASKS)]
    if table.empty:
        raise ValueError("rows must hold GEO-Bench tasks that are not in Table 2, got none")
    lines = ["task", "metric", "probe"]
    text, values = (spread(table, lines, "model", name) for name in ("cell", "value"))
    names = PROBE_NAMES | {probe: probe for probe in table["probe"] if probe not in PROBE_NAMES}
    tasks = dict.fromkeys(line[:2] for line in text.index)
    order = [(*task, probe) for task in tasks for probe in names if (*task, probe) in text.index]
    text, values = text.loc[order].astype(object).fillna("n/a"), values.loc[order]
    bold = values.eq(values.max(axis=1), axis=0).to_numpy()
    text.columns.name = None
    text.index = pd.MultiIndex.from_tuples([(*at, names[p]) for *at, p in order], names=lines)
    origin = "procedural" if table["procedural"].any() else "real"
    return _styled(text, bold, "other_tasks", f"Percent, {origin} images.")


def real_table(rows: Rows) -> Styler:
    """Accuracy on EuroSAT and UC Merced, a line for each column of `evaluate`, by probe.

    Raises:
        ValueError: if there are no real rows of these tasks.
    """
    table = with_cells(read_rows(rows))
    table = table[table["source"].isin(["eurosat", "ucmerced"]) & ~table["procedural"].astype(bool)]
    if table.empty:
        raise ValueError("rows must hold eurosat or ucmerced, got none; set SALIB_DATA_DIR")
    table = table.sort_values("task", kind="stable")
    order = pd.MultiIndex.from_frame(table[["task", "model"]].drop_duplicates())
    probed = table[table["probe"] != "none"]
    text = spread(under_each(table, ONE_CLASS), ["task", "model"], "probe", "cell")
    values = spread(probed, ["task", "model"], "probe", "value").reindex(order, columns=ONE_CLASS)
    bold = values.eq(values.groupby(level="task").transform("max")).to_numpy()
    text = (
        text.reindex(order, columns=ONE_CLASS)
        .astype(object)
        .fillna("n/a")
        .rename(columns=PROBE_NAMES)
    )
    text.columns.name = None
    return _styled(text, bold, "real_table", "Accuracy in percent, real images.")


def cells_of_table2(rows: Rows, paper: Rows) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Cells of Table 2, which of them are bold, and whether ours are procedural or real.

    Raises:
        ValueError: as `table2`.
    """
    printed, ours = read_rows(paper), with_cells(read_rows(rows))
    ours = ours[ours["task"].isin(printed["task"])]
    if ours["procedural"].nunique() > 1:
        raise ValueError("rows must be all procedural or all real for one table, got both")
    origin = "procedural" if ours["procedural"].any() else "real"
    best = ours[ours["kind"] == "untrained"].sort_values("value")
    best = best.drop_duplicates(["task", "probe"], keep="last").assign(model="untrained")
    table = under_each(pd.concat([ours, best]), printed["probe"].unique())
    at = pd.MultiIndex.from_frame(printed[["task", "probe"]])
    text, short, values = (
        spread(table, ["task", "probe"], "model", name).reindex(at)
        for name in ("cell", "short", "value")
    )
    values, theirs = values.reindex(columns=MODELS), printed[[*MODELS]]
    parts = {
        f"ours, {origin}": text.reindex(columns=MODELS).astype(object).fillna("n/a"),
        "paper": theirs.map("{:.2f}".format).set_index(at),
        f"baselines, {origin}": short.reindex(columns=BASELINES).astype(object).fillna("n/a"),
    }
    frame: Table = pd.concat(parts, axis=1)
    names = printed[["block", "printed_name"]].set_axis(["probe", "task"], axis=1)
    frame.index = pd.MultiIndex.from_frame(names)
    bold = [each.eq(each.max(axis=1), axis=0).to_numpy() for each in (values, theirs)]
    return frame, np.hstack([*bold, np.zeros((len(frame), len(BASELINES)), bool)]), origin


def with_cells(rows: Table) -> Table:
    """Rows with their value as `short` text, and with its interval as the text of a `cell`."""
    listed = records(rows)
    return rows.assign(short=[_short(r) for r in listed], cell=[percent_cell(r) for r in listed])


def percent_cell(row: Row) -> str:
    """A row's value and interval in percent; cut after two decimals where its protocol cuts."""
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    return f"{_short(row)} [{low:.1f},\N{NO-BREAK SPACE}{high:.1f}]"


def _short(row: Row) -> str:
    protocol = PROTOCOLS.get(row.get("protocol", ""))
    if protocol is not None and protocol.truncate:
        return cut_percent(row["value"])
    return f"{100 * row['value']:.1f}"


def cut_percent(share: float) -> str:
    """A share in percent, cut after two decimals; within 1e-9 below one of them it is that one."""
    return f"{math.floor(1e4 * share + 1e-5) / 100:.2f}"


def _styled(frame: pd.DataFrame, bold: np.ndarray, name: str, caption: str) -> Styler:
    """A table with some cells bold, the same HTML each time."""
    css = pd.DataFrame(
        np.where(bold, "font-weight: bold", ""), index=frame.index, columns=frame.columns
    )
    return Styler(frame, uuid=name, cell_ids=False, caption=caption).apply(lambda _: css, axis=None)
