"""What experiments on pretraining share: rates, folders, losses, neighbours, pairs."""

import shutil
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from exhibits.chips import chips_by_split
from exhibits.experiments import pretraining
from exhibits.experiments.plans import Rows
from exhibits.experiments.pretraining import (
    RATES,
    TUNED,
    Runs,
    nearest_accuracy,
    paired,
    points,
    real_chips,
    resampled,
    slug,
)
from salib.evaluate.scores.statistics import Interval
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.files.artifact import MADE_FROM

TOY = ["dim=16", "depth=2", "heads=2", "decoder_dim=16", "decoder_heads=2", "image_px=32"]


@pytest.fixture
def runs(tiles, tmp_path):
    """Runs on the tests' tiles."""
    (tmp_path / "runs/smoke").mkdir(parents=True)
    shutil.copytree(tiles, tmp_path / "runs/smoke/tiles")
    (tmp_path / "runs/smoke/tiles" / MADE_FROM).touch()
    how = {"name": "toy", "profile": "smoke", "preset": "tiny", "steps": 11, "tuning": 0}
    return Runs(**how, batch=4, root=tmp_path / "runs")


def test_a_run_has_a_folder_its_rate_and_the_weighted_loss_of_its_last_quarter(runs):
    weights = "objective={contrastive: 0.5, reconstruction: 3}"
    folder, loss = runs.train("One, & two", [*TOY, weights, "crop_px=[24, 48]"], seed=3, rate=2e-3)
    assert folder == runs.root / "smoke/models" / slug("toy One, & two 3 11 0.002")
    told = yaml.safe_load((folder / "run.yml").read_text())
    assert (told["train"]["learning_rate"], told["train"]["batch"], told["seed"]) == (2e-3, 4, 3)
    assert not told["model"]["whiten"]
    log = pd.read_csv(folder / "log.csv").tail(2).mean()  # of 11 steps
    expected = 0.5 * log["contrastive"] + 3 * log["reconstruction"]
    assert loss == pytest.approx(expected, rel=1e-5)


def test_without_tiles_a_line_says_how_to_make_them(tmp_path):
    how = {"preset": "tiny", "steps": 1, "tuning": 0, "root": tmp_path}
    with pytest.raises(ValueError, match=r"01_curation.ipynb .* -f profiles/gpu.yml") as told:
        Runs(name="toy", profile="gpu", **how).train("a", [], seed=0, rate=1e-3)
    assert "\n" not in str(told.value)


def test_each_arm_takes_the_rate_of_its_least_loss_and_asks_once(tmp_path, monkeypatch):
    losses = {"a": (3.0, 2.0, 2.5), "b": (0.5, 0.7, 0.9)}
    asked = []

    def train(self, arm, changes, *, seed, rate, steps):
        asked.append((arm, changes, seed, steps))
        return tmp_path, losses[arm][RATES.index(rate)]

    monkeypatch.setattr(Runs, "train", train)
    how = {"name": "toy", "profile": "smoke", "preset": "tiny", "steps": 9}
    arms = {"a": ["x=1"], "b": []}
    for _ in range(2):
        found = Rows(tmp_path / "tuning.csv", TUNED, recipe=1)
        rates = Runs(**how, tuning=5).tuned(found, arms)
        assert rates == {"a": RATES[1], "b": RATES[0]}
    assert asked == [(arm, arms[arm], pretraining.TUNING, 5) for arm in "ab" for _ in RATES]
    assert Runs(**how, tuning=0).tuned(found, arms) == dict.fromkeys("ab", RATES[1])


def test_resampling_keeps_the_ground_and_averages_it():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    half = resampled(images, 4)
    expected = images.reshape(3, 4, 2, 4, 2, 3).astype(float).mean((2, 4))
    assert np.abs(half - expected).max() <= 0.5
    assert resampled(images, 8) is images
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None] * 10, (2, 16, 16, 3))
    finer = resampled(np.ascontiguousarray(ramp), 32)
    at = (np.arange(32) + 0.5) / 2 - 0.5  # of the pixels' centres
    np.testing.assert_allclose(finer[0, 4:-4, 5, 1], 10 * at[4:-4], atol=1)


