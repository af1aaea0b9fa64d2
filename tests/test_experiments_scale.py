"""Experiment 1 resumes, tunes all arms alike, and is judged by its rule."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from exhibits.experiments import scale
from exhibits.experiments.plans import read_plan
from exhibits.experiments.scale import IN_RANGE, PATCHES, SCALE, TWICE


def rows(*, gains=(0.9, 0.0), right=(0.85, 0.55), twice=0.86, seeds=5):
    """Made-up rows: `right` of Scale-ALiBi and of 2D-ALiBi, a point apart from seed to seed."""
    spread = np.linspace(-0.01, 0.01, seeds) if seeds > 1 else [0.0]
    every = dict.fromkeys(scale.TESTS, 0.5)
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, **every, IN_RANGE: value + more, "gain": gain, "rate": 3e-3}
            | {TWICE: (twice if arm == SCALE else value) + more * (seed % 2)}
            for arm, gain, value in zip((SCALE, PATCHES), gains, right, strict=True)
            for seed, more in enumerate(spread)
        ]
    )


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "holds"),
        ({"gains": (0.9, 0.01)}, "does not hold"),
        ({"gains": (0.9, -0.01)}, "does not hold"),
        ({"gains": (0.69, 0.0)}, "does not hold"),
        ({"right": (0.7, 0.51)}, "does not hold"),
        ({"twice": 0.805}, "does not hold"),  # 4.5 points on average, but up to 5.4
        ({"twice": 0.82}, "holds"),
        ({"seeds": 1}, "cannot be decided here"),
    ],
)
def test_the_rule(changed, answer):
    assert scale.verdict(rows(**changed)).answer == answer
    assert scale.verdict(pd.DataFrame()).answer == "not run"
    assert scale.verdict(rows().query("arm == @SCALE")).answer == "cannot be decided here"


def test_a_run_resumes_and_a_stopped_one_loses_a_row_at_most(tmp_path, monkeypatch):
    sizes = {"steps": 2, "pictures": 9, "tested": 16, "tuning": 1, "seeds": 2}
    sizes["arms"] = [SCALE, PATCHES]
    plan = replace(read_plan("scale"), root=tmp_path, budget={"smoke": sizes})
    trained = []

    def train(arm, shown, *, steps, rate, seed):
        trained.append((arm, steps, rate, seed))
        if len(trained) == 9:
            raise KeyboardInterrupt
        return (rate, arm), 0.5

    def measured(model, shown):
        assert len(shown.images) > 0
        return float(0.4 + 10 * model[0] * (1 if model[1] else -1))

    for name, stub in {"train": train, "accuracy": measured, "gain": lambda *_, **__: 0.5}.items():
        monkeypatch.setattr(scale, name, stub)
    small = {IN_RANGE: (scale.TRAINED, 16, 1), TWICE: (scale.TRAINED, 32, 2)}
    monkeypatch.setattr(scale, "TESTS", small)
    with pytest.raises(KeyboardInterrupt):
        scale.run(plan, "smoke")
    found = scale.run(plan, "smoke")
    assert len(trained) == 6 + 4 + 1  # the ninth is done again, and nothing else
    assert [call[3] for call in trained[:6]] == [scale.TUNING] * 6
    assert [call[1] for call in trained[:7]] == [1] * 6 + [2]
    # 2D-ALiBi's change of configuration makes the greatest rate the best, Scale-ALiBi's the least.
    rates = found.set_index(["arm", "seed"])["rate"]
    assert (rates[SCALE] == min(scale.RATES)).all()
    assert (rates[PATCHES] == max(scale.RATES)).all()
    assert len(scale.run(plan, "smoke")) == 4
    assert len(trained) == 11
    assert scale.run(plan, "paper").empty


def test_the_figure_draws_each_arm_over_the_gsds_and_the_sides():
    figure = scale.accuracy_figure(rows())
    left, right = figure.axes
    assert [line.get_xdata().tolist() for line in left.lines] == [list(scale.GSDS_M)] * 2
    assert right.lines[0].get_ydata() == pytest.approx([85, 86.2, 50], abs=0.5)
    dotted = [line for line in right.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_ydata()[0] == pytest.approx(60.2, abs=0.5)


def test_the_table_has_percent_for_accuracy_and_the_gain_as_it_is():
    table = scale.table(rows())
    assert table.loc[SCALE, IN_RANGE].startswith("85.0 [84.")
    assert table.loc[SCALE, "gain"] == "0.90 [0.90, 0.90]"
