"""The paper's claims, each with its rule, and what our rows say of those that rows can answer."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from exhibits.tables.rows import MODELS, TABLE2_PROBES, TABLE2_TASKS, Rows, read_rows, spread
from exhibits.tables.summary import seed_interval

RULES = {
    "mean_difference": ("kind", "column", "probes", "at_least"),
    "best_count": ("kind", "at_least"),
    "experiment": ("kind", "name", "then"),
    "test": ("kind", "held_by", "answer", "why"),
    "external": ("kind", "needs"),
}
"""Parts of a rule by its kind."""
OF_ROWS = ("mean_difference", "best_count")
WORDS = {True: "holds", False: "does not hold"}
DECIDED = (*WORDS.values(), "cannot be decided here")


def verdicts(rows: Rows, claims: str | Path) -> pd.DataFrame:
    """Each claim of the paper that is about rows, and what ours say of it.

    `verdict` rests on real images of the paper's tasks alone; `verdict_procedural` is the same
    rule on procedural ones and says nothing about the paper's data.

    Raises:
        ValueError: if a cell has several rows, or as `read_claims`.
    """
    table = read_rows(rows).query("source == 'geobench'")
    table = table[table["task"].isin(TABLE2_TASKS) & table["probe"].isin(TABLE2_PROBES)]
    lines = {}
    for claim in read_claims(claims):
        if claim["rule"]["kind"] not in OF_ROWS:
            continue
        line = {"quote": claim["quote"], "where": claim["where"]}
        for made, suffix in ((False, ""), (True, "_procedural")):
            verdict, evidence = _judge(claim["rule"], table[table["procedural"] == made])
            line |= {f"verdict{suffix}": verdict, f"evidence{suffix}": evidence}
        lines[claim["id"]] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("claim")


def read_claims(path: str | Path) -> list[dict[str, Any]]:
    """The claims, each whole.

    Raises:
        ValueError: if the file is damaged, or a rule is of an unknown kind or lacks a part.
    """
    claims = []
    try:
        for claim in yaml.safe_load(Path(path).read_text(encoding="utf-8")):
            rule = {name: claim["rule"][name] for name in RULES[claim["rule"]["kind"]]}
            column, probes = rule.get("column", MODELS[0]), rule.get("probes", [])
            numeric = isinstance(rule.get("at_least", 0), int | float)
            words = rule.get("then", WORDS[True]), rule.get("answer", WORDS[True])
            decided = words[0] in WORDS.values() and words[1] in DECIDED
            lists = isinstance(probes, list) and isinstance(rule.get("held_by", []), list)
            if column not in MODELS or not (numeric and decided and lists):
                raise ValueError(f"the rule is {rule}")
            claims.append({name: str(claim[name]) for name in ("id", "quote", "where")})
            claims[-1]["rule"] = rule
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"Could not read {path} ({reason}): restore it") from error
    return claims


def _judge(rule: dict[str, Any], rows: Any) -> tuple[str, str]:
    cells = spread(rows, ["task", "probe"], "model", "value").reindex(columns=MODELS).dropna()
    if cells.empty:
        return "not run", "no such rows"
    if rule["kind"] == "best_count":
        count = int((cells[["SA-high", "SA-low"]].max(axis=1) > cells["CROMA"]).sum())
        evidence = f"SA best in {count} of {len(cells)} cells"
        if len(cells) < 16:
            return "not run", f"{evidence}, needs 16"
        return WORDS[count >= rule["at_least"]], evidence
    apart = (cells[rule["column"]] - cells["CROMA"]).reset_index(name="apart")
    by_task = apart.query("probe in @rule['probes']").groupby("task")["apart"].mean()
    if len(by_task) < 2:
        return "not run", "fewer than two tasks"
    # Student's t over tasks: four are too few for a percentile bootstrap.
    mean, low, high = seed_interval(by_task.to_numpy())
    evidence = f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    return WORDS[low > rule["at_least"]], evidence
