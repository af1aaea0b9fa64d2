"""Published numbers stand beside ours only with what differs; chance is what theory says it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from exhibits import figures, tables
from exhibits.tables import paper_kmeans
from exhibits.tables.clusters import COUNTS
from exhibits.tables.protocol import CHOICES
from salib.evaluate import PROTOCOLS

PAPER = Path(__file__).parents[1] / "paper"
TABLE2, ANCHORS = PAPER / "table2.csv", PAPER / "anchors.csv"
# Typed from a summary of the same release, in percent: 5-NN and linear on brick-kiln, eurosat,
# forestnet, pv4ger, so2sat and bigearthnet.
TYPED = {
    "tgeo_panopticon": ((92.3, 93.9, 39.2, 95.8, 51.0, 63.6), (96.0, 96.8, 55.0, 96.8, 69.3, 71.5)),
    "tgeo_croma_base": ((83.8, 74.4, 27.1, 90.6, 25.6, 46.5), (91.5, 86.9, 42.6, 94.3, 53.2, 59.5)),
    "imagestats": ((92.2, 60.2, 20.9, 90.3, 25.4, 32.8), (86.5, 69.6, 33.5, 89.1, 34.9, 30.5)),
    "rcf": ((81.8, 61.4, 23.0, 90.2, 17.1, 34.8), (85.3, 76.9, 45.5, 90.5, 31.1, 48.6)),
}
TYPED_TASKS = ("m-brick-kiln", "m-eurosat", "m-forestnet", "m-pv4ger", "m-so2sat", "m-bigearthnet")


def rows(task="m-eurosat", *, procedural=False, probe="knn", **changes) -> pd.DataFrame:
    """One task's rows of ours, at the published sizes unless changed."""
    models = ("SA-high", "SA-low", "CROMA", "image statistics", "random convolution")
    made = {"task": task, "procedural": procedural, "probe": probe, "protocol": "default"}
    made |= {"metric": "accuracy", "value": 0.43219, "ci_low": 0.40129, "ci_high": 0.46323}
    made |= {"image_px": 256, "n_train": 2000, "n_test": 1000}
    return pd.DataFrame([{**made, **changes, "model": model} for model in models])


def pair(table, task, number, beside):
    """The one line of a table of pairs that sets these two side by side."""
    lines = table.reset_index().query("task == @task")
    (line,) = lines[(lines["number of"] == number) & (lines["beside"] == beside)].to_dict("records")
    return line


def simulated(accuracy, task="m-pv4ger", classes=2, known=0.0):
    facts = {"task": task, "known": known, "classes": classes}
    return pd.DataFrame({**facts, "accuracy": np.asarray(accuracy, float)})


def test_anchors_csv_holds_the_scores_of_a_summary_typed_apart():
    found = pd.read_csv(ANCHORS).set_index(["model", "method", "task"])
    assert found.index.is_unique
    for model, both in TYPED.items():
        for method, typed in zip(("knn5", "linear"), both, strict=True):
            values = [100 * found.loc[(model, method, task), "value"] for task in TYPED_TASKS]
            assert values == pytest.approx(typed, abs=0.06)


def test_anchors_csv_is_of_whole_published_tasks_and_plausible():
    found = pd.read_csv(ANCHORS)
    for task, own in found.groupby("task"):
        train, _, test = COUNTS[task]
        assert set(own["n_train"]) == {train}
        assert set(own["n_test"]) == {test}
        assert set(own["metric"]) == {"micro mAP" if task == "m-bigearthnet" else "accuracy"}
    assert ((found["ci_low"] < found["value"]) & (found["value"] < found["ci_high"])).all()
    assert found[["ci_low", "ci_high"]].stack().between(0, 1).all()


