"""Intervals cover the truth; scores equal other libraries'; corrections follow their definition."""

import gc
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from scipy.stats import binom, trim_mean
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from exhibits import normalised, tables
from exhibits.tables.clusters import raw_id_accuracy
from exhibits.tables.printed import cut_percent
from exhibits.tables.protocol import CHOICES
from exhibits.tables.summary import comparisons, seed_interval
from salib.evaluate.protocol import PROTOCOLS, Protocol
from salib.evaluate.scores import metrics, statistics
from salib.evaluate.scores.metrics import class_scores, label_scores, mask_scores
from salib.evaluate.scores.statistics import difference_of, interval_of


def resample(n, resamples, rng):
    """Indices of bootstrap samples of n items."""
    return rng.integers(n, size=(resamples, n))


def labelled(seed, n=83, classes=7):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, classes)) < np.linspace(0.05, 0.6, classes)).astype(np.int64)
    scores = (0.6 * labels + rng.random((n, classes))).astype(np.float32)
    return scores.round(1), labels


def masked(seed, n=19, size=(11, 13), classes=5):
    rng = np.random.default_rng(seed)
    masks = rng.integers(-1, classes - 1, size=(n, *size))
    predicted = np.where(rng.random(masks.shape) < 0.7, masks, rng.integers(classes, size=size))
    return predicted.clip(0).astype(np.uint8), masks


@pytest.mark.parametrize("n", [300, 1000])
@pytest.mark.parametrize("accuracy", [0.5, 0.73, 0.9, 0.97, 0.99])
def test_the_accuracy_interval_holds_the_truth_93_to_97_times_in_100(n, accuracy):
    held = 0.0
    for right in range(n + 1):
        chance = binom.pmf(right, n, accuracy)
        if chance > 1e-9:
            interval = statistics.accuracy_interval(np.arange(n) < right)
            held += chance * (interval.low <= accuracy <= interval.high)
    assert 0.93 <= held <= 0.97


def test_the_percentile_interval_fails_near_one_as_its_docstring_says():
    n, rates = 300, np.linspace(0.97, 0.995, 26)
    right = np.arange(n + 1)
    low, high = binom.ppf(0.025, n, right / n) / n, binom.ppf(0.975, n, right / n) / n
    held = [binom.pmf(right, n, p)[(low <= p) & (p <= high)].sum() for p in rates]
    assert np.mean(held) == pytest.approx(0.91, abs=0.01)


def share(right):
    """Accuracy as a statistic of any kind."""
    counts = right[:, None].astype(np.int64)
    return metrics.of_sums(counts, lambda sums: sums[:, 0] / len(right))


@pytest.mark.parametrize(("won", "lost"), [(0.1, 0.06), (0.03, 0.02)])
def test_paired_intervals_hold_the_true_difference(won, lost):
    rng, n, runs = np.random.default_rng(0), 701, 800
    indices = resample(n, 300, rng)
    held = np.zeros(2)
    for _ in range(runs):
        drawn = rng.random(n)
        ours, theirs = drawn >= lost, (drawn < lost) | (drawn >= lost + won)
        intervals = (
            statistics.bootstrap(statistics.paired(share(ours), share(theirs)), indices),
            statistics.paired_accuracy_interval(ours, theirs),
        )
        held += [i.low <= won - lost <= i.high for i in intervals]
        assert intervals[0].value == pytest.approx(intervals[1].value)
    assert ((held / runs >= 0.92) & (held / runs <= 0.98)).all()


def test_models_right_on_the_same_items_keep_an_interval_around_zero():
    same = np.arange(200) < 150
    low, high = statistics.paired_accuracy_interval(same, same)[1:]
    assert low == pytest.approx(-high)
    assert 0.005 < high < 0.03


