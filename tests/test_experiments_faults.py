"""What the faults cost: the rule on constructed rows, equal conditions for all arms, resuming."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from train_runs import MODEL, held_out

from exhibits.experiments import faults
from exhibits.experiments.faults import (
    ALL,
    ARMS,
    MEASURES,
    OURS,
    changes,
    costs_figure,
    table,
    tuned,
    verdict,
)
from exhibits.experiments.plans import Plan, Rows
from exhibits.experiments.released import FAULTS, Wrapped
from salib.training.data import Samples

SIZES = {"steps": 2, "batch": 2, "bank": 1, "tested": 1, "held": 1}
D3, D6, D13 = (name for name in ARMS if name.split()[0] in ("D3", "D6", "D13"))


def rows_of(shifts, *, seeds=3, spread=0.001, real=True):
    """Rows in which arms lie `shifts[arm][measure]` above ours, seeds apart by little."""
    rows = []
    for seed in range(seeds):
        for number, arm in enumerate(ARMS):
            wobble = spread * ((seed + number) % 3 - 1)
            row = {name: 0.5 + 0.05 * seed + wobble for name in MEASURES}
            for name, shift in shifts.get(arm, {}).items():
                row[name] += shift
            if not real:
                row |= {name: np.nan for name in MEASURES if "EuroSAT" in name}
            rows.append({"arm": arm, "seed": seed, "steps": 9, "batch": 3, **row})
    return pd.DataFrame(rows)


def test_each_fault_has_an_arm_of_its_own_and_one_has_all():
    alone = [of for arm, of in ARMS.items() if arm not in (OURS, ALL)]
    assert alone == [(name,) for name in FAULTS]
    assert ARMS[OURS] == ()
    assert ARMS[ALL] == FAULTS
    assert all(arm.split()[0] == of[0] for arm, of in ARMS.items() if len(of) == 1)


@pytest.mark.parametrize(
    ("shifts", "answer"),
    [
        ({}, "does not hold"),
        ({ALL: {"lores, procedural": -0.2}}, "holds"),
        ({ALL: {"hires to lores": -0.12}}, "holds"),
        ({ALL: {"hires to lores": +0.12}}, "does not hold"),
        ({ALL: {"hires to lores": -0.06}}, "does not hold"),  # 2 points of their mean
        ({ALL: {"hires to lores": -0.12, "radar to lores": 0.12}}, "does not hold"),
        ({ALL: {"reconstruction": -0.3}}, "does not hold"),
        ({D3: {"hires to lores": -0.3}}, "does not hold"),
    ],
)
def test_the_claim_holds_only_if_all_together_cost_neighbours_or_retrieval_three_points(
    shifts, answer
):
    assert verdict(rows_of(shifts)).answer == answer


def test_a_large_but_uncertain_loss_does_not_hide_a_clear_one_and_decides_nothing_alone():
    rows = rows_of({ALL: {"lores to hires": -0.12}})
    wild = rows.arm == ALL
    rows.loc[wild, "lores, EuroSAT"] -= np.array([2.0, 0.0, 0.0])
    found = verdict(rows)
    assert found.answer == "holds"
    assert "retrieval" in found.evidence
    rows.loc[wild, "lores to hires"] += 0.12
    assert verdict(rows).answer == "does not hold"
    assert "nearest neighbours" in verdict(rows).evidence


def test_faults_that_cost_alone_are_named_and_those_that_gain_are_not():
    told = {D3: {"lores to hires": -0.2}, D6: {"hires, EuroSAT": 0.2}, D13: {"reconstruction": -1}}
    assert verdict(rows_of(told)).evidence.endswith("; alone, D3, D13 cost")
    assert verdict(rows_of({})).evidence.endswith("; alone, none cost")


def test_one_seed_or_no_arms_cannot_decide_and_no_rows_are_not_run():
    one = verdict(rows_of({ALL: {"lores to hires": -1.5}}, seeds=1, spread=0.0))
    assert one.answer == "cannot be decided here"
    assert "one seed" in one.evidence
    assert "-50.0 points" in one.evidence
    some = rows_of({})
    assert verdict(some[some.arm == OURS]).answer == "cannot be decided here"
    assert verdict(pd.DataFrame(columns=["arm"])).answer == "not run"


def test_differences_are_paired_by_seed_and_measures_without_values_are_left_out():
    rows = rows_of({ALL: {"lores, procedural": -0.07}}, spread=0.0, real=False)
    found = changes(rows, ALL)
    assert set(found) == {name for name in MEASURES if "EuroSAT" not in name}
    mean, low, high = found["lores, procedural"]
    assert (mean, low, high) == pytest.approx((-0.07,) * 3)  # seeds are 0.05 apart
    assert changes(rows[rows.seed != 1], ALL)["reconstruction"].value == pytest.approx(0)
    assert not verdict(rows).evidence.count("nan")


def test_table_and_figure_show_the_arms_and_measures_that_are_there():
    rows = rows_of({ALL: {"lores to hires": -0.07}}, real=False)
    shown = table(rows[rows.arm != D6])
    assert list(shown.index) == [arm for arm in ARMS if arm != D6]
    assert list(shown) == [name for name in MEASURES if "EuroSAT" not in name]
    assert shown.loc[OURS, "lores to hires"].startswith("55.")
    figure = costs_figure(rows[rows.arm != D6])
    [middle] = [line for line in figure.axes[1].lines if line.get_label() == "lores to hires"]
    shifts = np.asarray(middle.get_xdata(), float)
    assert len(shifts) == len(ARMS) - 2
    assert shifts[-1] == pytest.approx(-7, abs=0.2)
    assert np.abs(shifts[:-1]).max() < 0.3
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert ticks == [arm for arm in ARMS if arm not in (OURS, D6)]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Two arms of toy size, a seed each, without EuroSAT."""
    monkeypatch.delenv("SALIB_DATA_DIR", raising=False)
    monkeypatch.setattr("exhibits.experiments.encoders.CLASSES", ("water", "forest"))
    small = {"tiny": replace(MODEL, patch_px=16)}
    monkeypatch.setattr(faults, "PRESETS", small)
    tiny = replace(faults.TRAINING["tiny"], image_px=32, crop_px=(24, 48), precision="float32")
    monkeypatch.setattr(faults, "TRAINING", {"tiny": tiny})
    budget = {"toy": {"seeds": 1, "tuning": 1, "arms": [OURS, ALL], **SIZES}}
    told = {"question": "", "expected": "", "rule": "", "recipe": 1, "minutes": {"toy": 1.0}}
    return Plan(name="faults", page="21", budget=budget, root=tmp_path / "results", **told)


