"""Tables hold the paper's numbers, ours beside them, and verdicts by rules set in advance."""

from pathlib import Path

import pandas as pd
import pytest

from exhibits import tables
from exhibits.tables.claims import read_claims

PAPER = Path(__file__).parents[1] / "paper"
# Table 2 as printed, cell by cell: SA-high, SA-low, CROMA, and the column in bold.
PRINTED = {
    ("neural", "m-pv4ger"): (83.27, 87.77, 88.53, "CROMA"),
    ("neural", "m-euronet"): (23.92, 31.48, 49.04, "CROMA"),
    ("neural", "m-forestnet"): (23.51, 27.83, 28.27, "CROMA"),
    ("neural", "m-brick-kiln"): (70.27, 70.07, 75.13, "CROMA"),
    ("kmeans", "m-pv4ger"): (50.00, 52.83, 50.07, "SA-low"),
    ("kmeans", "m-forestnet"): (8.98, 8.28, 10.84, "CROMA"),
    ("kmeans", "m-euronet"): (11.91, 12.12, 8.34, "SA-low"),
    ("kmeans", "m-brick-kiln"): (50.86, 51.83, 49.62, "SA-low"),
    ("kmeans_umap", "m-pv4ger"): (49.57, 48.36, 51.65, "CROMA"),
    ("kmeans_umap", "m-forestnet"): (9.18, 8.88, 8.18, "SA-high"),
    ("kmeans_umap", "m-euronet"): (9.32, 11.32, 9.36, "SA-low"),
    ("kmeans_umap", "m-brick-kiln"): (52.07, 45.40, 51.66, "SA-high"),
    ("knn", "m-pv4ger"): (92.39, 91.89, 92.29, "SA-high"),
    ("knn", "m-forestnet"): (38.26, 37.26, 35.44, "SA-high"),
    ("knn", "m-euronet"): (58.70, 64.40, 66.30, "CROMA"),
    ("knn", "m-brick-kiln"): (75.37, 74.97, 76.47, "CROMA"),
}
TASKS = ("m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln")


def rows(lead=0.0, *, procedural=True, source="geobench", tasks=TASKS) -> pd.DataFrame:
    """Rows where the SA columns lead CROMA by `lead`, a little more on each next task."""
    base = {"SA-high": 0.5 + lead, "SA-low": 0.5 + lead, "CROMA": 0.5}
    base |= {"SA-low untrained": 0.31, "image statistics": 0.37, "random convolution": 0.41}
    made = [
        (task, probe, model, value + 0.001 * index * (model[:2] == "SA"))
        for index, task in enumerate(tasks)
        for probe in tables.PROBE_NAMES
        for model, value in base.items()
    ] + [(task, "none", "majority class", 0.23) for task in tasks]
    frame = pd.DataFrame(made, columns=["task", "probe", "model", "value"])
    frame["kind"] = ["untrained" if "untrained" in model else "trained" for model in frame["model"]]
    return frame.assign(
        source=source,
        procedural=procedural,
        ci_low=frame["value"] - 0.02,
        ci_high=frame["value"] + 0.02,
    )


def test_table2_csv_holds_the_numbers_and_the_bold_cells_of_the_paper():
    printed = pd.read_csv(PAPER / "table2.csv")
    found = {}
    for line in printed.to_dict("records"):
        best = max(tables.MODELS, key=lambda name: line[name])
        values = tuple(line[name] for name in tables.MODELS)
        found[line["probe"], line["printed_name"]] = (*values, best)
    assert found == PRINTED
    bold = [best for *_, best in found.values()]
    assert (bold.count("CROMA"), len(bold) - bold.count("CROMA")) == (8, 8)


def test_table1_csv_holds_the_numbers_of_the_paper_and_ours_follow():
    index = pd.DataFrame({"z": [15] * 7 + [17] * 3})
    table = tables.table1(index, PAPER / "table1.csv", name="ours", description="procedural")
    printed = [("small", 15, 21497), ("full", 15, 146502), ("micro", 17, 188060)]
    expected = [*printed, ("ours", 15, 7), ("ours", 17, 3)]
    assert list(zip(table.index, table["Base Y"], table["Samples"], strict=True)) == expected
    assert "procedural" in table["Description"].iloc[-1]


def test_table2_bolds_the_best_of_ours_and_the_same_cells_as_the_paper():
    html = tables.table2(rows(0.1), PAPER / "table2.csv").to_html()
    assert "procedural" in html
    assert "60.0 [58.0,\xa062.0]" in html
    frame = tables.table2(rows(0.1), PAPER / "table2.csv")
    frame._compute()
    bold = {cell for cell, css in frame.ctx.items() if ("font-weight", "bold") in css}
    printed = pd.read_csv(PAPER / "table2.csv").to_dict("records")
    for number, line in enumerate(printed):
        winner = PRINTED[line["probe"], line["printed_name"]][-1]
        paper_bold = [tables.MODELS[c - 3] for r, c in bold if r == number and 3 <= c < 6]
        assert paper_bold == [winner]
        assert {c for r, c in bold if r == number and c < 3} == {0, 1}


