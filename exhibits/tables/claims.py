"""The paper's claims, each with its rule, and what our rows say of it."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import t

from exhibits.tables.rows import MODELS, TABLE2_PROBES, TABLE2_TASKS, Row, Rows, read_rows, records


def verdicts(rows: Rows, claims: str | Path) -> pd.DataFrame:
    """Each claim of the paper with its rule and what our rows say of it.

    `verdict` rests on real images of the paper's tasks alone; `verdict_procedural` is the same
    rule on procedural ones and says nothing about the paper's data.
    """
    table = read_rows(rows)
    table = table[(table["source"] == "geobench") & table["task"].isin(TABLE2_TASKS)]
    table = records(table[table["probe"].isin(TABLE2_PROBES)])
    real = [row for row in table if not row["procedural"]]
    made = [row for row in table if row["procedural"]]
    lines = []
    for claim in yaml.safe_load(Path(claims).read_text()):
        rule = claim["rule"]
        line = {name: claim[name] for name in ("id", "quote", "where")}
        line["rule"] = ", ".join(f"{key} {value}" for key, value in rule.items())
        line["verdict"], line["evidence"] = _judge(rule, real)
        line["verdict_procedural"], line["evidence_procedural"] = _judge(rule, made)
        lines.append(line)
    return pd.DataFrame(lines).rename(columns={"id": "claim"}).set_index("claim")


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
