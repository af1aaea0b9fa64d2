"""What Table 2 can tell: intervals, bounds and needs by loops and closed forms; the rule."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from exhibits.experiments import power
from exhibits.experiments.plans import read_plan

ROOT = Path(__file__).parents[1]
PRINTED = pd.read_csv(ROOT / power.PRINTED)


def fresh():
    return power.differences(PRINTED, (1.0, 2.5), power=0.8)


def judged(points, p_holm, *, less="CROMA", probe="knn"):
    """Rows of one difference each, as the rule reads them."""
    made = {"points": points, "p_holm": p_holm, "less": less, "probe": probe}
    return pd.DataFrame(made)


@pytest.mark.parametrize(("one", "other", "n"), [(0.83, 0.885, 999), (0.38, 0.354, 993)])
def test_the_unpaired_interval_is_that_of_agresti_and_caffo_and_agrees_with_the_p_value(
    one, other, n
):
    shares = np.array([(x * n + 1) / (n + 2) for x in (one, other)])
    half = stats.norm.ppf(0.975) * np.sqrt((shares * (1 - shares) / (n + 2)).sum())
    found = power.unpaired(one, other, n)
    assert found["points"] == pytest.approx(100 * (one - other))
    assert found["low"] == pytest.approx(100 * (shares[0] - shares[1] - half))
    assert found["high"] == pytest.approx(100 * (shares[0] - shares[1] + half))
    assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)


@pytest.mark.parametrize(("right", "n"), [((29, 17), 37), ((5, 18), 41), ((40, 31), 43)])
def test_bounds_of_the_paired_test_are_those_of_every_table_of_two_by_two(right, n):
    differ, told = [], [0]
    for both in range(n + 1):
        won, lost = right[0] - both, right[1] - both
        if min(won, lost, n - both - won - lost) >= 0:
            differ.append(won + lost)
            if stats.binomtest(won, won + lost).pvalue < 0.05:
                told.append(won + lost)
    found = power.paired(right[0] / n, right[1] / n, n)
    assert found["differ_least"] == pytest.approx(min(differ) / n)
    assert found["differ_most"] == pytest.approx(max(differ) / n)
    assert found["differ_told"] == pytest.approx(max(told) / n)
    apart = np.outer([right[0], n - right[0]], [right[1], n - right[1]]) / n**2
    assert found["differ_apart"] == pytest.approx(apart[0, 1] + apart[1, 0])


def test_five_images_are_never_evidence_and_six_may_be():
    n = 997
    assert power.paired(500 / n, 495 / n, n)["differ_told"] == 0
    assert power.paired(500 / n, 494 / n, n)["differ_told"] == pytest.approx(6 / n)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_images_needed_give_the_power_asked_for_and_one_fewer_does_not(level):
    one, other = 0.61, 0.57
    need = power.images_needed(one, other, power=level)
    reached = []
    for n in (need, need - 1):
        deviation = np.sqrt((one * (1 - one) + other * (1 - other)) / n)
        reached.append(stats.norm.cdf((one - other) / deviation - stats.norm.ppf(0.975)))
    assert reached[0] >= level > reached[1]


@pytest.mark.parametrize(("points", "spread"), [(1.7, 2.3), (-1.7, 1.1), (0.3, 1.1)])
def test_seeds_needed_give_the_power_asked_for_and_one_fewer_does_not(points, spread):
    need = power.seeds_needed(points, spread, power=0.8)
    reached = []
    for n in (need, need - 1):
        critical = stats.t.ppf(0.975, n - 1)
        shift = np.sqrt(n) * points / spread
        reached.append(
            stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
        )
    assert reached[0] >= 0.8 > reached[1]
    assert power.seeds_needed(97.0, 1.1, power=0.8) == 2


def test_the_spread_over_seeds_is_of_paired_differences_pooled_over_tasks():
    rng = np.random.default_rng(0)
    lines, apart = [], {}
    for task in ("m-a", "m-b", *power.REAL):
        for seed in range(3):
            values = dict(zip(("SA-high", "SA-low", "CROMA"), rng.random(3), strict=True))
            values["untrained"] = 9.0
            lines += [(task, seed, name, value) for name, value in values.items()]
            for name in ("SA-high", "SA-low"):
                apart.setdefault((task, name), []).append(values[name] - values["CROMA"])
    rows = pd.DataFrame(lines, columns=["task", "seed", "column", "accuracy"])
    pooled = [
        100
        * np.mean([np.var(of, ddof=1) for at, of in apart.items() if (at[0] in power.REAL) == real])
        ** 0.5
        for real in (True, False)
    ]
    assert power.seed_spread(rows) == pytest.approx((min(pooled), max(pooled)))


@pytest.mark.parametrize("task", power.FLAGGED)
def test_wrong_labels_take_from_accuracy_and_differences_what_a_simulation_loses(task):
    flagged, classes = power.FLAGGED[task]
    rng, n = np.random.default_rng(1), 400_000
    true = rng.integers(classes, size=n)
    wrong = rng.random(n) < flagged
    labels = np.where(wrong, (true + rng.integers(1, classes, n)) % classes, true)
    seen = []
    for accuracy in (1.0, 0.6, 0.4):
        missed = rng.random(n) >= accuracy
        answers = np.where(missed, (true + rng.integers(1, classes, n)) % classes, true)
        seen.append((answers == labels).mean())
    most, kept = power.kept_by_labels(task)
    assert seen[0] == pytest.approx(most, abs=0.004)
    assert (seen[1] - seen[2]) / 0.2 == pytest.approx(kept, abs=0.02)


def test_rows_are_every_pair_of_columns_and_only_those_that_rank_are_corrected():
    found = fresh()
    assert len(found) == 16 * 3
    assert not found.duplicated(list(power.KEYS)).any()
    assert set(found.loc[found["p_holm"].isna(), "probe"]) == {"kmeans", "kmeans_umap"}
    ranked = found.dropna(subset="p_holm").sort_values("p")
    assert len(ranked) == 24
    least = 0.0
    for number, (p, adjusted) in enumerate(zip(ranked["p"], ranked["p_holm"], strict=True)):
        least = max(least, min(1, (24 - number) * p))
        assert adjusted == pytest.approx(least)


def test_differences_are_the_printed_ones_and_k_nn_is_of_whole_images():
    found = fresh().set_index(list(power.KEYS))
    at = ("knn", "m-forestnet", "SA-high", "CROMA")
    assert found.loc[at, "points"] == pytest.approx(38.26 - 35.44)
    assert found.loc[at, "differ_least"] == pytest.approx((380 - 352) / 993)
    assert found.loc[at, "n"] == 993


@pytest.mark.parametrize(
    ("points", "p_holm", "answer"),
    [
        ([2.0, 1.0], [0.04, 0.6], "holds"),
        ([2.0, -1.0], [0.04, 0.6], "holds"),
        ([2.0, -1.0], [0.04, 0.03], "does not hold"),
        ([2.0, 3.0, -1.0], [0.04, 0.02, 0.03], "does not hold"),
        ([2.0, -1.0], [0.06, 0.03], "does not hold"),
        ([2.0, -1.0], [0.06, 0.07], "cannot be decided here"),
    ],
)
def test_the_rule(points, p_holm, answer):
    assert power.verdict(judged(points, p_holm)).answer == answer
    others = judged([9.0, -9.0], [1e-9, 1e-9], less="SA-low")
    noise = judged([9.0, -9.0], [np.nan, np.nan], probe="kmeans")
    found = power.verdict(pd.concat([judged(points, p_holm), others, noise]))
    assert found.answer == answer
    assert found.evidence.startswith(f"of {len(points)} differences")


def test_without_rows_it_has_not_run():
    assert power.verdict(pd.DataFrame()).answer == "not run"


def test_six_of_the_eight_rows_with_a_bold_sa_column_rank_nothing():
    bold = PRINTED[PRINTED[["SA-high", "SA-low"]].max(axis=1) > PRINTED["CROMA"]]
    noise = bold["probe"].str.startswith("kmeans").sum()
    assert power.won(fresh()) == (len(bold), noise) == (8, 6)


def test_committed_rows_are_what_the_code_computes():
    plan = read_plan("power", ROOT / "paper/experiments.yml")
    held = pd.read_csv(ROOT / "results/laptop/experiments/power.csv")
    assert set(held["recipe"]) == {plan.recipe}
    spread = power.seed_spread(pd.read_csv(ROOT / power.OVER_SEEDS))
    found = power.differences(PRINTED, spread, **plan.budget["laptop"])
    pd.testing.assert_frame_equal(held[found.columns], found, rtol=1e-4)


def test_the_figure_draws_every_difference_once_and_fills_those_beyond_chance():
    rows = fresh()
    figure = power.differences_figure(rows)
    filled = open_ = 0
    for axis in figure.axes:
        for found in axis.collections:
            if len(found.get_offsets()) and hasattr(found, "get_sizes") and len(found.get_sizes()):
                count = len(found.get_offsets())
                if len(found.get_facecolors()):
                    filled += count
                else:
                    open_ += count
    assert filled == (rows["p_holm"] < 0.05).sum()
    assert filled + open_ == len(rows)


def test_the_table_has_the_ranked_differences_from_croma():
    shown = power.table(fresh())
    assert len(shown) == 16
    line = shown.loc[("k-NN", "m-forestnet", "SA-high")]
    assert line["points"].startswith("+2.8 [")
    assert line["test images"] == "993"
