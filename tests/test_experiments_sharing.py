"""Sharing an encoder: what is shown and told, what is found, what the rule says of tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from train_runs import MODEL, held_out

from exhibits.experiments import sharing
from exhibits.experiments.plans import Plan
from exhibits.experiments.pretraining import TRULY, WRONGLY, Runs
from exhibits.experiments.sharing import APART, MEASURES, SHARED, SIDES_PX, verdict
from salib import build_model
from salib.files.artifact import MADE_FROM
from salib.training.data import Samples


@pytest.fixture(scope="module")
def shown(ramps, tmp_path_factory):
    """Three held-out tiles whose pixels state their ground, see `conftest.ramp`."""
    folder = held_out(ramps, tmp_path_factory.mktemp("valid") / "tiles", valid=3)
    return folder, sharing.held_out(folder)


@pytest.mark.parametrize("side_px", [32, 96, 128])
def test_the_same_ground_is_shown_at_each_size_and_its_true_gsd_stated(shown, side_px):
    """Red rises by 0.6 levels per lores pixel east; the mean is that of the tile's middle."""
    folder, views = shown
    samples = Samples(folder, split="valid")
    for sensor in ("lores", "hires"):
        images, gsd_m = views[sensor].shown(side_px)
        assert images.shape == (3, 3, side_px, side_px)
        for number in range(3):
            red = images[number, 0].double()
            per_px = float(red[:, -1].mean() - red[:, 0].mean()) / (side_px - 1)
            true_m = samples.gsd_m(number, "lores") * per_px / 0.6
            assert gsd_m[number].item() == pytest.approx(true_m, rel=0.02)
            middle = samples.image(number, "lores")[127:129, 127:129, 0].mean()
            assert float(red.mean()) == pytest.approx(middle, abs=0.7)


def test_recall_is_the_share_of_pairs_found_both_ways():
    one = torch.eye(5)
    assert sharing.recall(one, 3 * one) == 1
    assert sharing.recall(one, one[[1, 0, 2, 3, 4]]) == pytest.approx(3 / 5)
    other = torch.randn(5, 5, generator=torch.Generator().manual_seed(5))
    found = {0: 0, 1: 0}
    for way, (a, b) in enumerate(((one, other), (other, one))):
        for number, row in enumerate(a):
            cosines = [float(row @ each / row.norm() / each.norm()) for each in b]
            found[way] += int(np.argmax(cosines)) == number
    assert found[0] != found[1]
    assert sharing.recall(one, other) == pytest.approx((found[0] + found[1]) / 10)


@pytest.mark.parametrize("told", [TRULY, WRONGLY])
def test_what_is_told_wrongly_is_the_gsd_of_64_pixels(shown, told, monkeypatch):
    model, view, seen = build_model(MODEL, 0).eval(), shown[1]["lores"], []
    encode = type(model).encode_view

    def look(self, sensor, given):
        seen.append((sensor, given.images.shape[-1], given.gsd_m))
        return encode(self, sensor, given)

    monkeypatch.setattr(type(model), "encode_view", look)
    assert sharing.projected(model, view, 32, told=told).shape == (3, MODEL.dim)
    ((sensor, side, stated),) = seen
    assert (sensor, side) == ("lores", 32)
    torch.testing.assert_close(stated, view.shown(32 if told == TRULY else 64)[1])


