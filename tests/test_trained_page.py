"""Tables of the shipped model's page, against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from exhibits.pretrained import (
    changes_table,
    classes_figure,
    eurosat_table,
    others_table,
    runs_table,
)


def row(arm, value, *, encoder=None, seed=None, readout="mean", probe="k-NN 20", **more):
    told = {"arm": arm, "encoder": encoder, "seed": seed, "readout": readout, "probe": probe}
    return told | {"value": value, "ci_low": value - 0.02, "ci_high": value + 0.03} | more


def test_a_trained_model_has_the_interval_over_its_seeds_and_a_baseline_that_of_the_chips():
    rows = pd.DataFrame(
        [
            row("image statistics", 0.6),
            *(row("laptop", 0.8 + n / 100, encoder="lores", seed=n) for n in range(3)),
            row(
                "laptop",
                0.7,
                encoder="lores",
                seed=0,
                readout="mean, not standardised",
                probe="k-NN 5, L2",
            ),
            row("croma", 0.65, encoder="hires", seed=0),  # no such column
            row("short: recipe", 0.65, encoder="lores", seed=0),
        ]
    )
    table = eurosat_table(rows)
    assert table.index.tolist()[:2] == [("image statistics", "mean"), ("laptop", "mean")]
    assert (table.iloc[2:] == "not run").all(axis=None)
    assert ("CROMA, same recipe and time", "mean") in table.index[2:]
    assert table.loc[("image statistics", "mean"), "k-NN 20"] == "60.0 [58.0, 63.0]"
    half = 4.302653 * 1 / np.sqrt(3)  # Student's t of two degrees of freedom, a deviation of 1
    assert table.loc[("laptop", "mean"), "k-NN 20"] == f"81.0 [{81 - half:.1f}, {81 + half:.1f}]"
    assert table.loc[("laptop", "mean"), "k-NN 5, L2"] == "70.0 [68.0, 73.0]"
    assert table.loc[("laptop", "mean"), "linear"] == ""


def test_changes_are_paired_by_seed():
    """Seeds differ by ten points, the change by one: its interval is narrow."""
    base = [0.5, 0.6, 0.7]
    rows = [row("short: recipe", value, seed=n) for n, value in enumerate(base)]
    rows += [row("short: no views", value - 0.01, seed=n) for n, value in enumerate(base)]
    rows += [
        row("short: recipe", value - 0.05 - 0.01 * n, seed=n, readout="mean before whitening")
        for n, value in enumerate(base)
    ]
    rows += [row("laptop", 0.9, seed=0)]
    table = changes_table(pd.DataFrame(rows))["k-NN 20"]
    assert table["no views"] == "-1.0 [-1.0, -1.0]"
    half = 4.302653 / np.sqrt(3)
    assert table["no whitening"] == f"-6.0 [{-6 - half:+.1f}, {-6 + half:+.1f}]"
    assert set(table.index) == {"no views", "no whitening"}


def test_classes_are_drawn_from_the_one_that_is_found_best():
    how = {"probe": "k-NN 20, weighted", "of Crop": 0.9, "of River": 0.2, "of Sea": 0.99}
    figure = classes_figure(pd.DataFrame([row("laptop", 0.8, encoder="lores", seed=0, **how)]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Sea", "Crop", "River"]
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([99, 90, 20])


def test_runs_leaves_short_ones_out_and_names_what_was_retrieved():
    whole = {"arm": "laptop", "seed": 1, "steps": 9, "valid_recall1_lores_hires": 0.7312}
    table = runs_table(pd.DataFrame([whole, {**whole, "arm": "short: recipe"}]))
    assert table.index.tolist() == [("laptop", 1)]
    assert table.loc[("laptop", 1), "recall1 lores hires"] == 0.731
    assert np.isnan(table.loc[("laptop", 1), "recall1 radar lores"])


def test_other_tasks_are_means_over_seeds_and_marked_where_procedural():
    told = {"probe": "knn_weighted", "task": "kilns", "procedural": True}
    rows = [{**told, "model": "SA-low", "value": value} for value in (0.5, 0.6)]
    rows += [{**told, "model": "SA-low", "value": 0.9, "probe": "knn"}]
    rows += [{**told, "task": "ucmerced", "procedural": False, "model": "SA-joint", "value": 0.8}]
    table = others_table(pd.DataFrame(rows))
    assert table.loc["kilns (procedural)", "SA-low"] == 55.0
    assert table.loc["ucmerced", "SA-joint"] == 80.0
    assert table.loc["ucmerced", "SA-low"] == ""