def test_table2_html_is_the_same_each_time_and_says_na_without_rows():
    first = tables.table2(rows(0.1), PAPER / "table2.csv").to_html()
    assert first == tables.table2(rows(0.1), PAPER / "table2.csv").to_html()
    fewer = rows(0.1)
    fewer = fewer[fewer["probe"] != "kmeans_umap"]
    assert "n/a" in tables.table2(fewer, PAPER / "table2.csv").to_html()
    without = rows(0.1).query("model != 'random convolution' and task == 'm-brick-kiln'")
    cells = tables.table2(without, PAPER / "table2.csv").data
    assert (cells["baselines, procedural", "random convolution"] == "n/a").all()
    assert (cells["ours, procedural", "CROMA"] == "n/a").sum() == 12


def test_a_cell_with_two_rows_is_refused():
    twice = pd.concat([rows(), rows()])
    with pytest.raises(ValueError, match="one row per cell"):
        tables.table2(twice, PAPER / "table2.csv")


@pytest.mark.parametrize(
    ("lead", "improvement", "similar"),
    [
        (0.10, "holds", "holds"),
        (-0.01, "does not hold", "holds"),
        (-0.10, "does not hold", "does not hold"),
    ],
)
def test_verdicts_follow_the_rule_and_only_real_rows_judge_the_paper(lead, improvement, similar):
    claims = PAPER / "claims.yml"
    real = tables.verdicts(rows(lead, procedural=False), claims)
    made = tables.verdicts(rows(lead), claims)
    assert real.loc["improvement", "verdict"] == improvement
    assert real.loc["similar-or-better", "verdict"] == similar
    assert made.loc["improvement", "verdict"] == "not run"
    assert made.loc["improvement", "verdict_procedural"] == improvement
    assert not {"dataset-sizes", "knows-scale", "patches-4092"} & set(made.index)


def test_quotes_of_the_claims_are_not_empty_and_ids_are_unique():
    claims = read_claims(PAPER / "claims.yml")
    assert len({claim["id"] for claim in claims}) == len(claims)
    assert min(len(claim["quote"]) for claim in claims) > 10


def test_summaries_average_over_the_geobench_tasks_and_miss_nothing_silently():
    table = rows(lead=0.1).assign(n_test=300, precision="bf16")
    table["attention"] = ["sdpa" if task == "m-forestnet" else "fused" for task in table["task"]]
    found = tables.knn_accuracy(table, "m-forestnet")
    assert found["scale_alibi"]["value"] == pytest.approx(0.6 + 0.001)
    assert found["scale_alibi"]["ci"] == pytest.approx((0.581, 0.621))
    assert found["scale_alibi"]["n"] == 300
    assert found["scale_alibi"]["ran_on"] == {"precision": "bf16", "attention": "sdpa"}
    mean = tables.mean_accuracy(table, procedural=True)
    assert mean["scale_alibi"]["ran_on"]["attention"] == "fused, sdpa"
    assert mean["scale_alibi"]["value"] == pytest.approx(0.6 + 0.001 * (0 + 1 + 2 + 3) / 4)
    assert mean["statistics"]["value"] == pytest.approx(0.37)
    assert not any(tables.knn_accuracy(table, "eurosat").values())
    with pytest.raises(ValueError, match="must hold tasks of Table 2"):
        tables.mean_accuracy(table, procedural=False)


def test_over_seeds_gives_the_mean_and_student_s_interval():
    table = tables.over_seeds(
        pd.DataFrame(
            {
                "seed": [0, 1, 0, 1],
                "task": ["a", "a", "b", "b"],
                "column": "SA-low",
                "accuracy": [0.5, 0.7, 0.3, 0.3],
            }
        )
    )
    assert table.loc["SA-low", "a"] == "60.0 [-67.1, 187.1]"  # t = 12.71 for two seeds
    assert table.loc["SA-low", "b"] == "30.0 [30.0, 30.0]"


def test_gains_show_their_interval_with_its_sign():
    row = {"column": "SA-low", "less": "CROMA", "points": -0.5, "ci_low": -1.25, "ci_high": 0.3}
    table = tables.gains(pd.DataFrame([row]))
    assert table.loc["SA-low", "over"] == "CROMA"
    assert table.loc["SA-low", "points"] == "-0.5 [-1.2, +0.3]"


def _timed():
    return pd.DataFrame(
        {
            "case": ["ours bf16", "ours float32", "released bf16", "released float32"],
            "wall_s": [2.0, 5.0, 3.0, 8.0],
            "cpu_s": [4.0, 10.0, 6.0, 16.0],
            "speedup_cpu": [4.0, 1.6, 2.67, 1.0],
            "speedup_wall": [4.5, 1.7, 2.5, 1.0],
            "peak_mib": [300.0, 500.0, 800.0, 1000.0],
            "of_limit": [0.5, 0.6, 0.4, 0.3],
        }
    )