def test_neighbours_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    bank, asked = (rng.normal(2, 3, (n, 5)).astype(np.float32) for n in (31, 17))
    classes, truth = rng.choice(["x", "y", "z"], 31), rng.choice(["x", "y", "z"], 17)
    z = [(part - bank.mean(0)) / bank.std(0) for part in (bank, asked)]
    right = 0
    for row, name in zip(z[1], truth, strict=True):
        near = [float(row @ one / np.linalg.norm(row) / np.linalg.norm(one)) for one in z[0]]
        chosen = [classes[number] for number in np.argsort(near)[-1:]]
        right += chosen == [name]
    assert nearest_accuracy(bank, classes, asked, truth, k=1) == pytest.approx(right / 17)
    assert nearest_accuracy(bank, classes, bank, classes, k=1) == 1
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in z]
    weights = np.exp(unit[1] @ unit[0].T / 0.07)
    votes = np.stack([weights[:, classes == name].sum(axis=1) for name in "xyz"], axis=1)
    every = (np.array([*"xyz"])[votes.argmax(axis=1)] == truth).mean()
    assert nearest_accuracy(bank, classes, asked, truth, k=99) == pytest.approx(every)


def test_a_pair_is_of_one_seed_and_its_interval_is_students():
    wide = pd.DataFrame(
        {"arm": ["a", "a", "a", "b", "b"], "seed": [0, 1, 2, 1, 0], "v": [5.0, 7, 99, 3, 4]}
    )
    value, low, high = paired(wide, ("a", "v"), ("b", "v"))
    half = 12.706205 * np.std([1, 4], ddof=1) / np.sqrt(2)
    assert (value, low, high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    told = points({"x": Interval(0.012, -0.034, 0.056), "y": Interval(-0.5, np.nan, np.nan)})
    assert told == "x +1.2 points [-3.4, +5.6]; y -50.0 points"


def test_without_the_zip_there_are_no_chips(tmp_path, monkeypatch):
    for folder in (tmp_path, None):
        monkeypatch.setenv("SALIB_DATA_DIR", str(folder))
        if folder is None:
            monkeypatch.delenv("SALIB_DATA_DIR")
        assert real_chips("eurosat", (0, 1, 2, 3)) == []


def test_chips_are_split_without_twins_and_brought_to_one_size(tmp_path, monkeypatch):
    path = tmp_path / CHIP_ZIPS["eurosat"].file
    with zipfile.ZipFile(path, "w") as archive:
        for name, chip in [("a", n) for n in range(6)] + [("b", n) for n in range(5)]:
            image = np.full((8 + chip % 3,) * 2 + (3,), 9 * chip + ord(name), np.uint8)
            held = cv2.imencode(".png", image)[1].tobytes()
            archive.writestr(f"of/{name}/{name}{chip}.png", held)
    layout = CHIP_ZIPS["eurosat"]._replace(bounds=(0, 2, 3, 5), twins=())
    found = chips_by_split(path, layout, side_px=4)
    assert {split: labels.tolist() for split, (_, labels) in found.items()} == {
        "train": ["a", "a", "b", "b"],
        "valid": ["a", "b"],
        "test": ["a", "a", "b", "b"],
    }
    assert found["test"][0].shape == (4, 4, 4, 3)
    monkeypatch.setenv("SALIB_DATA_DIR", str(tmp_path))
    bank, asked = real_chips("eurosat", (0, 2, 3, 5), side_px=4)
    assert np.array_equal(bank[0], found["train"][0])
    assert np.array_equal(asked[0], found["test"][0])
    first = chips_by_split(path, layout, splits=["valid"], side_px=4)
    assert first.keys() == {"valid"}
    assert np.array_equal(first["valid"][0], found["valid"][0])
    twins = tuple(f"a{number}" for number in range(5))
    fewer = chips_by_split(path, layout._replace(twins=twins), side_px=4)
    assert sum(labels.tolist().count("a") for _, labels in fewer.values()) <= 1
    assert fewer["train"][1].tolist().count("b") == 2