def test_micro_f1_and_micro_map_intervals_hold_the_score_of_all_places():
    scores, labels = labelled(5, n=20011)
    truth = {
        "f1": f1_score(labels, scores > 0.5, average="micro"),
        "map": average_precision_score(labels, scores, average="micro"),
    }
    rng, runs, n = np.random.default_rng(3), 300, 211
    indices = resample(n, 200, rng)
    held = dict.fromkeys(truth, 0)
    for _ in range(runs):
        chosen = rng.choice(len(labels), n, replace=False)
        part = (scores[chosen], labels[chosen])
        for name, statistic in (
            ("f1", metrics.micro_f1(*part)),
            ("map", metrics.micro_average_precision(*part)),
        ):
            interval = statistics.bootstrap(statistic, indices)
            held[name] += interval.low <= truth[name] <= interval.high
    # Two standard errors of 300 runs are 2.5 points.
    assert all(0.91 <= number / runs <= 0.98 for number in held.values())


def test_a_bootstrap_of_any_statistic_is_that_of_a_loop_over_the_samples():
    (scores, labels), (others, _) = labelled(0), labelled(1)
    predicted, masks = masked(2, n=len(labels))
    indices = resample(len(labels), 70, np.random.default_rng(4))

    def loop(score):
        values = [score(chosen) for chosen in indices]
        return (score(np.arange(len(labels))), *np.percentile(values, [2.5, 97.5]))

    def average(which):
        return lambda i: average_precision_score(labels[i], which[i], average="micro")

    def f1(i):
        return f1_score(labels[i], scores[i] > 0.5, average="micro")

    def iou(i):
        known = masks[i] >= 0
        return jaccard_score(masks[i][known], predicted[i][known], average="macro")

    found = {
        average(scores): metrics.micro_average_precision(scores, labels),
        f1: metrics.micro_f1(scores, labels),
        iou: metrics.of_sums(metrics.mask_counts(predicted, masks, 5), metrics.mean_iou),
    }
    for score, statistic in found.items():
        interval = statistics.bootstrap(statistic, indices)
        np.testing.assert_allclose(interval, loop(score), rtol=1e-9)
    pair = (metrics.micro_average_precision(each, labels) for each in (scores, others))
    paired = statistics.bootstrap(statistics.paired(*pair), indices)
    np.testing.assert_allclose(
        paired, loop(lambda i: average(scores)(i) - average(others)(i)), atol=1e-12
    )


def test_scores_of_a_split_are_those_of_scikit_learn_over_all_its_pixels_or_labels():
    """Not the mean of scores of single images, which weighs a rare class by where it stands."""
    predicted, masks = masked(2)
    known, once = masks >= 0, np.ones((1, len(masks)))
    (iou,) = mask_scores(predicted, masks, 5)
    expected = jaccard_score(masks[known], predicted[known], average="macro")
    assert iou.statistic(once).item() == pytest.approx(expected)
    values, labels = labelled(0)
    once = np.ones((1, len(labels)))
    f1, precision = label_scores(values, labels)
    expected = f1_score(labels, values > 0.5, average="micro")
    assert f1.statistic(once).item() == pytest.approx(expected)
    expected = average_precision_score(labels, values, average="micro")
    assert precision.statistic(once).item() == pytest.approx(expected)
    assert (iou.metric, f1.metric, precision.metric) == ("mIoU", "micro F1", "micro mAP")


def test_a_difference_is_ours_minus_theirs_for_every_metric():
    values, labels = labelled(0)
    worse = np.random.default_rng(5).permutation(values)
    classes = labels.argmax(1)
    guess = np.where(np.arange(len(classes)) % 3, classes, classes + 1)
    predicted, masks = masked(2, n=len(labels))
    pairs = [
        (class_scores(classes, classes), class_scores(guess, classes)),
        (label_scores(values, labels), label_scores(worse, labels)),
        (
            mask_scores(masks.clip(0), masks, 5),
            mask_scores(predicted, masks, 5),
        ),
    ]
    indices = resample(len(labels), 61, np.random.default_rng(4))
    for better, other in pairs:
        for ours, theirs in zip(better, other, strict=True):
            for (first, second), sign in (((ours, theirs), 1), ((theirs, ours), -1)):
                found, p_value = difference_of(first, second, indices)
                apart = interval_of(first, indices).value
                apart -= interval_of(second, indices).value
                assert found.value == pytest.approx(apart)
                assert min(sign * found.low, sign * found.high) > 0
                assert p_value < 0.05


