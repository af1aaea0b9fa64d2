"""Rows of every kind of task: one class an image, several, or one a pixel; radar; by path."""

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from earth import write_geobench
from salib import build_model, preset
from salib.config import KINDS as MODEL_KINDS
from salib.evaluate import PROTOCOLS, Candidate, encoders_of, evaluate, find_tasks, geobench_tasks
from salib.evaluate import columns as columns_module
from salib.evaluate import run as run_module
from salib.evaluate.columns import baselines, embed_split
from salib.evaluate.croma import PublishedCroma
from salib.evaluate.probes import segmentation as segmentation_module
from salib.evaluate.probes.fitting import Examples
from salib.evaluate.probes.segmentation import HEADS, fit_segmentation, segment
from salib.evaluate.rows import COLUMNS
from salib.evaluate.scores.metrics import mask_counts, mask_scores, mean_iou
from salib.evaluate.tasks import SPLITS
from salib.evaluate.tasks.inputs import InputRule
from salib.evaluate.tasks.task import Task
from salib.model import save_model
from salib.model.precision import instructions

SMALL = replace(preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
KINDS = {
    "m-bigearthnet": {"micro F1", "micro mAP"},
    "m-so2sat": {"accuracy"},
    "m-cashew-plant": {"mIoU"},
}
QUICK = replace(PROTOCOLS["default"], knn_k=3, hidden=8, epochs=2, resamples=50, umap_neighbours=5)


@contextlib.contextmanager
def few_steps():
    """Heads of segmentation that are fitted in a moment; what they learn is tested below."""
    brief = replace(segmentation_module.SCHEDULE, learning_rates=(1e-2,), epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation_module, "SCHEDULE", brief)
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    sizes = {"train": 24, "valid": 8, "test": 12, "processes": 2}
    return write_geobench(tmp_path_factory.mktemp("g") / "g", seed=3, tasks=tuple(KINDS), **sizes)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    return [
        save_model(build_model(replace(SMALL, **MODEL_KINDS[kind]), 0), out / kind)
        for kind in ("scale_alibi", "croma")
    ]


@pytest.fixture(scope="module")
def rows(bench, models):
    tasks = geobench_tasks(bench, procedural=True)
    with few_steps():
        return evaluate(encoders_of(models, seed=0), tasks, protocol=QUICK, image_px=16, seed=0)


def test_each_kind_is_scored_by_its_own_metrics_under_its_own_probes(rows):
    assert tuple(rows.columns) == COLUMNS
    several = {"none", "neural", "knn", "knn_weighted", "knn5", "linear"}
    probes = {
        "m-bigearthnet": several,
        "m-so2sat": several | {"kmeans", "kmeans_umap"},
        "m-cashew-plant": {"none", "linear", "decoder"},
    }
    for task, metrics in KINDS.items():
        own = rows[rows["task"] == task]
        assert set(own["metric"]) == metrics
        assert set(own["probe"]) == probes[task]
        cells = own.groupby(["model", "probe", "metric"]).size()
        assert (cells == 1).all()
        baselines = {"majority class", "image statistics", "random convolution"}
        assert baselines <= set(own["model"])
        assert (own["n_test"] == 12).all()


def test_values_lie_in_their_intervals_and_differences_are_those_of_the_values(rows):
    assert ((rows["ci_low"] <= rows["value"]) & (rows["value"] <= rows["ci_high"])).all()
    assert ((rows["ci_low"] >= 0) & (rows["ci_high"] <= 1)).all()
    values = rows.set_index(["task", "model", "probe", "metric"])["value"]
    compared = rows.dropna(subset="difference")
    assert len(compared) > len(rows) / 2
    for row in compared.itertuples():
        theirs = values[row.task, "CROMA", row.probe, row.metric]
        assert row.difference == pytest.approx(row.value - theirs)
        assert row.difference_low <= row.difference <= row.difference_high
        assert 0 <= row.p_value <= 1


@pytest.mark.parametrize("sensor", ["radar", "joint"])
def test_radar_and_joint_columns_stand_where_there_is_radar_alone(rows, sensor):
    found = rows[rows["sensor"] == sensor]
    assert set(found["task"]) == {"m-so2sat"}
    names = {f"SA-{sensor}", f"CROMA-{sensor}"}
    assert set(found["model"]) == names | {f"{name} untrained" for name in names}
    assert set(found["image_px"]) == {16}
    assert set(found["gsd_m"]) == {20.0}  # 32 pixels of 10 m seen as 16
    assert found["procedural"].all()


def test_rows_say_how_they_were_computed(rows):
    baseline = rows["kind"] == "baseline"
    assert set(rows.loc[baseline, "attention"]) == {"none"}
    assert set(rows.loc[~baseline, "attention"]) == {"sdpa"}  # 4 or 16 keys: too few for "fused"
    assert set(rows["precision"]) == {"float32"}
    assert set(rows["instructions"]) == {instructions(torch.device("cpu"))}


def test_a_row_of_several_labels_or_masks_stands_alone(rows, bench, models):
    tasks = [t for t in geobench_tasks(bench, procedural=True) if t.kind != "classification"]
    columns = encoders_of(models, seed=0)
    few = {name: columns[name] for name in ("SA-low", "SA-low untrained")}
    with few_steps():
        alone = evaluate(few, tasks[::-1], protocol=QUICK, image_px=16, seed=0)
    key = ["task", "model", "probe", "metric"]
    both = alone.merge(rows, on=key, suffixes=("", "_all"))
    assert len(both) == len(alone)
    for name in ("value", "ci_low", "ci_high"):
        np.testing.assert_array_equal(both[name], both[f"{name}_all"])


def test_a_probe_without_enough_train_items_is_left_out_with_a_warning(bench, models, caplog):
    tasks = find_tasks(["m-so2sat"], geobench=bench, procedural=True)
    columns = encoders_of(models[:1], seed=0)
    few = replace(QUICK, knn_k=25, umap_neighbours=24, probes=("kmeans", "kmeans_umap", "knn"))
    rows = evaluate(columns, tasks, protocol=few, image_px=16, seed=0)
    assert set(rows["probe"]) == {"none", "kmeans"}
    assert "m-so2sat has no knn: it needs 25 train items, not 24" in caplog.text
    assert "m-so2sat has no kmeans_umap: it needs 25 train items, not 24" in caplog.text


def test_a_damaged_task_loses_no_row_of_those_before_it(rows, bench, models, tmp_path):
    broken = tmp_path / "bench"
    shutil.copytree(bench, broken)
    for path in broken.glob("segmentation_v1.0/m-cashew-plant/*.hdf5"):
        path.write_bytes(path.read_bytes()[:500])
    tasks = find_tasks(["m-bigearthnet", "m-cashew-plant"], geobench=broken, procedural=True)
    few = {
        name: encoder for name, encoder in encoders_of(models, seed=0).items() if "SA-low" in name
    }
    out = tmp_path / "rows.csv"
    with few_steps(), pytest.raises(ValueError, match="m-cashew-plant"):
        evaluate(few, tasks, protocol=QUICK, image_px=16, seed=0, out=out)
    kept = pd.read_csv(out)
    assert set(kept["task"]) == {"m-bigearthnet"}
    whole = rows[(rows["task"] == "m-bigearthnet") & rows["model"].isin(kept["model"])]
    assert len(kept) == len(whole)


def test_the_paper_scores_one_class_an_image_alone(bench, models):
    tasks = geobench_tasks(bench, procedural=True)
    with pytest.raises(ValueError, match="under protocol 'paper' must be classification"):
        evaluate(encoders_of(models, seed=0), tasks, protocol="paper", image_px=16, seed=0)


class Colours(torch.nn.Module):
    """Tokens that are the mean colours of patches of 8 px, row by row."""

    def embed(self, images, *, sensor, gsd_m, tokens=False):
        means = torch.nn.functional.avg_pool2d(images.float(), 8).flatten(2).mT
        return means if tokens else means.mean(1)


COLOURS = Candidate(model=Colours(), sensor="lores")


def painted(monkeypatch, shape=(32, 32), shift=0):
    """Images painted by class: above, then left of a line; test masks tell other classes."""
    rng = np.random.default_rng(0)
    number = {"train": 24, "valid": 8, "test": 8}
    monkeypatch.setattr(columns_module, "BATCH", 3)
    monkeypatch.setattr(run_module, "check_disjoint", lambda task: None)

    def iter_split(task, split, *, modality):
        for _ in range(number[split]):
            mask = np.zeros(shape, np.int64)
            mask[: 8 * rng.integers(1, shape[0] // 8)] = 1
            mask[:, : 8 * rng.integers(1, shape[1] // 8)] += 2
            paint = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [200, 200, 0]], np.uint8)
            yield paint[mask], (mask + (shift if split == "test" else 0)) % 4

    monkeypatch.setattr(columns_module, "iter_split", iter_split)
    return Task(
        name="painted",
        source="geobench",
        path=Path("painted"),
        procedural=True,
        rules=(InputRule(native_gsd_m=1.0, why="painted"),),
        class_names=tuple("abcd"),
        kind="segmentation",
    )


@pytest.mark.parametrize("shape", [(32, 32), (32, 64)])
@pytest.mark.parametrize("column", ["colours", "image statistics"])
def test_tokens_and_masks_of_one_place_belong_together(monkeypatch, tmp_path, column, shape):
    task = painted(monkeypatch, shape)
    one = {column: COLOURS if column == "colours" else baselines(0)[column]}
    train, valid, test = (
        embed_split(task, split, one, image_px=32, folder=tmp_path) for split in SPLITS
    )
    assert train.features[column].shape[:3] == (24, 4, 4)
    assert train.features[column].filename.parent == tmp_path
    assert test.labels.shape == (8, 32, 32)
    examples = (Examples(part.features[column], part.labels) for part in (train, valid))
    head = fit_segmentation(*examples, kind="linear", n_classes=4, seed=0)
    told = segment(head, test.features[column], (32, 32))
    assert mean_iou(mask_counts(told, test.labels, 4).sum(0)) > 0.75
    common = run_module.majority(task, train.labels, test.labels)
    assert mean_iou(mask_counts(common, test.labels, 4).sum(0)) < 0.3


def test_masks_of_test_images_do_not_reach_a_head_or_the_majority(monkeypatch, tmp_path):
    given = []

    def spy(predicted, masks, n_classes):
        given[-1].append(predicted)
        return mask_scores(predicted, masks, n_classes)

    monkeypatch.setattr(run_module, "mask_scores", spy)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    colours = {"CROMA": replace(COLOURS, trained=False)}
    for shift in (0, 1):
        task = painted(monkeypatch, shift=shift)
        given.append([])
        with few_steps():
            evaluate(colours, [task], protocol=QUICK, image_px=32, seed=0)
    assert len(given[0]) == 1 + 3 * len(HEADS)
    for one, other in zip(*given, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list(tmp_path.glob("salib-tokens-*"))


def test_a_disk_without_room_for_tokens_is_named(monkeypatch, tmp_path):
    task = painted(monkeypatch)
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=f"Not enough disk space in {tmp_path}"):
        embed_split(task, "train", {"colours": COLOURS}, image_px=32, folder=tmp_path)


def test_models_become_columns_by_what_they_are(models, tmp_path):
    columns = encoders_of([*models, models[0]], seed=0)
    sensors = {name: (e.sensor, e.views.get(e.sensor), e.trained) for name, e in columns.items()}
    assert sensors["SA-high"] == ("hires", 2, True)
    assert sensors["SA-low"] == ("lores", 1, True)
    assert sensors["CROMA untrained"] == ("lores", 1, False)
    joint = columns["SA-joint"], columns["CROMA-joint untrained"]
    assert joint[0].views == {"radar": 1, "lores": 1, "hires": 2}
    assert joint[1].views == {"radar": 1, "lores": 1}
    assert len(columns) == 2 * (4 + 3)
    more = [save_model(build_model(SMALL, 1), tmp_path / part / "run/model") for part in "ab"]
    names = encoders_of([models[0], *more], seed=0)
    assert {"SA-low", *(f"SA-low ({path})" for path in more)} <= set(names)
    with pytest.raises(ValueError, match="one model folder"):
        encoders_of([], seed=0)


def test_published_croma_sees_colours_in_their_bands_and_the_mean_elsewhere():
    seen = {}

    class Spy(torch.nn.Module):
        def embed(self, bands, sensor, gsd_m, **options):
            seen.update(bands=bands, options=options)
            return bands.mean((2, 3))

    images = torch.tensor([[255, 0, 127.5]]).view(1, 3, 1, 1).expand(-1, -1, 8, 8)
    wrapped = PublishedCroma(Spy())
    assert wrapped.embed(images, sensor="lores", gsd_m=torch.ones(1), tokens=True).shape == (1, 12)
    assert seen["options"] == {"tokens": True}
    expected = torch.full((12,), 0.5)
    expected[[3, 2, 1]] = torch.tensor([1.0, 0.0, 0.5])
    torch.testing.assert_close(seen["bands"].mean((0, 2, 3)), expected)
    with pytest.raises(ValueError, match="red, green, blue"):
        wrapped.embed(images[:, :2], sensor="lores", gsd_m=torch.ones(1))


def test_tasks_are_found_by_name_and_missing_ones_say_how_to_get_them(bench):
    every = find_tasks(geobench=bench, procedural=True)
    assert [task.name for task in every] == ["m-bigearthnet", "m-so2sat", "m-cashew-plant"]
    (one,) = find_tasks(["m-so2sat"], geobench=bench, procedural=True)
    assert one.name == "m-so2sat"
    with pytest.raises(ValueError, match=r"m-forestnet, which are not.*salib fetch geobench"):
        find_tasks(["m-forestnet"], geobench=bench, procedural=True)
    with pytest.raises(ValueError, match="GEO_BENCH_DIR"):
        find_tasks()
    with pytest.raises(ValueError, match="gsd_m must say"):
        find_tasks(images=bench)
