"""Published numbers stand beside ours only with what differs; chance is what theory says it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from scipy.stats import binom

from exhibits import figures, tables
from exhibits.tables import paper_kmeans
from exhibits.tables.clusters import COUNTS
from exhibits.tables.protocol import CHOICES

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


def rows(task="m-eurosat", *, procedural=False, probe="knn5", **changes) -> pd.DataFrame:
    """One task's rows of ours, at the published sizes unless changed."""
    models = ("SA-high", "SA-low", "CROMA", "image statistics", "random convolution")
    made = {"task": task, "procedural": procedural, "probe": probe, "protocol": "default"}
    made |= {"metric": "accuracy", "value": 0.43219, "ci_low": 0.40129, "ci_high": 0.46323}
    made |= {"image_px": 256, "n_train": 2000, "n_test": 1000}
    return pd.DataFrame([{**made, **changes, "model": model} for model in models])


def scores(*given) -> pd.DataFrame:
    """All sources beside rows of ours."""
    return tables.published_scores(pd.concat(given), ANCHORS, TABLE2)


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
    table = tables.anchors(scores(rows(procedural=True)))
    assert "43.2" not in table.to_html()
    line = table.loc["m-eurosat", "knn", "image statistics"]
    assert line.tolist() == ["not run", "", "60.2 [56.8,\xa062.8]"]
    assert table.loc["m-eurosat", "knn", "CROMA"].tolist() == ["not run", "66.30", ""]


def test_a_real_score_stands_beside_the_others_and_the_conditions_say_what_differs():
    found = scores(rows(n_test=300, n_train=400))
    line = tables.anchors(found).loc["m-eurosat", "knn", "image statistics"]
    assert line["ours"] == "43.2 [40.1,\xa046.3]"
    assert line["torchgeo-bench"] == "60.2 [56.8,\xa062.8]"
    table = tables.conditions(found)
    assert table.loc["neighbours"].tolist() == [5, 20, 5]
    assert table.loc["distance"].tolist() == ["L2", "not stated", "L2"]
    assert table.loc["features"].tolist() == ["raw", "not stated", "raw"]
    assert table.loc["side of the image, px"].tolist() == ["256", "256; SA-high 512", 224]
    items = table.loc["items of m-eurosat, train + test"]
    assert items["ours"] == "m-eurosat: 400 + 300"
    assert items["torchgeo-bench"] == "m-eurosat: 2,000 + 1,000"


def test_ours_are_of_five_neighbours_and_none_of_the_twenty_of_a_protocol():
    found = scores(rows(value=0.5), *(rows(probe=name) for name in ("knn", "knn_weighted")))
    assert found.equals(scores(rows(value=0.5)))
    assert (tables.anchors(scores(rows(probe="knn")))["ours"] == "not run").all()
    sides = [tables.conditions(scores(rows(image_px=px)))["ours"] for px in (224, 96)]
    assert [side["side of the image, px"] for side in sides] == ["224", "96"]
    none = tables.conditions(scores(rows(procedural=True)))["ours"]
    assert none["side of the image, px"] == "not run"


def test_real_eurosat_stands_in_for_m_eurosat_and_is_marked():
    found = scores(rows(procedural=True), rows("eurosat"))
    table = tables.anchors(found)
    assert table.loc["m-eurosat", "knn", "image statistics"]["ours"].startswith("43.2")
    assert "eurosat" not in table.index.unique("task")
    items = tables.conditions(found).loc["items of m-eurosat, train + test"]
    assert items["ours"] == "eurosat: 2,000 + 1,000"
    assert tables.anchors(scores(rows(value=0.5), rows("eurosat"))).equals(
        tables.anchors(scores(rows(value=0.5)))
    )


def test_a_task_of_ours_that_the_paper_lacks_stands_where_it_was_published():
    table = tables.anchors(scores(rows(), rows("m-so2sat"), rows("ucmerced"), rows(probe="linear")))
    assert "m-so2sat" in table.index.unique("task")
    assert not {"ucmerced", "m-bigearthnet"} & set(table.index.unique("task"))
    assert (table.xs("linear", level="probe")["the paper"] == "").all()