def test_a_bootstrap_of_a_share_is_that_of_the_mean():
    right = np.random.default_rng(0).random(307) < 0.8
    indices = resample(307, 200, np.random.default_rng(1))
    expected = (right.mean(), *np.percentile(right[indices].mean(1), [2.5, 97.5]))
    np.testing.assert_allclose(statistics.bootstrap(share(right), indices), expected)


def test_mean_iou_leaves_out_absent_classes_and_counts_a_false_one_as_zero():
    confusion = np.zeros((4, 4), np.int64)
    confusion[0, 0], confusion[1, 1], confusion[0, 1] = 6, 3, 1
    assert metrics.mean_iou(confusion) == pytest.approx((6 / 7 + 3 / 4) / 2)
    confusion[1, 2] = 1
    assert metrics.mean_iou(confusion) == pytest.approx((6 / 7 + 3 / 5 + 0) / 3)
    assert np.isnan(metrics.mean_iou(np.zeros((3, 3), np.int64)))


def test_scores_without_a_positive_label_or_a_labelled_pixel_are_refused_or_zero():
    none = np.zeros((5, 3), np.int64)
    low = np.full((5, 3), 0.1, np.float32)
    with pytest.raises(ValueError, match="at least one positive"):
        metrics.micro_average_precision(low, none)
    assert metrics.micro_f1(low, none)(np.ones((1, 5))) == 0
    unlabelled = metrics.of_sums(np.zeros((5, 2, 2), np.int64), metrics.mean_iou)
    with pytest.raises(ValueError, match="every bootstrap sample"):
        statistics.bootstrap(unlabelled, resample(5, 7, np.random.default_rng(0)))


def test_seed_interval_is_student_s_and_one_seed_has_none():
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        interval = seed_interval(rng.normal(3, 2, size=5))
        held += interval.low <= 3 <= interval.high
    assert 0.93 <= held / 1000 <= 0.97
    value, low, high = seed_interval(np.array([0.5]))
    assert value == 0.5
    assert np.isnan([low, high]).all()


def adjusted_by_definition(p_values):
    """Holm: the k-th least of n times n - k + 1, never below a lesser one's, at most 1."""
    for p in p_values:
        below = sorted(q for q in p_values if q <= p)
        yield min(1, max((len(p_values) - rank) * q for rank, q in enumerate(below)))