def test_arms_see_the_same_images_and_choose_among_the_same_rates_and_nothing_runs_twice(
    plan, tiles, tmp_path, monkeypatch
):
    folder, drawn, shown = held_out(tiles, tmp_path / "tiles", valid=3), {}, set()
    painted = []

    def noted(samples, model, run, step, faults=()):
        views = draw(samples, model, run, step, faults)
        at = (run.seed, run.config.learning_rate, step)
        drawn.setdefault(at, []).append(views[0][0].images["lores"].numpy())
        shown.add((len(model.faults), type(samples)))
        return views

    def measured_on(model, seen, true, run, batches):
        shown.add((len(model.faults), type(seen), type(true)))
        return measure(model, seen, true, run, batches)

    def painted_for(bank, tested, *, seed):
        painted.append(seed)
        return paint(bank, tested, seed=seed)

    draw, measure, paint = faults.draw_released, faults.held_out, faults.painted_chips
    monkeypatch.setattr(faults, "painted_chips", painted_for)
    monkeypatch.setattr(faults, "draw_released", noted)
    monkeypatch.setattr(faults, "held_out", measured_on)
    rows = faults.run(plan, "toy", tiles=folder)
    assert rows[["arm", "seed", "steps"]].values.tolist() == [[OURS, 0, 2], [ALL, 0, 2]]
    assert {seed for seed, *_ in drawn} == {0, faults.TUNING} == {*painted}
    black = {(7, Wrapped), (7, Wrapped, Samples)}
    assert shown == {(0, Samples), (0, Samples, Samples)} | black
    for images in drawn.values():
        assert all(np.array_equal(images[0], one) for one in images)
    tried = plan.rows("toy", faults.TUNED, part="tuning").frame
    assert tried[["arm", "rate"]].values.tolist() == [
        [arm, rate] for arm in (OURS, ALL) for rate in faults.RATES
    ]
    measured = rows[list(MEASURES)]
    assert measured.filter(like="EuroSAT").isna().all(axis=None)
    assert measured.drop(columns=measured.filter(like="EuroSAT")).notna().all(axis=None)
    assert rows.loss[0] != rows.loss[1]
    monkeypatch.setattr(faults, "_trial", lambda *_: 1 / 0)
    pd.testing.assert_frame_equal(faults.run(plan, "toy", tiles="nowhere"), rows)
    assert faults.run(plan, "other", tiles="nowhere").empty


def test_without_tiles_it_says_what_makes_them(plan, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere must hold tiles.*01_curation.*profiles/toy"):
        faults.run(plan, "toy", tiles=tmp_path / "nowhere")


def test_an_arm_takes_the_rate_of_its_own_best_accuracy(plan, tmp_path):
    found = Rows(tmp_path / "tuning.csv", faults.TUNED, recipe=1)
    for arm, best in ((OURS, 2), (ALL, 0)):
        for number, rate in enumerate(faults.RATES):
            at = {"arm": arm, "rate": rate, "steps": 1, "batch": 2}
            found.add(at | {"accuracy": 0.5 - 0.1 * abs(number - best)})
    trial = faults.Trial.__new__(faults.Trial)
    object.__setattr__(trial, "batch", 2)
    assert tuned(found, trial, [OURS, ALL], steps=1) == {OURS: 2e-3, ALL: 5e-4}
    assert tuned(found, trial, [OURS], steps=0) == {OURS: 1e-3}
