"""An experiment's plan, its rows and its page: what is run, kept, stale and shown."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from exhibits import Ledger
from exhibits.experiments import plans
from exhibits.experiments.page import Page
from exhibits.experiments.plans import PLANS, Rows, Verdict, difference, means, read_plan

PLAN = {
    "page": "99_trial",
    "question": "Is it so?",
    "expected": "It is.",
    "rule": "More than half.",
    "recipe": 3,
    "budget": {"smoke": {"seeds": 1, "steps": 2}, "laptop": {"seeds": 5, "steps": 600}},
    "minutes": {"smoke": 0.5, "laptop": 40},
}


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "experiments.yml"
    path.write_text(yaml.safe_dump({"trial": PLAN}))
    return replace(read_plan("trial", path), root=tmp_path / "results")


@pytest.mark.parametrize("name", yaml.safe_load(PLANS.read_text()))
def test_each_plan_of_the_file_is_whole(name):
    plan = read_plan(name)
    assert plan.budget.keys() == plan.minutes.keys() >= {"smoke", "laptop"}
    assert plan.minutes["laptop"] <= 60
    assert plan.minutes["smoke"] <= 1
    assert len(pd.DataFrame(plan.told())) == 3 + len(plan.budget)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "restore it"),
        ("- trial", "restore it"),
        ("trial: {page: x}", "restore it"),
        ("other: " + yaml.safe_dump(PLAN, default_flow_style=True), "must be one of other"),
    ],
)
def test_a_damaged_file_or_an_unknown_name_is_told_in_a_line(text, reason, tmp_path):
    path = tmp_path / "experiments.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_plan("trial", path)
    assert "\n" not in str(caught.value)


def test_rows_outlive_the_process_and_are_known_by_their_keys(plan):
    rows = plan.rows("smoke", ("arm", "seed"))
    assert {"arm": "a", "seed": 0} not in rows
    rows.add({"arm": "a", "seed": 0, "value": 0.5}, {"arm": "a", "seed": 1, "value": 0.6})
    again = plan.rows("smoke", ("arm", "seed"))
    assert {"arm": "a", "seed": 1} in again
    assert {"arm": "b", "seed": 1} not in again
    again.add({"arm": "a", "seed": 1, "value": 0.7})
    assert again.frame["value"].tolist() == [0.5, 0.7]
    assert plan.rows("laptop", ("arm", "seed")).frame.empty
    assert plan.rows("smoke", ("arm",), part="tuning").frame.empty


def test_rows_of_another_size_are_left_out_and_rates_are_chosen_among_those_of_one(plan):
    """Rows are known by a digest of the whole budget but for its seeds and arms."""
    keys = ("arm", "steps")
    before = replace(plan, budget={"smoke": {"seeds": 1, "steps": 2, "tested": 9}})
    old = before.rows("smoke", keys)
    old.add({"arm": "a", "steps": 2, "value": 0.9})
    assert {"arm": "a", "steps": 2} not in plan.rows("smoke", keys)
    plan.rows("smoke", keys).add({"arm": "b", "steps": 2, "value": 0.5})
    more = replace(plan, budget={"smoke": {"seeds": 7, "steps": 2, "arms": ["b", "c"]}})
    assert more.rows("smoke", keys).frame["arm"].tolist() == ["b"]
    assert old.current(steps=2)["arm"].tolist() == ["a"]
    tuning = plan.rows("smoke", keys, part="tuning")  # whose steps are not the budget's
    tuning.add({"arm": "a", "steps": 1, "value": 0.9})
    assert len(plan.rows("smoke", keys, part="tuning").frame) == 1
    other = Rows(tuning.path, keys, recipe=4)
    assert other.current().empty


def test_a_row_of_another_recipe_does_not_count_and_makes_room(plan, tmp_path):
    old = replace(plan, recipe=2).rows("laptop", ("seed",))
    old.add({"seed": 0, "value": 0.5}, {"seed": 1, "value": 0.5})
    rows = plan.rows("laptop", ("seed",))
    assert {"seed": 0} not in rows
    rows.add({"seed": 0, "value": 0.9})
    assert {"seed": 0} in rows
    assert sorted(rows.frame["value"]) == [0.5, 0.9]
    remark = plan.remark(rows.frame)
    assert remark.startswith("Stale: 1 of 2 rows")
    assert "papermill notebooks/99_trial.ipynb" in remark
    rows.add({"seed": 1, "value": 0.8})
    assert plan.remark(rows.frame).startswith("Profile laptop, commit ")


def test_absent_rows_name_the_command_and_what_it_costs(plan):
    remark = plan.remark(pd.DataFrame())
    assert remark.startswith("Not run under laptop: `.venv/bin/papermill notebooks/99_trial.ipynb ")
    assert remark.endswith("-p profile laptop` (40 minutes on two cores).")
    assert "minutes" not in plan.remark(pd.DataFrame(), "paper")


def test_an_answer_needs_all_seeds_of_the_budget(plan):
    rows = pd.DataFrame({"seed": [0, 1, 1, 2, 3]})

    def rule(frame):
        return Verdict("holds", "as it seems")

    assert plan.judged(rule, rows, "smoke").answer == "holds"
    found = plan.judged(rule, rows, "laptop")
    assert found == Verdict("cannot be decided here", "as it seems; 4 of 5 seeds were run")
    assert (
        plan.judged(rule, rows[["seed"]].rename(columns={"seed": "n"}), "laptop").answer == "holds"
    )


def test_a_rate_at_the_end_of_those_tried_is_marked():
    rows = pd.DataFrame({"arm": ["a", "b", "c"], "rate": [1.0, 2.0, 4.0]})
    assert plans.chosen(rows, (1.0, 2.0, 4.0)).tolist() == [
        "1 (least tried)",
        "2",
        "4 (largest tried)",
    ]


def test_differences_are_paired_by_seed():
    """Seeds lie ten points apart, the arms one: Student's interval of the pairs is narrow."""
    rows = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "right": 0.5 + seed / 10 + more + 0.01 * (seed == 1) * more}
            for seed in range(3)
            for arm, more in (("a", 0.0), ("b", 0.01))
        ]
    )
    mean, low, high = difference(rows, "right", "b", "a")
    each = np.array([0.01, 0.0101, 0.01])
    assert mean == pytest.approx(each.mean())
    half = 4.302653 * each.std(ddof=1) / np.sqrt(3)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    told = means(rows, ["right"], percent=["right"])
    assert told.loc["a", "right"].startswith("60.0 [")


