"""Tables 1 and 2 beside the paper's, and the table of real tasks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from exhibits.tables.claims import verdicts
from exhibits.tables.rows import BASELINES, MODELS, PROBE_NAMES, Row, Rows, one_a_cell, read_rows
from salib.evaluate.protocol import PROTOCOLS, percent

ONE_CLASS = tuple(probe for probe in PROBE_NAMES if probe != "decoder")


def table2(rows: Rows, paper: Rows) -> Styler:
    """Table 2: ours beside the paper's, accuracy in percent with its 95 % interval.

    The best of three models is bold, ours and the paper's apart. "untrained" is the best of the
    untrained encoders under the same probe. A cell without a row says n/a.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    frame, bold, origin = _table2(rows, paper)
    return styled(frame, bold, "table2", f"Accuracy in percent, {origin} images.")


def text_table2(rows: Rows, paper: Rows) -> str:
    """Table 2 as plain text, on what images it rests, the best of three between asterisks.

    Raises:
        ValueError: as `table2`.
    """
    frame, bold, origin = _table2(rows, paper)
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
    """What `evaluate` found as plain text: a block for each task and metric, a line a column.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    blocks: dict[tuple, list[Row]] = {}
    for row in read_rows(rows):
        blocks.setdefault((row["task"], row["metric"]), []).append(row)
    text = []
    for (task, metric), found in blocks.items():
        probes = list(dict.fromkeys(row["probe"] for row in found))
        cells = {probe: one_a_cell([r for r in found if r["probe"] == probe]) for probe in probes}
        lines = [["model", *(PROBE_NAMES.get(probe, "no probe") for probe in probes)]]
        for model in dict.fromkeys(row["model"] for row in found):
            of_model = (cells[probe].get(model) for probe in probes)
            lines.append([model, *(percent_cell(row) if row else "" for row in of_model)])
        text += [f"{task}: {metric} in percent", *_aligned(lines), ""]
    return "\n".join(text[:-1])


def text_evaluation(rows: pd.DataFrame, paper: Path) -> str:
    """What `salib evaluate` prints: all results, and Table 2 with its claims for tasks of it.

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


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def table1(
    index_rows: Rows,
    paper: Rows,
    *,
    name: str = "ours",
    description: str = "procedural, curated here",
) -> pd.DataFrame:
    """Table 1: the paper's data sets, and the samples of a curated index (one row a tile).

    Raises:
        ValueError: if the index has no column `z`.
    """
    tiles = read_rows(index_rows)
    if not all("z" in tile for tile in tiles):
        raise ValueError(f"index_rows must have a column z, got {', '.join(tiles[0])}")
    samples = Counter(tile["z"] for tile in tiles)
    ours = [
        {"name": name, "description": description, "base_y": zoom, "samples": count}
        for zoom, count in sorted(samples.items())
    ]
    names = {"base_y": "Base Y", "name": "Name", "description": "Description"}
    both = pd.DataFrame(read_rows(paper) + ours)
    return both.rename(columns=names | {"samples": "Samples"}).set_index("Name")


def real_table(rows: Rows) -> Styler:
    """Accuracy on EuroSAT and UC Merced, a row for each column of `evaluate`, by probe.

    Raises:
        ValueError: if there are no real rows of these tasks.
    """
    real = [
        row
        for row in read_rows(rows)
        if row["source"] in ("eurosat", "ucmerced") and not row["procedural"]
    ]
    if not real:
        raise ValueError("rows must hold eurosat or ucmerced, got none; set SALIB_DATA_DIR")
    cells, bold, index = [], [], []
    for task in sorted({row["task"] for row in real}):
        of_task = [row for row in real if row["task"] == task]
        found = {
            probe: one_a_cell([row for row in of_task if row["probe"] == probe])
            for probe in (*ONE_CLASS, "none")
        }
        for model in dict.fromkeys(row["model"] for row in of_task):
            at = [found[probe].get(model, found["none"].get(model)) for probe in ONE_CLASS]
            cells.append([percent_cell(row) for row in at])
            bold.append(
                [_is_best(row, found[probe]) for probe, row in zip(ONE_CLASS, at, strict=True)]
            )
            index.append((task, model))
    frame = pd.DataFrame(
        cells,
        columns=[PROBE_NAMES[probe] for probe in ONE_CLASS],
        index=pd.MultiIndex.from_tuples(index, names=["task", "model"]),
    )
    return styled(frame, np.array(bold), "real_table", "Accuracy in percent, real images.")


