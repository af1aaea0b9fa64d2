"""Tables 1 and 2 beside the paper's and the scores of all tasks: for pages, and as plain text."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from exhibits.tables.claims import read_claims, verdicts
from exhibits.tables.rows import BASELINES, MODELS, PROBE_NAMES, Rows, Table, read_rows, spread
from salib.evaluate.protocol import PROTOCOLS


def table1(index: pd.DataFrame, paper: Rows, *, name: str, description: str) -> pd.DataFrame:
    """Table 1: the paper's data sets, and the samples of a curated index by zoom."""
    counts = index["z"].value_counts().sort_index()
    samples = pd.DataFrame({"base_y": counts.index, "samples": counts.to_numpy()})
    both = pd.concat([read_rows(paper), samples.assign(name=name, description=description)])
    names = {"base_y": "Base Y", "name": "Name", "description": "Description"}
    return both.rename(columns=names | {"samples": "Samples"}).set_index("Name")


def table2(rows: Rows, paper: Rows) -> Styler:
    """Table 2: ours beside the paper's, accuracy in percent with its 95 % interval.

    The best of three models is bold, ours and the paper's apart. "untrained" is the best of the
    untrained encoders under the same probe. A cell without a row says n/a.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    frame, bold, origin = _cells(rows, paper)
    return _styled(frame, bold, "table2", f"Accuracy in percent, {origin} images.")


def score_table(rows: Rows) -> Styler:
    """Scores in percent with their 95 % interval by task, metric and probe; the best is bold.

    The line of a task without a probe is of its most common class alone.

    Raises:
        ValueError: if there are no rows, or a cell has several.
    """
    table = with_cells(read_rows(rows)).sort_values(["task", "metric"], kind="stable")
    if table.empty:
        raise ValueError("rows must hold scores of a task, got none")
    table["probe"] = table["probe"].replace(PROBE_NAMES)
    lines = ["task", "metric", "probe"]
    text, values = (spread(table, lines, "model", name) for name in ("cell", "value"))
    bold = values.eq(values.max(axis=1), axis=0).to_numpy()
    origin = "procedural" if table["procedural"].any() else "real"
    text = text.fillna("n/a").rename_axis(columns=None)
    return _styled(text, bold, "scores", f"Percent, {origin} images.")


def check_paper(paper: Path) -> None:
    """Read what the paper prints, before anything is computed to stand beside it.

    Raises:
        ValueError: if table2.csv or claims.yml of the folder is damaged; either may be absent.
    """
    printed, claims = paper / "table2.csv", paper / "claims.yml"
    if printed.is_file():
        try:
            pd.read_csv(printed)[["block", "printed_name", "task", "probe", *MODELS]]
        except (ValueError, KeyError) as error:
            raise ValueError(f"Could not read {printed} ({error}): restore it") from error
    if claims.is_file():
        read_claims(claims)


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
    frame, bold, origin = _cells(rows, paper)
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


def _cells(rows: Rows, paper: Rows) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Cells of Table 2, which of them are bold, and whether ours are procedural or real."""
    printed, ours = read_rows(paper), with_cells(read_rows(rows))
    ours = ours[ours["task"].isin(printed["task"])]
    if ours["procedural"].nunique() > 1:
        raise ValueError("rows must be all procedural or all real for one table, got both")
    origin = "procedural" if ours["procedural"].any() else "real"
    best = ours[ours["kind"] == "untrained"].sort_values("value")
    best = best.drop_duplicates(["task", "probe"], keep="last").assign(model="untrained")
    # What needs no probe is repeated under each.
    every = ours[ours["probe"] == "none"].drop(columns="probe")
    beneath = every.merge(printed["probe"].drop_duplicates(), how="cross")
    table = pd.concat([ours[ours["probe"] != "none"], best, beneath])
    at = pd.MultiIndex.from_frame(printed[["task", "probe"]])
    text, short, values = (
        spread(table, ["task", "probe"], "model", name).reindex(at)
        for name in ("cell", "short", "value")
    )
    values, published = values.reindex(columns=MODELS), printed[[*MODELS]]
    parts = {
        f"ours, {origin}": text.reindex(columns=MODELS).astype(object).fillna("n/a"),
        "paper": published.map("{:.2f}".format).set_index(at),
        f"baselines, {origin}": short.reindex(columns=BASELINES).astype(object).fillna("n/a"),
    }
    frame: Table = pd.concat(parts, axis=1)
    names = printed[["block", "printed_name"]].set_axis(["probe", "task"], axis=1)
    frame.index = pd.MultiIndex.from_frame(names)
    bold = [each.eq(each.max(axis=1), axis=0).to_numpy() for each in (values, published)]
    return frame, np.hstack([*bold, np.zeros((len(frame), len(BASELINES)), bool)]), origin


def with_cells(rows: Table) -> Table:
    """Rows with their value in percent as `short` text, and with its interval as `cell`.

    A value is cut after two decimals where its protocol cuts.
    """
    short, cells = [], []
    for row in rows.to_dict("records"):
        protocol = PROTOCOLS.get(row.get("protocol", ""))
        cut = protocol is not None and protocol.truncate
        text = cut_percent(row["value"]) if cut else f"{100 * row['value']:.1f}"
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        short.append(text)
        cells.append(f"{text} [{low:.1f},\N{NO-BREAK SPACE}{high:.1f}]")
    return rows.assign(short=short, cell=cells)


def cut_percent(share: float) -> str:
    """A share in percent, cut after two decimals; within 1e-9 below one of them it is that one."""
    return f"{math.floor(1e4 * share + 1e-5) / 100:.2f}"


def _styled(frame: pd.DataFrame, bold: np.ndarray, name: str, caption: str) -> Styler:
    """A table with some cells bold, the same HTML each time."""
    css = pd.DataFrame(
        np.where(bold, "font-weight: bold", ""), index=frame.index, columns=frame.columns
    )
    return Styler(frame, uuid=name, cell_ids=False, caption=caption).apply(lambda _: css, axis=None)