def test_speed_stands_beside_the_released_code_which_comes_first():
    table = tables.speed(_timed()).data
    assert table.index.tolist()[:2] == ["released float32", "released bf16"]
    assert table.loc["ours bf16", "share of peak"] == pytest.approx(0.3)
    assert table.loc["ours bf16", "times as fast"] == 4
    waited = tables.speed(_timed(), clock="wall").data
    assert waited.loc["ours bf16", "times as fast"] == 4.5
    assert "CPU seconds" not in waited
    alone = tables.speed(_timed()[:2].drop(columns=["speedup_cpu", "of_limit"])).data
    assert alone.columns.tolist() == ["seconds", "CPU seconds", "peak MiB"]


def test_speed_ratios_are_of_cpu_time_and_need_both_sides():
    ratios = tables.speed_ratios(_timed())
    assert ratios["bf16.float32"] == pytest.approx(16 / 4)
    assert ratios["bf16.bf16"] == pytest.approx(6 / 4)
    assert ratios["float32.float32"] == pytest.approx(16 / 10)
    assert ratios["bf16.peak"] == pytest.approx(0.3)
    assert tables.speed_ratios(_timed()[:2]) == {}
    waited = tables.speed_ratios(_timed(), clock="wall")
    assert (waited["bf16.float32"], waited["bf16.bf16"]) == (4.5, pytest.approx(3 / 2))
    renamed = _timed().replace({"case": {"ours bf16": "ours compiled bf16"}})
    assert tables.speed_ratios(renamed)["compiled.bf16.bf16"] == pytest.approx(6 / 4)


def test_memory_growth_is_one_for_linear_and_the_ratio_for_quadratic():
    rows = [
        {"case": case, "tokens": tokens, "peak_mib": (tokens / 64) ** power}
        for case, power in (("linear", 1), ("dense", 2))
        for tokens in (16384, 1024, 4096)
    ]
    rows.append({"case": "once", "tokens": 1024, "peak_mib": 3.0})
    growth = tables.memory_growth(pd.DataFrame(rows))
    assert growth == pytest.approx({"linear": 1, "dense": 16})


@pytest.mark.parametrize("origin", ["procedural", "real"])
def test_table_2_as_text_holds_the_cells_of_the_table_and_marks_the_best(origin):
    made = rows(lead=0.1).assign(protocol="default", metric="accuracy")
    made["procedural"] = origin == "procedural"
    caption, *lines = tables.text_table2(made, PAPER / "table2.csv").splitlines()
    assert f"ours and the baselines' on {origin} images, the paper's on real ones" in caption
    assert len(lines) == 17
    assert lines[0].split()[:5] == ["probe", "task", "SA-high", "SA-low", "CROMA"]
    frame = tables.table2(made, PAPER / "table2.csv").data
    for line, (_, cells) in zip(lines[1:], frame.iterrows(), strict=True):
        for cell in cells:
            assert cell in line
    assert "*88.53*" in lines[1]


def test_percentages_are_cut_under_the_papers_protocol():
    made = rows().assign(protocol="paper", metric="accuracy")
    made.loc[made["model"] == "CROMA", "value"] = 352 / 993
    shown = tables.table2(made, PAPER / "table2.csv").data
    assert shown.iloc[0]["ours, procedural", "CROMA"].startswith("35.44 ")


def test_scores_stand_by_their_own_metric():
    own = pd.concat(
        [
            rows(tasks=("m-bigearthnet",)).assign(metric=metric)
            for metric in ("micro F1", "micro mAP")
        ]
    )
    frame = tables.score_table(own).data
    assert set(frame.index.get_level_values("task")) == {"m-bigearthnet"}
    assert set(frame.index.get_level_values("metric")) == {"micro F1", "micro mAP"}
    alone = frame.xs("none", level="probe")
    assert alone["majority class"].str.startswith("23.0 [").all()
    assert (alone.drop(columns="majority class") == "n/a").all(axis=None)
    knn = frame.xs("k-NN", level="probe")
    assert knn["image statistics"].str.startswith("37.0 [").all()
    with pytest.raises(ValueError, match="must hold scores"):
        tables.score_table(own.query("metric == 'mIoU'"))


def test_costs_a_sample_stand_as_measured():
    cost = {"case": ["theirs", "ours"], "cpu_ms_a_sample": [10.0, 2.5], "speedup_cpu": [1, 4.0]}
    frame = tables.speed(pd.DataFrame(cost | {"peak_rss_mb": [900.4, 100.0]})).data
    assert frame.loc["ours"].tolist() == [2.5, 4.0, 100.0]
    assert "of the limit" not in frame


def test_a_probe_of_a_readers_own_stands_under_its_name():
    own = rows(tasks=("m-bigearthnet",)).assign(metric="micro F1")
    own["probe"] = own["probe"].replace({"knn": "class_mean"})
    probes = tables.score_table(own).data.index.get_level_values("probe")
    assert "class_mean" in probes
    header = tables.text_results(own).splitlines()[1]
    assert "class_mean" in header
    assert header.count("no probe") == 1