def _table2(rows: Rows, paper: Rows) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Cells, which of them are bold, and whether ours are procedural or real."""
    ours, printed = read_rows(rows), read_rows(paper)
    origin = _origin(ours, {line["task"] for line in printed})
    cells, bold, index = [], [], []
    for line in printed:
        found = _cell(ours, line["task"], line["probe"])
        values = [found[name]["value"] if name in found else np.nan for name in MODELS]
        theirs = [line[name] for name in MODELS]
        cells.append(
            [percent_cell(found.get(name)) for name in MODELS]
            + [f"{value:.2f}" for value in theirs]
            + [_short(found.get(name)) for name in BASELINES]
        )
        bold.append(_best(values) + _best(theirs) + [False] * len(BASELINES))
        index.append((line["block"], line["printed_name"]))
    columns = pd.MultiIndex.from_tuples(
        [(f"ours, {origin}", name) for name in MODELS]
        + [("paper", name) for name in MODELS]
        + [(f"baselines, {origin}", name) for name in BASELINES]
    )
    frame = pd.DataFrame(
        cells, columns=columns, index=pd.MultiIndex.from_tuples(index, names=["probe", "task"])
    )
    return frame, np.array(bold), origin


def _origin(rows: list[Row], tasks: set[str]) -> str:
    kinds = {bool(row["procedural"]) for row in rows if row["task"] in tasks}
    if len(kinds) > 1:
        raise ValueError("rows must be all procedural or all real for one table, got both")
    return "procedural" if True in kinds else "real"


def _cell(rows: list[Row], task: str, probe: str) -> dict[str, Row]:
    of_task = [row for row in rows if row["task"] == task]
    found = one_a_cell([row for row in of_task if row["probe"] == probe])
    untrained = [row for row in found.values() if row["kind"] == "untrained"]
    if untrained:
        found["untrained"] = max(untrained, key=lambda row: row["value"])
    return found | one_a_cell([row for row in of_task if row["probe"] == "none"])


def percent_cell(row: Row | None) -> str:
    """A row's value and interval in percent; cut after two decimals where its protocol cuts."""
    if row is None:
        return "n/a"
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    return f"{_short(row)} [{low:.1f},\N{NO-BREAK SPACE}{high:.1f}]"


def _short(row: Row | None) -> str:
    if row is None:
        return "n/a"
    protocol = PROTOCOLS.get(row.get("protocol", ""))
    if protocol is not None and protocol.truncate:
        return percent(row["value"], truncate=True)
    return f"{100 * row['value']:.1f}"


def _is_best(row: Row | None, rivals: dict[str, Row]) -> bool:
    best = max((rival["value"] for rival in rivals.values()), default=None)
    return row is not None and row["probe"] != "none" and row["value"] == best


def _best(values: list[float]) -> list[bool]:
    if np.isnan(values).all():
        return [False] * len(values)
    return [bool(value == np.nanmax(values)) for value in values]


def styled(frame: pd.DataFrame, bold: np.ndarray, name: str, caption: str) -> Styler:
    """A table with some cells bold, the same HTML each time."""
    css = pd.DataFrame(
        np.where(bold, "font-weight: bold", ""), index=frame.index, columns=frame.columns
    )
    return Styler(frame, uuid=name, cell_ids=False, caption=caption).apply(lambda _: css, axis=None)
