"""Every claim has an answer that follows from its rule; what is absent has not run."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml

from exhibits.experiments import verdicts
from exhibits.experiments.plans import Verdict, read_plans
from exhibits.tables.claims import read_claims
from exhibits.tables.rows import MODELS, TABLE2_PROBES, TABLE2_TASKS

ROOT = Path(__file__).parents[1]
CLAIMS, PLANS = ROOT / "paper/claims.yml", read_plans(ROOT / "paper/experiments.yml")
PLAN = replace(PLANS["scale"], name="made", page="99_made", recipe=3)


def evaluated(lead, *, procedural):
    """Rows of Table 2 where both SA columns lead CROMA."""
    made = [
        (task, probe, model, 0.5 + lead * (model != "CROMA") + 0.001 * number)
        for number, task in enumerate(TABLE2_TASKS)
        for probe in TABLE2_PROBES
        for model in MODELS
    ]
    frame = pd.DataFrame(made, columns=["task", "probe", "model", "value"])
    frame.loc[frame["model"] == "CROMA", "value"] = 0.5
    return frame.assign(source="geobench", procedural=procedural)


def write(tmp_path, *rules):
    claims = [
        {"id": f"c{n}", "quote": "a <b> & c", "where": "there", "rule": rule}
        for n, rule in enumerate(rules)
    ]
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(claims))
    return path


def has_module(monkeypatch, tmp_path, answer, *, recipe=3, rows=1):
    """An experiment whose verdict is given, with committed rows; its plan."""
    module: Any = ModuleType("exhibits.experiments.made")
    module.__spec__ = verdicts.find_spec("exhibits.experiments.scale")
    module.KEYS, module.verdict = ("arm",), lambda frame: Verdict(answer, f"of {len(frame)} rows")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plan = replace(PLAN, root=tmp_path)
    if rows:
        found = replace(plan, recipe=recipe).rows(verdicts.SHOWN, module.KEYS)
        found.add(*({"arm": str(n)} for n in range(rows)))
    return plan


@pytest.mark.parametrize(
    ("answer", "then", "expected"),
    [
        ("holds", "holds", "holds"),
        ("does not hold", "holds", "does not hold"),
        ("cannot be decided here", "holds", "cannot be decided here"),
        ("holds", "does not hold", "does not hold"),
        ("does not hold", "does not hold", "cannot be decided here"),
        ("cannot be decided here", "does not hold", "cannot be decided here"),
        ("not run", "does not hold", "not run"),
    ],
)
def test_a_claim_follows_from_its_experiment(monkeypatch, tmp_path, answer, then, expected):
    plan = has_module(monkeypatch, tmp_path, answer, rows=2)
    claims = write(tmp_path, {"kind": "experiment", "name": "made", "then": then})
    rows = evaluated(0.1, procedural=True)
    found = verdicts.answers(rows, claims=claims, plans={"made": plan}).loc["c0"]
    assert found["answer"] == expected
    assert found["behind"] == ["99_made"]
    assert PLAN.rule in found["rule"]
    assert ("the claim does not hold" in found["rule"]) == (then != "holds")
    if answer != "not run":
        assert found["why"] == "of 2 rows"


def test_without_rows_an_experiment_is_not_run_and_its_command_stands_there(monkeypatch, tmp_path):
    plan = has_module(monkeypatch, tmp_path, "holds", rows=0)
    claims = write(tmp_path, {"kind": "experiment", "name": "made", "then": "holds"})
    rows = evaluated(0.1, procedural=True)
    found = verdicts.answers(rows, claims=claims, plans={"made": plan}).loc["c0"]
    assert found["answer"] == "not run"
    assert plan.command() in found["why"]
    line = verdicts.experiments({"made": plan}).loc["made"]
    assert line["answer"] == "not run"
    assert plan.command() in line["command"]


def test_rows_of_an_older_recipe_are_called_stale(monkeypatch, tmp_path):
    plan = has_module(monkeypatch, tmp_path, "holds", recipe=2, rows=2)
    plan.rows(verdicts.SHOWN, ("arm",)).add({"arm": "new"})
    claims = write(tmp_path, {"kind": "experiment", "name": "made", "then": "holds"})
    rows = evaluated(0.1, procedural=True)
    found = verdicts.answers(rows, claims=claims, plans={"made": plan}).loc["c0"]
    assert found["why"].startswith("Stale")
    assert verdicts.experiments({"made": plan}).loc["made", "rows"].startswith("Stale")


@pytest.mark.parametrize("plans", [{}, {"nowhere": replace(PLAN, name="nowhere")}])
def test_an_experiment_that_this_version_lacks_reads_as_not_run(tmp_path, plans):
    claims = write(tmp_path, {"kind": "experiment", "name": "nowhere", "then": "holds"})
    found = verdicts.answers(evaluated(0.1, procedural=True), claims=claims, plans=plans)
    assert found.loc["c0", "answer"] == "not run"
    assert found.loc["c0", "why"] == "not part of this version"
    lines = verdicts.experiments(plans).to_dict("records")
    assert [line["answer"] for line in lines] == ["not run"] * len(plans)


def test_a_module_that_is_no_experiment_is_refused_by_name():
    with pytest.raises(ValueError, match="mosaics must have KEYS and verdict, got no KEYS and no"):
        verdicts.module_of("mosaics")


@pytest.mark.parametrize("lead", [0.1, -0.1])
def test_only_real_rows_answer_for_the_paper(lead):
    word, other = ("holds", "does not hold") if lead > 0 else ("does not hold", "holds")
    real = verdicts.answers(evaluated(lead, procedural=False), claims=CLAIMS, plans={})
    made = verdicts.answers(evaluated(lead, procedural=True), claims=CLAIMS, plans={})
    for claim in ("improvement", "similar-or-better", "half-of-the-rows"):
        assert real.loc[claim, "answer"] == word
        assert made.loc[claim, "answer"] == "not run"
        assert ("make book" in made.loc[claim, "why"]) > ("make book" in real.loc[claim, "why"])
        assert f"on procedural images it {word}" in made.loc[claim, "why"]
        assert f"it {other}" not in made.loc[claim, "why"]
        assert "procedural" not in real.loc[claim, "why"]
    assert (
        "SA-low less CROMA, mean of neural and knn, lies above -2 points"
        in (real.loc["similar-or-better", "rule"])
    )


def test_every_claim_has_an_answer_and_what_cannot_be_had_is_not_decided():
    found = verdicts.answers(evaluated(0.1, procedural=True), claims=CLAIMS, plans=PLANS)
    claims = read_claims(CLAIMS)
    assert found.index.tolist() == [claim["id"] for claim in claims]
    assert set(found["answer"]) <= set(verdicts.KEYS_OF_ANSWERS.values())
    assert (found["why"].str.len() > 0).all()
    for claim in claims:
        if claim["rule"]["kind"] == "external":
            assert found.loc[claim["id"], "answer"] == "cannot be decided here"
            assert claim["rule"]["needs"] in found.loc[claim["id"], "why"]


def test_what_claims_rest_on_exists():
    reading = (ROOT / "book/reading.md").read_text()
    for claim in read_claims(CLAIMS):
        rule = claim["rule"]
        for name in rule.get("held_by", []):
            if re.fullmatch(r"D\d+", name):
                assert f"({name.lower()})=" in reading
            else:
                file, function = name.split("::")
                assert f"def {function}(" in (ROOT / file).read_text(), name
        if rule["kind"] == "experiment":
            assert rule["name"] in PLANS


def test_links_lead_to_pages_and_rows_and_text_is_escaped(tmp_path):
    rule = {"kind": "test", "held_by": ["D4", "tests/a.py::b"], "answer": "holds", "why": "`x` <y>"}
    claims = write(tmp_path, rule)
    rows = evaluated(0.1, procedural=True)
    table = verdicts.answers(rows, claims=claims, plans={}).set_index("quote")
    shown = verdicts.with_links(table)
    assert '<a href="../reading.html#d4">D4</a><br><code class="literal">a.py::b</code>' in shown
    assert '<code class="literal">x</code> &lt;y&gt;' in shown
    assert "a &lt;b&gt; &amp; c" in shown
    assert '<a href="22_power.html">22_power</a>' in verdicts.with_links(
        verdicts.experiments({"power": PLANS["power"]})
    )
