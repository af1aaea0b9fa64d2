"""Rows to Tables 1 and 2, the table of real tasks, and verdicts on the paper's claims."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pandas.io.formats.style import Styler
from scipy.stats import t

MODELS = ("SA-high", "SA-low", "CROMA")
BASELINES = ("untrained", "image statistics", "random convolution", "majority class")
PROBE_NAMES = {
    "neural": "Neural",
    "kmeans": "k-Means",
    "kmeans_umap": "k-Means + UMAP",
    "knn": "k-NN",
}
SUMMARY = {
    "scale_alibi": "SA-low",
    "croma": "CROMA",
    "untrained": "SA-low untrained",
    "random_conv": "random convolution",
    "statistics": "image statistics",
}
Rows = pd.DataFrame | str | Path
Row = dict[str, Any]


def table2(rows: Rows, paper: Rows) -> Styler:
    """Table 2: ours beside the paper's, accuracy in percent with its 95 % interval.

    The best of three models is bold, ours and the paper's apart. "untrained" is the best of the
    untrained encoders under the same probe. A cell without a row says n/a.

    Raises:
        ValueError: if a cell has several rows (seeds or protocols): pick one first.
    """
    ours, printed = _table(rows), _table(paper)
    origin = _origin(ours, {line["task"] for line in printed})
    cells, bold, index = [], [], []
    for line in printed:
        found = _cell(ours, line["task"], line["probe"])
        values = [found[name]["value"] if name in found else np.nan for name in MODELS]
        theirs = [line[name] for name in MODELS]
        cells.append(
            [_percent(found.get(name)) for name in MODELS]
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
    return _styled(frame, np.array(bold), "table2", f"Accuracy in percent, {origin} images.")


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
    tiles = _table(index_rows)
    if not all("z" in tile for tile in tiles):
        raise ValueError(f"index_rows must have a column z, got {', '.join(tiles[0])}")
    samples = Counter(tile["z"] for tile in tiles)
    ours = [
        {"name": name, "description": description, "base_y": zoom, "samples": count}
        for zoom, count in sorted(samples.items())
    ]
    names = {"base_y": "Base Y", "name": "Name", "description": "Description"}
    both = pd.DataFrame(_table(paper) + ours)
    return both.rename(columns=names | {"samples": "Samples"}).set_index("Name")


def real_table(rows: Rows) -> Styler:
    """Accuracy on EuroSAT and UC Merced, a row for each column of `evaluate`, by probe.

    Raises:
        ValueError: if there are no real rows of these tasks.
    """
    real = [
        row
        for row in _table(rows)
        if row["source"] in ("eurosat", "ucmerced") and not row["procedural"]
    ]
    if not real:
        raise ValueError("rows must hold eurosat or ucmerced, got none; set SALIB_DATA_DIR")
    cells, bold, index = [], [], []
    for task in sorted({row["task"] for row in real}):
        of_task = [row for row in real if row["task"] == task]
        found = {
            probe: _single([row for row in of_task if row["probe"] == probe])
            for probe in (*PROBE_NAMES, "none")
        }
        for model in dict.fromkeys(row["model"] for row in of_task):
            at = [found[probe].get(model, found["none"].get(model)) for probe in PROBE_NAMES]
            cells.append([_percent(row) for row in at])
            bold.append(
                [_is_best(row, found[probe]) for probe, row in zip(PROBE_NAMES, at, strict=True)]
            )
            index.append((task, model))
    frame = pd.DataFrame(
        cells,
        columns=list(PROBE_NAMES.values()),
        index=pd.MultiIndex.from_tuples(index, names=["task", "model"]),
    )
    return _styled(frame, np.array(bold), "real_table", "Accuracy in percent, real images.")


def knn_accuracy(rows: Rows, task: str) -> dict[str, dict[str, Any]]:
    """Nearest-neighbour accuracy on one task by short name of the column.

    Returns:
        By the keys of SUMMARY: value, ci (95 % interval) and n (test items); empty if not run.
    """
    chosen = [row for row in _table(rows) if row["task"] == task and row["probe"] == "knn"]
    found = _single(chosen)
    return {
        short: {
            "value": found[name]["value"],
            "ci": (found[name]["ci_low"], found[name]["ci_high"]),
            "n": int(found[name]["n_test"]),
        }
        if name in found
        else {}
        for short, name in SUMMARY.items()
    }


def mean_accuracy(rows: Rows, *, procedural: bool) -> dict[str, float]:
    """Nearest-neighbour accuracy averaged over the GEO-Bench tasks, by short name of the column.

    Raises:
        ValueError: if there are no such rows.
    """
    table = pd.DataFrame(_table(rows))
    chosen = table.query("source == 'geobench' and procedural == @procedural")
    names = sorted(set(chosen["task"]))
    if not names:
        raise ValueError(f"rows must hold GEO-Bench tasks with procedural={procedural}, got none")
    each = [knn_accuracy(chosen, name) for name in names]
    return {
        short: float(np.mean([task[short]["value"] for task in each]))
        for short in SUMMARY
        if all(task[short] for task in each)
    }


def over_seeds(rows: Rows) -> pd.DataFrame:
    """Accuracy in percent by column and task: mean over seeds and their standard deviation.

    Args:
        rows: of `benchmarks/learning.py`: seed, task, column, accuracy.
    """
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _table(rows):
        cells[row["column"]][row["task"]].append(100 * row["accuracy"])
    return pd.DataFrame(
        {
            column: {
                task: f"{np.mean(values):.1f} ({np.std(values, ddof=1):.1f})"
                for task, values in tasks.items()
            }
            for column, tasks in cells.items()
        }
    ).T


def gains(rows: Rows) -> pd.DataFrame:
    """Points of accuracy that each column has over another, with the 95 % interval.

    Args:
        rows: of `benchmarks/learning.py`: column, less, points, ci_low, ci_high.
    """
    lines = [
        {
            "column": row["column"],
            "over": row["less"],
            "points": f"{row['points']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]",
        }
        for row in _table(rows)
    ]
    return pd.DataFrame(lines).set_index("column")


def _table(source: Rows) -> list[Row]:
    if not isinstance(source, pd.DataFrame):
        path = Path(source)
        source = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    names = [str(name) for name in source.columns]
    return [dict(zip(names, values, strict=True)) for values in source.itertuples(index=False)]


def _origin(rows: list[Row], tasks: set[str]) -> str:
    kinds = {bool(row["procedural"]) for row in rows if row["task"] in tasks}
    if len(kinds) > 1:
        raise ValueError("rows must be all procedural or all real for one table, got both")
    return "procedural" if True in kinds else "real"


def _cell(rows: list[Row], task: str, probe: str) -> dict[str, Row]:
    of_task = [row for row in rows if row["task"] == task]
    found = _single([row for row in of_task if row["probe"] == probe])
    untrained = [row for row in found.values() if row["kind"] == "untrained"]
    if untrained:
        found["untrained"] = max(untrained, key=lambda row: row["value"])
    return found | _single([row for row in of_task if row["probe"] == "none"])


def _single(rows: list[Row]) -> dict[str, Row]:
    found = {row["model"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError("rows must hold one row a cell, got several; pick one seed and protocol")
    return found


def _percent(row: Row | None) -> str:
    if row is None:
        return "n/a"
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    return f"{100 * row['value']:.1f} [{low:.1f},\N{NO-BREAK SPACE}{high:.1f}]"


def _short(row: Row | None) -> str:
    return "n/a" if row is None else f"{100 * row['value']:.1f}"


def _is_best(row: Row | None, rivals: dict[str, Row]) -> bool:
    best = max((rival["value"] for rival in rivals.values()), default=None)
    return row is not None and row["probe"] != "none" and row["value"] == best


def _best(values: list[float]) -> list[bool]:
    if np.isnan(values).all():
        return [False] * len(values)
    return [bool(value == np.nanmax(values)) for value in values]


def _styled(frame: pd.DataFrame, bold: np.ndarray, name: str, caption: str) -> Styler:
    css = pd.DataFrame(
        np.where(bold, "font-weight: bold", ""), index=frame.index, columns=frame.columns
    )
    return Styler(frame, uuid=name, cell_ids=False, caption=caption).apply(lambda _: css, axis=None)


def verdicts(rows: Rows, claims: str | Path) -> pd.DataFrame:
    """Each claim of the paper with its rule and what our rows say of it.

    `verdict` rests on real images of the paper's tasks alone; `verdict_procedural` is the same
    rule on procedural ones and says nothing about the paper's data.
    """
    table = [row for row in _table(rows) if row["source"] == "geobench"]
    real = [row for row in table if not row["procedural"]]
    made = [row for row in table if row["procedural"]]
    lines = []
    for claim in yaml.safe_load(Path(claims).read_text()):
        rule = claim["rule"]
        verdict, evidence = _judge(rule, real)
        verdict_procedural, evidence_procedural = _judge(rule, made)
        lines.append(
            {
                "claim": claim["id"],
                "quote": claim["quote"],
                "where": claim["where"],
                "rule": ", ".join(f"{key} {value}" for key, value in rule.items()),
                "verdict": verdict,
                "evidence": evidence,
                "verdict_procedural": verdict_procedural,
                "evidence_procedural": evidence_procedural,
            }
        )
    return pd.DataFrame(lines).set_index("claim")


def _judge(rule: Row, rows: list[Row]) -> tuple[str, str]:
    if rule["kind"] == "external":
        return "not run", f"needs {rule['needs']}"
    cells: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        cells[row["task"], row["probe"]][row["model"]] = row["value"]
    whole = {key: cell for key, cell in cells.items() if set(MODELS) <= set(cell)}
    if not whole:
        return "not run", "no such rows"
    if rule["kind"] == "best_count":
        count = sum(max(cell["SA-high"], cell["SA-low"]) > cell["CROMA"] for cell in whole.values())
        evidence = f"SA best in {count} of {len(whole)} cells"
        if len(whole) < 16:
            return "not run", f"{evidence}, needs 16"
        return _word(count >= rule["at_least"]), evidence
    if rule["kind"] != "mean_difference":
        raise ValueError(f"kind must be mean_difference, best_count or external, got {rule}")
    by_task: dict[str, list[float]] = defaultdict(list)
    for (task, probe), cell in whole.items():
        if probe in rule["probes"]:
            by_task[task].append(cell[rule["column"]] - cell["CROMA"])
    if len(by_task) < 2:
        return "not run", "fewer than two tasks"
    # Student's t over tasks: four are too few for a percentile bootstrap.
    means = np.array([np.mean(differences) for differences in by_task.values()])
    half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5)
    low, mean = float(means.mean()) - half, float(means.mean())
    evidence = f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * (mean + half):+.1f}]"
    return _word(low > rule["at_least"]), evidence


def _word(reproduced: bool) -> str:
    return "reproduced" if reproduced else "not reproduced"