def test_a_procedural_value_is_never_shown_and_the_published_one_is():
    table = tables.anchors(rows(procedural=True), ANCHORS, TABLE2)
    assert "43.2" not in table.to_html()
    line = pair(table, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["value"] == "not run (procedural)"
    assert line["its value"] == "60.2 [56.8,\xa062.8]"
    assert line["differ in"] == "not compared"
    other = pair(table, "m-pv4ger", "ours: image statistics", "torchgeo-bench: image statistics")
    assert other["value"] == "not run"
    ours = table.reset_index().query("`number of`.str.startswith('ours')", engine="python")
    assert not ours["beside"].str.contains("paper").any()


def test_a_real_row_stands_with_everything_that_differs():
    table = tables.anchors(rows(), ANCHORS, TABLE2)
    line = pair(table, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["value"] == "43.2 [40.1,\xa046.3]"
    expected = ["k 20 / 5", "distance cosine / L2", "features z-scored / raw", "px 256 / 224"]
    assert line["differ in"].split("; ") == expected
    fewer = tables.anchors(rows(n_test=300, n_train=400), ANCHORS, TABLE2)
    line = pair(fewer, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["differ in"].split("; ")[4:] == ["train items 400 / 2000", "test items 300 / 1000"]


def test_alike_in_every_condition_differs_in_nothing(monkeypatch):
    alike = replace(PROTOCOLS["default"], knn_k=5, knn_metric="l2", standardise=False)
    monkeypatch.setitem(PROTOCOLS, "default", alike)
    table = tables.anchors(rows(image_px=224), ANCHORS, TABLE2)
    line = pair(table, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["differ in"] == "nothing"
    line = pair(table, "m-eurosat", "ours: CROMA", "torchgeo-bench: CROMA-B")
    assert line["differ in"] == "other weights"


def test_what_the_paper_does_not_state_is_said_of_its_pairs():
    table = tables.anchors(rows(), ANCHORS, TABLE2)
    line = pair(table, "m-eurosat", "the paper: CROMA", "torchgeo-bench: CROMA-B")
    assert (line["value"], line["its value"][:4]) == ("66.30", "74.4")
    assert line["differ in"] == "other weights; k 20 / 5; px 256 / 224; rest not stated"
    line = pair(table, "m-eurosat", "ours: SA-high", "the paper: SA-high")
    assert "px 256 / 512" in line["differ in"]


def test_real_eurosat_stands_in_for_m_eurosat_and_is_marked():
    both = pd.concat([rows(procedural=True), rows("eurosat")])
    table = tables.anchors(both, ANCHORS, TABLE2)
    line = pair(table, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["value"].startswith("43.2")
    assert "task eurosat / m-eurosat" in line["differ in"]
    assert "eurosat" not in set(table.reset_index()["task"])


def test_linear_pairs_have_no_neighbours_and_no_column_of_the_paper():
    table = tables.anchors(rows(probe="linear"), ANCHORS, TABLE2, probe="linear")
    line = pair(table, "m-eurosat", "ours: image statistics", "torchgeo-bench: image statistics")
    assert line["differ in"] == "features z-scored / raw; px 256 / 224"
    assert not table["beside"].str.contains("paper").any()


def test_a_task_of_ours_that_the_paper_lacks_is_paired_where_it_was_published():
    more = pd.concat([rows(), rows("m-so2sat"), rows("ucmerced")])
    table = tables.anchors(more, ANCHORS, TABLE2)
    tasks = set(table.reset_index()["task"])
    assert "m-so2sat" in tasks
    assert "ucmerced" not in tasks


def test_of_two_metrics_the_published_one_is_compared():
    scores = [
        rows("m-bigearthnet", metric=metric, value=value, n_train=20000)
        for metric, value in (("micro F1", 0.71), ("micro mAP", 0.37))
    ]
    table = tables.anchors(pd.concat(scores), ANCHORS, TABLE2)
    line = pair(
        table, "m-bigearthnet", "ours: image statistics", "torchgeo-bench: image statistics"
    )
    assert line["value"].startswith("37.0")
    assert "metric" not in line["differ in"]


def test_a_column_of_published_weights_is_paired_where_there_is_one():
    published = rows().query("model == 'CROMA'").assign(model="CROMA published")
    table = tables.anchors(pd.concat([rows(), published]), ANCHORS, TABLE2)
    named = table.reset_index().query("`number of` == 'ours: CROMA published'")
    assert named["task"].tolist() == ["m-eurosat"]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (rows(), {"probe": "kmeans"}, "probe must be one of"),
        (pd.concat([rows(), rows()]), {}, "one row per cell"),
        (rows(protocol="mine"), {}, "protocol must be of .*'mine'"),
    ],
)
def test_anchors_refuse_what_cannot_be_set_beside(given, options, message):
    with pytest.raises(ValueError, match=message):
        tables.anchors(given, ANCHORS, TABLE2, **options)


def test_anchors_without_a_published_task_are_an_error():
    other = pd.read_csv(ANCHORS).assign(task="m-other")
    with pytest.raises(ValueError, match="published must hold a task"):
        tables.anchors(rows(), other, TABLE2)


def test_points_are_of_the_papers_tasks_and_real_images_only():
    given = pd.concat([rows(), rows("m-pv4ger", procedural=True), rows("m-so2sat")])
    points = tables.published_points(given, ANCHORS, TABLE2)
    tasks = {"m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln"}
    assert set(points["task"]) == tasks
    assert set(points.query("source == 'ours'")["task"]) == {"m-eurosat"}
    assert (points["source"] == "the paper").sum() == 12
    assert points["value"].between(0, 1).all()


def test_below_counts_task_by_task():
    points = tables.published_points(rows(), ANCHORS, TABLE2)
    # Table 2's k-NN against imagestats: 58.70 < 60.2 on eurosat, and all three on brick-kiln.
    assert tables.below(points, "imagestats") == 4
    with pytest.raises(ValueError, match="without m-"):
        tables.below(points, "tgeo_swinv2b_s2rgb_satlas_mi")


def test_not_run_names_the_papers_tasks_without_real_rows():
    given = pd.concat([rows(), rows("m-pv4ger", procedural=True)])
    assert tables.not_run(given, TABLE2) == ["m-pv4ger", "m-forestnet", "m-brick-kiln"]


def test_the_paper_prints_24_kmeans_entries_and_nine_are_below_chance():
    entries = tables.kmeans_entries(TABLE2)
    assert len(entries) == 24
    assert tables.entries_below(entries) == 9
    # The furthest two-class entry from a half is 45.40 %, SA-low on m-brick-kiln after UMAP.
    assert tables.best_of_two_classes(entries) == pytest.approx(1 - 0.4540)


def test_clusters_that_know_nothing_score_as_a_binomial_does():
    runs = paper_kmeans((0.0,), draws=20_000, seed=1)
    for task, own in runs.groupby("task"):
        classes, test = own["classes"].iloc[0], COUNTS[task][2]
        for share in (0.025, 0.5, 0.975):
            expected = binom.ppf(share, test, 1 / classes) / test
            assert own["accuracy"].quantile(share) == pytest.approx(expected, abs=1.1 / test)


def test_more_knowledge_widens_the_spread_and_leaves_the_mean():
    runs = paper_kmeans((0.0, 0.3, 1.0), draws=20_000, seed=2)
    for _, own in runs.groupby("task"):
        found = own.groupby("known")["accuracy"].agg(["mean", "std"])
        assert found["std"].is_monotonic_increasing
        assert found["mean"].to_numpy() == pytest.approx(1 / own["classes"].iloc[0], abs=0.012)
    again = paper_kmeans((0.0, 0.3, 1.0), draws=20_000, seed=2)
    pd.testing.assert_frame_equal(runs, again)


@pytest.mark.parametrize("known", [(), (0.5, 1.1), (-0.1,)])
def test_knowledge_outside_of_its_range_is_refused(known):
    with pytest.raises(ValueError, match=r"known must hold values in 0\.\.1"):
        paper_kmeans(known, draws=2, seed=0)


def test_entries_inside_are_those_between_the_quantiles():
    rng = np.random.default_rng(3)
    entries = tables.kmeans_entries(TABLE2)
    parts = [
        simulated(rng.normal(1 / classes, width, 997), task, classes, known)
        for task, classes in zip(entries["task"].unique(), (2, 12, 10, 2), strict=True)
        for known, width in ((0.0, 0.01), (0.5, 0.2))
    ]
    runs = pd.concat(parts)
    found = tables.entries_inside(runs, entries)
    for known, count in found.items():
        expected = 0
        for entry in entries.itertuples():
            own = runs[(runs["task"] == entry.task) & (runs["known"] == known)]["accuracy"]
            low, high = np.quantile(own, [0.025, 0.975])
            expected += low <= entry.value <= high
        assert count == expected
    assert found[0.0] < found[0.5] == 24
    table = tables.chance(runs, entries)
    assert table["entries inside"].tolist() == [f"{found[0.0]} of 24", "24 of 24"]
    assert table.index.tolist() == ["0%", "50%"]


def test_chance_needs_some_entries():
    with pytest.raises(ValueError, match="paper must have rows"):
        tables.kmeans_entries(pd.read_csv(TABLE2).query("probe == 'knn'"))


def test_choices_come_from_text_to_assumed_and_lose_none():
    table = tables.choices()
    assert len(table) == len(CHOICES) == table.index.nunique()
    assert list(dict.fromkeys(table["of the paper"])) == list(tables.KNOWN.values())
    for choice, known, _ in CHOICES:
        assert table.loc[choice, "of the paper"] == tables.KNOWN[known]
    assert ((table["default"] != table["paper"]) == (table["differ"] == "yes")).all()


def test_anchor_points_draw_every_number_once_more_where_it_is_named():
    points = tables.published_points(rows(), ANCHORS, TABLE2)
    figure = figures.anchor_points(points, {"imagestats": "statistics"})
    axis = figure.axes[0]
    published = points.query("source == 'torchgeo-bench'")
    drawn = [np.asarray(found.get_offsets())[:, 0] for found in axis.collections]
    assert np.allclose(drawn[0], 100 * published["value"])
    assert np.allclose(drawn[1], 100 * published.query("model == 'imagestats'")["value"])
    assert [len(found) for found in drawn[2:]] == [12, 5]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2:] == ["the paper, k = 20", "ours, k = 20"]
    without = points.query("source != 'ours'")
    assert len(figures.anchor_points(without, {}).axes[0].collections) == 2


def test_the_chance_figure_draws_each_level_and_all_entries():
    entries, runs = tables.kmeans_entries(TABLE2), paper_kmeans((0.0, 0.5), draws=211, seed=0)
    figure = figures.chance(runs, entries)
    for axis, (task, own) in zip(figure.axes, entries.groupby("task", sort=False), strict=True):
        assert axis.get_title().startswith(task)
        assert len(axis.patches) == 2
        drawn = np.concatenate([np.asarray(dots.get_offsets())[:, 0] for dots in axis.collections])
        assert sorted(drawn) == pytest.approx(sorted(100 * own["value"]))