def test_of_two_metrics_the_published_one_is_compared():
    given = [
        rows("m-bigearthnet", metric=metric, value=value, n_train=20000)
        for metric, value in (("micro F1", 0.71), ("micro mAP", 0.37))
    ]
    line = tables.anchors(scores(*given)).loc["m-bigearthnet", "knn", "image statistics"]
    assert line["ours"].startswith("37.0")


def test_a_column_of_published_weights_stands_beside_its_published_score():
    published = rows().query("model == 'CROMA'").assign(model="CROMA published")
    line = tables.anchors(scores(rows(), published)).loc["m-eurosat", "knn", "CROMA published"]
    assert line["ours"].startswith("43.2")
    assert line["torchgeo-bench"].startswith("74.4")


def test_what_cannot_be_set_beside_is_refused():
    with pytest.raises(ValueError, match="one row per cell"):
        tables.anchors(scores(rows(), rows(protocol="mine")))


def test_scores_are_of_published_tasks_and_real_images_only():
    found = scores(rows(), rows("m-pv4ger", procedural=True), rows("ucmerced"))
    assert set(found.query("source == 'ours'")["task"]) == {"m-eurosat"}
    assert (found["source"] == "the paper").sum() == 12
    assert found["value"].between(0, 1).all()


def test_below_counts_task_by_task():
    found = scores(rows())
    # Table 2's k-NN against imagestats: 58.70 < 60.2 on eurosat, and all three on brick-kiln.
    assert tables.below(found, "image statistics") == 4
    with pytest.raises(KeyError, match="m-"):
        tables.below(found, "tgeo_swinv2b_s2rgb_satlas_mi")


def test_not_run_names_the_papers_tasks_without_real_rows():
    found = scores(rows("eurosat"), rows("m-forestnet"), rows("m-pv4ger", procedural=True))
    assert tables.not_run(found) == ["m-pv4ger", "m-eurosat", "m-brick-kiln"]


def test_the_paper_prints_24_kmeans_entries_and_nine_are_below_chance():
    entries = tables.kmeans_entries(TABLE2)
    assert len(entries) == 24
    assert (entries["value"] < 1 / entries["classes"]).sum() == 9


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


def test_choices_come_from_text_to_assumed_and_lose_none():
    table = tables.choices()
    assert len(table) == len(CHOICES) == table.index.nunique()
    assert list(dict.fromkeys(table["of the paper"])) == list(tables.KNOWN.values())
    for choice, known, _ in CHOICES:
        assert table.loc[choice, "of the paper"] == tables.KNOWN[known]
    assert ((table["default"] != table["paper"]) == (table["differ"] == "yes")).all()


def test_anchor_points_draw_every_number_once_more_where_it_is_named():
    points = scores(rows()).query("probe == 'knn'")
    figure = figures.anchor_points(points, {"image statistics": "statistics"})
    axis = figure.axes[0]
    published = points.query("source == 'torchgeo-bench'")
    drawn = [np.asarray(found.get_offsets())[:, 0] for found in axis.collections]
    assert np.allclose(drawn[0], 100 * published["value"])
    assert np.allclose(drawn[1], 100 * published.query("model == 'image statistics'")["value"])
    assert [len(found) for found in drawn[2:]] == [12, 5]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2:] == ["the paper, k = 20", "ours, k = 5"]
    without = points.query("source != 'ours'")
    assert len(figures.anchor_points(without, {}).axes[0].collections) == 2


def test_the_chance_figure_draws_each_level_and_all_entries():
    entries, runs = tables.kmeans_entries(TABLE2), paper_kmeans((0.0, 0.5), draws=211, seed=0)
    figure = figures.chance(runs, entries)
    for axis, (task, own) in zip(figure.axes, entries.groupby("task", sort=False), strict=True):
        assert axis.get_title().startswith(task)
        assert len(axis.patches) == 2
        dots = [found for found in axis.collections if isinstance(found, PathCollection)]
        drawn = np.concatenate([np.asarray(found.get_offsets())[:, 0] for found in dots])
        bars = [found.get_segments()[0] for found in axis.collections if found not in dots]
        accuracy = runs[runs["task"] == task].groupby("known")["accuracy"]
        assert [bar[0, 0] for bar in bars] == pytest.approx(100 * accuracy.quantile(0.025))
        assert [bar[1, 0] for bar in bars] == pytest.approx(100 * accuracy.quantile(0.975))
        assert sorted(drawn) == pytest.approx(sorted(100 * own["value"]))