def test_holm_equals_its_definition_and_leaves_out_what_is_not_compared():
    rng = np.random.default_rng(0)
    for size in (1, 5, 11, 40):
        p_values = rng.random(size) ** 5
        rows = pd.DataFrame({"p_value": np.insert(p_values, [0, size // 2], np.nan)})
        apart = sum(p < 0.05 for p in adjusted_by_definition(p_values.tolist()))
        expected = {"compared": size, "apart": sum(p_values < 0.05), "apart_adjusted": apart}
        assert comparisons(rows) == expected
    none = {"compared": 0, "apart": 0, "apart_adjusted": 0}
    assert comparisons(pd.DataFrame({"p_value": np.full(3, np.nan)})) == none


def test_where_no_model_differs_holm_finds_any_difference_one_time_in_twenty(monkeypatch):
    monkeypatch.setattr(gc, "collect", int)  # statsmodels collects garbage at every call
    rng, runs, cells, n = np.random.default_rng(1), 400, 12, 301
    any_false = 0
    for _ in range(runs):
        ours, theirs = rng.random((2, cells, n)) < 0.7
        p_values = [statistics.accuracy_p_value(a, b) for a, b in zip(ours, theirs, strict=True)]
        any_false += comparisons(pd.DataFrame({"p_value": p_values}))["apart_adjusted"] > 0
    assert any_false / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_mcnemar_equals_a_sum_of_binomials_and_is_one_for_one_model():
    ours, theirs = np.array([1] * 9 + [0] * 3 + [1] * 20, bool), np.ones(32, bool)
    theirs[:9] = False
    expected = 2 * sum(binom.pmf(k, 12, 0.5) for k in range(9, 13))
    assert statistics.accuracy_p_value(ours, theirs) == pytest.approx(expected)
    assert statistics.accuracy_p_value(ours, ours) == 1


def test_p_value_of_a_bootstrap_difference_is_below_alpha_where_its_interval_excludes_zero():
    for value in (0.0, 0.019, 0.021, -0.05):
        interval = statistics.Interval(value, value - 0.02, value + 0.02)
        assert (statistics.difference_p_value(interval) < 0.05) == (abs(value) > 0.02)
    assert statistics.difference_p_value(statistics.Interval(0.0, 0.0, 0.0)) == 1


SCORES = {
    "m-eurosat": np.array([0.95, 0.97, 0.96]),
    "m-forestnet": np.array([0.5, 0.55, 0.48, 0.6]),
    "m-so2sat": np.array([0.45, 0.62]),
}


RANGES = {"m-eurosat": (0.907, 0.985), "m-forestnet": (0.46224, 0.62638)}
RANGES |= {"m-so2sat": (0.44929, 0.60953)}


def normal():
    """Normalised scores by task."""
    return {task: normalised.normalise(task, values, RANGES) for task, values in SCORES.items()}


def test_normalised_interquartile_mean_equals_the_reference_computation():
    low, high = RANGES["m-eurosat"]
    np.testing.assert_allclose(normal()["m-eurosat"], (SCORES["m-eurosat"] - low) / (high - low))
    found = normalised.interquartile_mean([*normal().values()], np.random.default_rng(0))
    frame = pd.DataFrame(
        [(task, value) for task, values in normal().items() for value in values],
        columns=["dataset", "score"],
    )
    assert found.value == pytest.approx(trim_mean(frame["score"], 0.25))
    groups = frame.groupby("dataset")
    draws = [
        trim_mean(groups.sample(frac=1, replace=True, random_state=r)["score"], 0.25)
        for r in range(500)
    ]
    np.testing.assert_allclose(found[1:], np.percentile(draws, [2.5, 97.5]), atol=0.03)
    one = [values[:1] for values in normal().values()]
    value, low, high = normalised.interquartile_mean(one, np.random.default_rng(0))
    assert value == low == high


def test_normalised_score_equals_geobench_s_own():
    with rc_context():  # its import sets a style
        plot_tools = pytest.importorskip("geobench.plot_tools", exc_type=ImportError)
    reference = plot_tools.Normalizer(RANGES)
    for task, values in SCORES.items():
        np.testing.assert_allclose(normal()[task], reference(task, values))
    pooled = np.concatenate(list(normal().values()))
    found = normalised.interquartile_mean([*normal().values()], np.random.default_rng(0))
    assert found.value == pytest.approx(plot_tools.iqm(pooled))


def test_a_normaliser_is_read_from_disk_and_a_wrong_one_refused(tmp_path):
    path = tmp_path / "normalizer.json"
    with pytest.raises(ValueError, match=r"No such file.*download it again"):
        normalised.normaliser(path)
    path.write_text(json.dumps({"m-eurosat": [0.1, 0.9]}))
    assert normalised.normaliser(path) == {"m-eurosat": (0.1, 0.9)}
    wrong = ['{"a": [0.9, 0.1]}', '{"a": [0.1]}', '{"a": [0, "x"]}', '{"a": [0, NaN]}', "[]", "{"]
    for text in (*wrong, '{"a": [0.1, 0.2, 0.3]}', '{"a": 3}', "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"must hold .*download it again"):
            normalised.normaliser(path)
    with pytest.raises(ValueError, match="none for m-eurosat"):
        normalised.normalise("m-eurosat", SCORES["m-eurosat"], {"m-forestnet": (0.0, 1.0)})
    with pytest.raises(ValueError, match="finite scores"):
        normalised.normalise("a", np.array([np.nan]), {"a": (0.0, 1.0)})


@pytest.mark.parametrize("n_classes", [2, 10, 12])
@pytest.mark.parametrize("matched", [None, 0.5, 1.0])
def test_raw_cluster_ids_have_the_mean_and_spread_of_theory(n_classes, matched):
    matched, draws = matched or 1 / n_classes, 20000
    accuracy = raw_id_accuracy(n_classes, 993, matched=matched, draws=draws, seed=1)
    mean, other = 1 / n_classes, (1 - matched) / (n_classes - 1)
    numbering = ((matched - other) / n_classes) ** 2  # a permutation's fixed points vary by 1
    deviation = (numbering + (mean - mean**2 - numbering) / 993) ** 0.5
    assert accuracy.mean() == pytest.approx(mean, abs=5 * deviation / draws**0.5)
    assert accuracy.std() == pytest.approx(deviation, rel=0.05)


def test_percentages_of_the_paper_are_cut_not_rounded():
    printed = {923 / 999: "92.39", 352 / 993: "35.44", 0.644: "64.40", 753 / 999: "75.37"}
    for share, text in printed.items():
        assert cut_percent(share) == text
    for number in range(1001):
        assert cut_percent(number / 1000) == f"{number / 10:.2f}"


def test_every_assumption_that_names_a_field_shows_what_the_protocols_hold():
    table, fields = tables.choices(), {c: does for c, _, does in CHOICES if isinstance(does, str)}
    for choice, field in fields.items():
        for protocol in ("default", "paper"):
            value = getattr(PROTOCOLS[protocol], field)
            values = value if isinstance(value, tuple) else (value,)
            assert table.loc[choice, protocol].split(", ") == [str(one) for one in values]
    named = set(fields.values())
    same = {"name", "patience", "knn_temperature", "cs", "resamples"}
    assert set(Protocol.__dataclass_fields__) - named == same


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rates", (0.0,)),
        ("cs", ()),
        ("batch", 0),
        ("knn_temperature", 0.0),
        ("umap_neighbours", 1),
    ],
)
def test_a_protocol_out_of_range_is_refused(field, value):
    options = {"name": "x", "standardise": True, "knn_metric": "l2", "match": "none", field: value}
    with pytest.raises(ValueError, match=f"{field}.* must"):
        Protocol(**options)


def test_geobench_score_is_the_middle_half_of_normalised_real_scores(tmp_path):
    (tmp_path / "classification_v1.0").mkdir()
    ranges = {f"m-{name}": [0.5, 0.9] for name in "abcd"}
    (tmp_path / "classification_v1.0" / "normalizer.json").write_text(json.dumps(ranges))
    values = {"m-a": 0.5, "m-b": 0.6, "m-c": 0.7, "m-d": 0.9}
    rows = pd.DataFrame(
        [
            {"task": task, "value": value, "model": "SA-low", "probe": "linear", "seed": 0}
            for task, value in values.items()
        ]
    ).assign(source="geobench", procedural=False, metric="accuracy")
    noise = rows.assign(procedural=True, value=0.0)
    found = normalised.geobench_score(pd.concat([rows, noise]), tmp_path)
    (line,) = found.to_dict("records")
    assert line["value"] == pytest.approx((0.25 + 0.5) / 2)
    assert (line["tasks"], line["seeds"]) == (4, 1)
    with pytest.raises(ValueError, match="real GEO-Bench tasks"):
        normalised.geobench_score(noise, tmp_path)