def test_one_seed_has_no_interval():
    rows = pd.DataFrame([{"arm": "a", "seed": 0, "right": 0.5, "gain": 0.25}])
    told = means(rows, ["right", "gain"], percent=["right"])
    assert told.loc["a"].tolist() == ["50.0", "0.25"]


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_a_page_shows_committed_rows_beside_a_small_run(profile, plan, tmp_path, monkeypatch):
    """Without committed rows it says how to get them; without a budget it runs nothing."""
    monkeypatch.setattr("exhibits.experiments.page.read_plan", lambda name: plan)
    monkeypatch.setattr(plans, "machine", lambda root: {"commit": "abc1234567"})

    def run(plan, profile):
        rows = plan.rows(profile, ("seed",))
        for seed in range(plan.budget.get(profile, {"seeds": 0})["seeds"]):
            rows.add({"seed": seed, "value": 0.25})
        return rows.frame

    def judged(rows):
        return Verdict("not run" if rows.empty else "holds", f"{len(rows)} rows")

    module = SimpleNamespace(KEYS=("seed",), run=run, verdict=judged)
    for count in (0, 5):
        if count:
            plan.rows("laptop", ("seed",)).add(*({"seed": n, "value": 0.75} for n in range(count)))
        ledger = Ledger("99_trial", profile, 0, root=tmp_path)
        page = Page(ledger, "trial", module)
        page.told()
        page.table("values", lambda rows: rows[["value"]], "Values.")
        page.small(lambda rows: rows[["value"]])
        entries = ledger.entries
        assert entries["trial.verdict"]["text"] == ("holds" if count else "not run")
        assert entries["trial.evidence"]["text"] == f"{count} rows"
        assert ("abc1234" if count else "Not run under laptop") in entries["trial.rows"]["text"]
        assert entries["trial.values"]["kind"] == ("table" if count else "missing")
        assert entries["trial.own"]["kind"] == ("table" if profile == "smoke" else "missing")
        if count:
            assert "0.75" in entries["trial.values"]["html"]
        if profile == "smoke":
            assert "0.25" in entries["trial.own"]["html"]
            assert "0.75" not in entries["trial.own"]["html"]