def chips(seed, *, count):
    """Noise of a brightness that tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.array(["a", "b"] * count)
    light = 60 + 120 * (labels == "b")
    images = light[:, None, None, None] + rng.integers(0, 40, (2 * count, 64, 64, 3))
    return images.astype(np.uint8), labels


def test_moved_is_0_where_the_gsd_cannot_be_heard_and_neighbours_find_brightness(monkeypatch):
    told, describe = set(), sharing.described

    def noted(model, images, gsd_m):
        told.add((images.shape[1], gsd_m))
        return describe(model, images, gsd_m)

    monkeypatch.setattr(sharing, "described", noted)
    for position in ("patches", "ground"):
        model = build_model(replace(MODEL, position=position), 0).eval()
        rows = [*sharing.neighbours(model, chips(0, count=11), chips(1, count=5))]
        values = {(row["test"], row["side_px"], row["told"]): row["value"] for row in rows}
        assert len(values) == len(rows) == 2 * len(SIDES_PX) - 1 + 1
        assert (values[sharing.MOVED, 64, WRONGLY] > 0) == (position == "ground")
        assert values[sharing.EUROSAT, 64, TRULY] == 1
        metres = {row["side_px"]: row["gsd_m"] for row in rows}
        assert all(metres[side] * side == pytest.approx(640) for side in SIDES_PX)
    assert told == {(side, gsd_m) for side in SIDES_PX for gsd_m in (640 / side, 10)} | {(64, 20)}


def plan_of(root):
    sizes = {"preset": "tiny", "seeds": 1, "steps": 2, "tuning": 0, "batch": 3}
    budget = {"smoke": sizes | {"bank": 1, "asked": 1}}
    texts = dict.fromkeys(("page", "question", "expected", "rule"), "")
    how = {"budget": budget, "minutes": {"smoke": 1.0}, "root": root}
    return Plan(name="sharing", recipe=1, **texts, **how)


def test_a_run_leaves_out_chips_that_are_not_there_and_adds_them_alone_later(
    ramps, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    held_out(ramps, tmp_path / "runs/smoke/tiles", valid=3)
    (tmp_path / "runs/smoke/tiles" / MADE_FROM).touch()
    plan = plan_of(tmp_path / "results")
    monkeypatch.setattr(sharing, "real_chips", lambda *_: [])
    rows = sharing.run(plan, "smoke")
    assert set(rows["test"]) == {sharing.RADAR, sharing.HIRES}
    assert rows.groupby(["arm", "seed"]).size().tolist() == [2 * len(SIDES_PX)] * 2
    assert (sharing.table(rows).loc["EuroSAT, 10 m"] == "not run").all()
    assert verdict(rows).answer == "cannot be decided here"
    monkeypatch.setattr("salib.training.train.learn_all", lambda *_: 1 / 0)  # runs are kept
    monkeypatch.setattr(sharing, "retrieval", lambda *_: 1 / 0)
    monkeypatch.setattr(sharing, "real_chips", lambda *_: [chips(0, count=3), chips(1, count=2)])
    more = sharing.run(plan, "smoke")
    assert len(more) == len(rows) + 2 * 2 * len(SIDES_PX)
    assert not more.duplicated([*sharing.KEYS]).any()
    monkeypatch.setattr(Runs, "train", lambda *_, **__: 1 / 0)
    pd.testing.assert_frame_equal(
        sharing.run(plan, "smoke"), pd.read_csv(plan.rows("smoke", sharing.KEYS).path)
    )
    assert sharing.run(plan, "gpu").empty
    assert sharing.scales_figure(more).axes


def rows_of(changes, *, seeds=3, skip=()):
    """Both arms at 0.5 and a little noise; `changes` are added to the shared one's measures."""
    rng, lines = np.random.default_rng(1), []
    for seed in range(seeds):
        for arm in (APART, SHARED):
            for test, sides, told in dict.fromkeys(MEASURES.values()):
                for side in sides:
                    more = changes.get((test, side), 0) if arm == SHARED else 0
                    value = 0.5 + more + 0.001 * rng.standard_normal()
                    at = {"arm": arm, "seed": seed, "test": test, "side_px": side, "told": told}
                    lines.append(at | {"value": value, "gsd_m": 640 / side, "rate": 7e-4})
    rows = pd.DataFrame(lines).drop_duplicates(["arm", "seed", "test", "side_px", "told"])
    return rows[~rows["test"].isin(skip)]


EUROSAT_M, RADAR = (sharing.EUROSAT, 64), (sharing.RADAR, 64)
HIRES, FINER = (sharing.HIRES, 64), (sharing.EUROSAT, 128)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, "does not hold"),
        ({FINER: 0.1}, "holds"),
        ({HIRES: 0.1, RADAR: 0.1, EUROSAT_M: 0.1}, "does not hold"),
        ({(sharing.EUROSAT, 32): 0.1, (sharing.HIRES, 80): 0.1}, "does not hold"),
        ({HIRES: -0.1, FINER: 0.1}, "does not hold"),
        ({RADAR: -0.05, FINER: 0.1}, "does not hold"),
        ({EUROSAT_M: -0.05, FINER: 0.1}, "does not hold"),
        ({HIRES: 0.1, EUROSAT_M: 0.05, RADAR: 0.05, FINER: 0.1}, "holds"),
    ],
)
def test_the_rule(changes, answer):
    assert verdict(rows_of(changes)).answer == answer


def test_what_cannot_be_decided():
    assert verdict(rows_of({})[:0]).answer == "not run"
    for rows in (
        rows_of({FINER: 0.1}, seeds=1),
        rows_of({HIRES: 0.1}, skip=[sharing.EUROSAT]),
        rows_of({}).query("arm == @APART"),
    ):
        assert verdict(rows).answer == "cannot be decided here"


def test_a_loss_that_the_seeds_cannot_exclude_leaves_it_open():
    rows = rows_of({FINER: 0.1, HIRES: 0.02})
    one = rows["seed"].eq(0) & rows["test"].eq(sharing.HIRES) & rows["arm"].eq(SHARED)
    rows.loc[one, "value"] -= 0.06
    assert verdict(rows).answer == "cannot be decided here"


def test_the_table_has_means_of_the_right_rows():
    rows = rows_of({(sharing.EUROSAT, 80): 0.1, (sharing.EUROSAT, 128): 0.2})
    table = sharing.table(rows)
    assert table.index.tolist() == [*MEASURES, "rate"]
    assert float(table.loc["EuroSAT, 5 m", SHARED].split()[0]) == pytest.approx(70, abs=0.2)
    assert float(table.loc["EuroSAT, 20 m", SHARED].split()[0]) == pytest.approx(50, abs=0.2)
    assert float(table.loc["EuroSAT, other GSDs", SHARED].split()[0]) == pytest.approx(56, abs=0.2)
    assert float(table.loc["the same, told 10 m", APART].split()[0]) == pytest.approx(50, abs=0.2)
