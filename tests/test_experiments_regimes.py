"""Experiment 3: its regimes, its rule, and that it resumes."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from exhibits.experiments import regimes, scale
from exhibits.experiments.mosaics import Pictures
from exhibits.experiments.plans import NOT_RUN, read_plan

SIZES = {"seeds": 2, "steps": 1, "pictures": 7, "tested": 9}
ARMS = [scale.SCALE, scale.PATCHES]
SEEDS = np.array([-0.02, 0.0, 0.01, 0.02, -0.01])


def plan(root, **budget):
    known = read_plan("regimes")
    return replace(known, root=root, budget={"smoke": {**SIZES, "arms": ARMS, **budget}})


def rows_of(gains):
    """Rows of five seeds about the given gains, doubled and halved, by regime."""
    lines = []
    for regime, (up, down) in gains.items():
        for seed, off in enumerate(SEEDS):
            own = {"regime": regime, "arm": scale.SCALE, "seed": seed, regimes.WITHIN: 0.75 + off}
            lines.append(own | {regimes.UP: up + off, regimes.DOWN: down + off})
            lines.append(lines[-1] | {"arm": scale.PATCHES, regimes.UP: 9.0, regimes.DOWN: 9.0})
    return pd.DataFrame(lines)


GOOD = {regimes.ONE: (0.02, 0.01), regimes.LATITUDE: (0.03, -0.02), regimes.TWO: (0.9, 0.85)}


def test_latitude_is_what_a_pixel_of_a_level_15_tile_measures_from_49_to_25_degrees_north():
    widest = 2 * math.pi * 6378137 / (256 * 2**15)
    found = [round(widest * math.cos(math.radians(north)), 2) for north in (49, 25)]
    assert [*regimes.REGIMES[regimes.LATITUDE]] == [tuple(found)]


@pytest.mark.parametrize("regime", regimes.REGIMES)
def test_pictures_of_a_regime_have_its_gsds_and_none_else(regime):
    intervals = regimes.REGIMES[regime]
    gsds = Pictures.draw(31, intervals=intervals, side_px=8, seed=[3]).gsd_m.tolist()
    inside = [[low * 0.999 <= gsd <= high * 1.001 for low, high in intervals] for gsd in gsds]
    assert all(map(any, inside))
    assert all(map(any, zip(*inside, strict=True)))


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        (((2.0, 8.0),), (2.0, 8.0)),
        (((2.0, 2.0), (8.0, 8.0)), (2.0, 8.0)),
        (((2.0, 7.9),), (0.0, math.inf)),
        (((5.0, 5.0),), (0.0, math.inf)),
    ],
)
def test_stated_gsds_are_bounded_where_two_octaves_were_trained(intervals, expected):
    assert regimes.room(intervals) == expected


def test_a_run_trains_what_is_missing_and_patches_gain_nothing(tmp_path, monkeypatch):
    trained, real = [], regimes.train
    monkeypatch.setattr(regimes, "train", lambda *a, **k: trained.append((a, k)) or real(*a, **k))
    small = plan(tmp_path, regimes=[regimes.TWO])
    rows = regimes.run(small, "smoke")
    assert len(rows) == len(trained) == 2 * 2
    blind = rows[rows["arm"] == scale.PATCHES]
    assert (blind[[regimes.UP, regimes.DOWN]].to_numpy() == 0).all()
    path = tmp_path / "smoke" / "experiments" / "regimes.csv"
    pd.read_csv(path).drop(index=3).to_csv(path, index=False)
    again = regimes.run(small, "smoke")
    assert len(trained) == 5
    assert sorted(again["arm"]) == sorted(rows["arm"])
    assert trained[-1][0][0] == scale.ARMS[rows.loc[3, "arm"]]
    assert regimes.run(small, "paper").empty
    assert len(trained) == 5


def test_arms_share_pictures_and_seeds_regimes_and_tests_do_not(tmp_path, monkeypatch):
    shown, streams, real, draw = [], [], regimes.train, Pictures.draw

    def drawn(*args, seed, **options):
        streams.append(tuple(seed))
        return draw(*args, seed=seed, **options)

    monkeypatch.setattr(regimes, "train", lambda *a, **k: shown.append(a[1]) or real(*a, **k))
    monkeypatch.setattr(regimes.Pictures, "draw", drawn)
    regimes.run(plan(tmp_path, regimes=[regimes.ONE, regimes.LATITUDE]), "smoke")
    first = [pictures.images[0].tobytes() for pictures in shown]
    assert first[0::2] == first[1::2]
    assert len(set(first)) == 4
    assert len(set(streams)) == 2 * (2 + 2 + len(regimes.GSDS_M))


def test_gain_is_asked_with_the_gsd_doubled_and_halved_within_the_room(tmp_path, monkeypatch):
    asked = []

    def gain(model, shown, *, times, within):
        assert len(shown.images) == SIZES["tested"] != SIZES["pictures"]
        asked.append(within)
        return times

    monkeypatch.setattr(regimes, "gain", gain)
    small = plan(tmp_path, seeds=1, regimes=[regimes.TWO, regimes.ONE], arms=[scale.SCALE])
    rows = regimes.run(small, "smoke")
    assert rows[regimes.UP].tolist() == [2.0, 2.0]
    assert rows[regimes.DOWN].tolist() == [0.5, 0.5]
    assert asked == [(3.875, 15.5)] * 2 + [(0.0, math.inf)] * 2


def test_learning_rates_are_those_that_experiment_1_chose(tmp_path):
    known = replace(read_plan("scale"), root=tmp_path)
    sizes = known.budget["laptop"]
    found = known.rows("laptop", scale.TUNED, part="tuning")
    at = {"steps": sizes["tuning"], "pictures": sizes["pictures"], "loss": 0.5}
    best = dict(zip(ARMS, (scale.RATES[2], scale.RATES[0]), strict=True))
    for arm in ARMS:
        for rate in scale.RATES:
            right = 0.9 if rate == best[arm] else 0.4 + rate
            found.add(at | {"arm": arm, "rate": rate, scale.IN_RANGE: right})
    assert scale.chosen_rates("laptop", ARMS, root=tmp_path) == best
    assert set(scale.chosen_rates("smoke", ARMS, root=tmp_path).values()) == {scale.RATES[1]}


def test_the_rule_holds_for_no_gain_at_one_gsd_and_gain_with_two():
    assert regimes.verdict(rows_of(GOOD)).answer == "holds"


@pytest.mark.parametrize(
    ("regime", "gains"),
    [
        (regimes.ONE, (0.09, 0.01)),  # the mean is below the bound, its interval reaches over it
        (regimes.ONE, (0.01, 0.3)),
        (regimes.ONE, (-0.3, 0.01)),
        (regimes.LATITUDE, (0.3, 0.0)),
        (regimes.LATITUDE, (0.0, -0.09)),
        (regimes.TWO, (0.9, 0.71)),
        (regimes.TWO, (0.3, 0.9)),
    ],
)
def test_the_rule_fails_where_any_interval_crosses_its_bound(regime, gains):
    assert regimes.verdict(rows_of({**GOOD, regime: gains})).answer == "does not hold"


def test_the_rule_needs_all_three_regimes_and_several_seeds():
    rows = rows_of(GOOD)
    alone = regimes.verdict(rows[rows["seed"] == 0])
    assert alone.answer == "cannot be decided here"
    lacking = regimes.verdict(rows[rows["regime"] != regimes.LATITUDE])
    assert lacking.answer == "cannot be decided here"
    assert regimes.LATITUDE in lacking.evidence
    assert regimes.verdict(rows[:0]) == NOT_RUN


def test_the_table_has_a_line_for_each_regime_and_arm_and_percent_for_accuracy_alone():
    shown = regimes.table(rows_of({regimes.TWO: (0.9, 0.85), regimes.ONE: (0.02, 0.01)}))
    assert [*shown.index] == [(r, a) for r in (regimes.ONE, regimes.TWO) for a in ARMS]
    line = shown.loc[(regimes.TWO, scale.SCALE)]
    assert [cell.split(" ")[0] for cell in line] == ["75.0", "0.90", "0.85"]


def test_the_figure_draws_each_arm_in_each_regime_and_no_other():
    rows = rows_of({regimes.TWO: (0.9, 0.85)})
    rows[[f"{gsd_m:g} m" for gsd_m in regimes.GSDS_M]] = 0.5
    first, *others = regimes.regimes_figure(rows).axes
    drawn = {axis.get_title(): len(axis.lines) for axis in others}
    assert drawn == {regime: 2 * (regime == regimes.TWO) for regime in regimes.REGIMES}
    heights = {
        round(float(line.get_ydata()[0]), 3) for line in first.lines if line.get_marker() == "^"
    }
    assert heights == {0.9, 9.0}
