"""The page of verdicts: every claim of the paper and every experiment, each with its answer."""

import html
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from exhibits.experiments.page import SHOWN
from exhibits.experiments.plans import NOT_RUN, PLANS, RECIPE, Plan, Verdict, read_plans
from exhibits.tables.claims import DECIDED, OF_ROWS, WORDS, read_claims, verdicts
from exhibits.tables.rows import Rows

CLAIMS = Path("paper/claims.yml")
HOLDS, DOES_NOT, UNDECIDED = DECIDED
KEYS_OF_ANSWERS = {"holds": HOLDS, "not": DOES_NOT, "open": UNDECIDED, "waiting": NOT_RUN.answer}
"""Short names for the ledger."""
ABSENT = Verdict("not run", "not part of this version")
TABLE2 = "05_table2"
"""Page of the rows that claims about Table 2 are held against."""
LIKE = {
    "mean_difference": "The 95 % interval over tasks of {column} less CROMA, mean of "
    "{probes}, lies above {at_least} on real images.",
    "best_count": "An SA column is the best of three in {at_least} of 16 cells on real images.",
    "experiment": "{rule}",
    "test": "Tested in every build.",
    "external": "Needs what we do not have.",
}
"""Each kind of rule in words."""
RUN_REAL = "needs all four real tasks: `make book PROFILE=paper`"


class Judged(NamedTuple):
    """An experiment's verdict on its committed rows, and the state of these."""

    verdict: Verdict
    rows: str
    stale: bool = False


def module_of(name: str) -> Any:
    """The module of an experiment, or None where this version has none.

    Raises:
        ValueError: if it lacks what a page of verdicts needs.
    """
    path = f"exhibits.experiments.{name}"
    if find_spec(path) is None:
        return None
    module = import_module(path)
    if missing := [part for part in ("KEYS", "verdict") if not hasattr(module, part)]:
        raise ValueError(f"{path} must have KEYS and verdict, got no {' and no '.join(missing)}")
    return module


def judge(plan: Plan) -> Judged:
    """What an experiment's committed rows say by its rule."""
    module = module_of(plan.name)
    if module is None:
        return Judged(ABSENT, ABSENT.evidence)
    frame = plan.rows(SHOWN, module.KEYS).frame
    verdict = NOT_RUN if frame.empty else plan.judged(module.verdict, frame, SHOWN)
    stale = not frame.empty and bool((frame[RECIPE] != plan.recipe).any())
    return Judged(verdict, plan.remark(frame, SHOWN), stale)


def answers(
    rows: Rows, *, claims: str | Path = CLAIMS, plans: Mapping[str, Plan] | None = None
) -> pd.DataFrame:
    """Every claim of the paper: its rule, what stands behind it, the answer and why.

    Args:
        rows: of the evaluation, for claims about Table 2.
        claims: paper/claims.yml.
        plans: by name; by default those of paper/experiments.yml.

    Returns:
        Indexed by claim: quote, where, rule, behind (names of pages, rows of "how we read the
        paper" and tests), answer, why.
    """
    plans = read_plans(PLANS) if plans is None else plans
    table, lines = verdicts(rows, claims), {}
    for claim in read_claims(claims):
        rule, kind = claim["rule"], claim["rule"]["kind"]
        if kind in OF_ROWS:
            found = _of_rows(rule, table.loc[claim["id"]])
        elif kind == "experiment":
            found = _of_experiment(rule, plans.get(rule["name"]))
        elif kind == "test":
            found = {"behind": rule["held_by"], "answer": rule["answer"], "why": rule["why"]}
        else:
            found = {"behind": [], "answer": UNDECIDED, "why": f"needs {rule['needs']}"}
        words = LIKE[kind].format(**{"rule": ""} | rule | found.pop("words", {}))
        about = {"quote": claim["quote"], "where": claim["where"], "rule": words}
        lines[claim["id"]] = about | found
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("claim")


def _of_rows(rule: dict[str, Any], line: Any) -> dict[str, Any]:
    """Real images answer; what procedural ones give is told beside."""
    why = line["evidence"]
    if line["verdict"] not in WORDS.values():
        why += f"; {RUN_REAL}"
    if line["verdict_procedural"] in WORDS.values():
        why += f"; on procedural images it {line['verdict_procedural']}: "
        why += line["evidence_procedural"]
    words = {"probes": " and ".join(rule.get("probes", []))}
    if "probes" in rule:
        words["at_least"] = f"{100 * rule['at_least']:+g} points"
    return {"behind": [TABLE2], "answer": line["verdict"], "why": why, "words": words}


def _of_experiment(rule: dict[str, Any], plan: Plan | None) -> dict[str, Any]:
    """What follows for a claim from the answer of its experiment."""
    if plan is None:
        words = {"rule": f"Experiment {rule['name']}, not part of this version."}
        return {"behind": [], "answer": ABSENT.answer, "why": ABSENT.evidence, "words": words}
    found = judge(plan)
    answer, why = found.verdict
    if answer == HOLDS:
        answer = rule["then"]
    elif answer == DOES_NOT and rule["then"] != HOLDS:
        answer = UNDECIDED
    if found.stale or answer == NOT_RUN.answer:
        why = found.rows
    turned = "" if rule["then"] == HOLDS else " If so, the claim does not hold."
    words = {"rule": f"Experiment {plan.name}: {plan.rule}{turned}"}
    return {"behind": [plan.page], "answer": answer, "why": why, "words": words}


def experiments(plans: Mapping[str, Plan] | None = None) -> pd.DataFrame:
    """Every experiment: its page, question, answer, evidence, state of its rows, command."""
    plans = read_plans(PLANS) if plans is None else plans
    lines = {}
    for name, plan in plans.items():
        found = judge(plan)
        line = {"behind": [plan.page], "question": plan.question} | found.verdict._asdict()
        lines[name] = line | {"rows": found.rows, "command": f"`{plan.command()}`"}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("experiment")


def with_links(table: pd.DataFrame) -> str:
    """A table of this module as HTML: what is behind an answer as links, `code` as code."""
    shown = table.map(lambda cell: _code(cell) if isinstance(cell, str) else cell)
    shown["behind"] = ["<br>".join(map(_link, names)) for names in table["behind"]]
    shown.index = shown.index.map(_code)
    return shown.to_html(border=0, escape=False)


def _link(name: str) -> str:
    if re.fullmatch(r"D\d+", name):
        return f'<a href="../reading.html#{name.lower()}">{name}</a>'
    if name.startswith("tests/"):
        name = name.removeprefix("tests/")
        return f'<code class="literal">{html.escape(name)}</code>'
    return f'<a href="{html.escape(name)}.html">{html.escape(name)}</a>'


def _code(text: str) -> str:
    return re.sub(r"`(.+?)`", r'<code class="literal">\1</code>', html.escape(text, quote=False))
