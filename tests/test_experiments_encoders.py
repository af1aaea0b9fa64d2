"""Nearest neighbours of frozen encoders and held-out tiles: oracles, and what must not matter."""

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from train_runs import MODEL as TOY
from train_runs import TRAIN

from earth.triples import render_triple, squares
from exhibits.experiments.encoders import (
    CLASSES,
    EXPLAINED,
    RECALLS,
    Chips,
    eurosat_chips,
    held_out,
    painted_chips,
)
from exhibits.experiments.released import Wrapped, build_released, draw_released
from salib.config import BandStats
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.training.data import Samples
from salib.training.step import Run, losses_of, outputs

RGB = BandStats(mean=(90.0,) * 3, std=(50.0,) * 3)
MODEL = replace(TOY, band_stats=(BandStats(mean=(90.0,) * 2, std=(50.0,) * 2), RGB, RGB))
RUN = Run(config=TRAIN, steps=3, seed=5, rank=0, ranks=1)


def bright(count, banked):
    """Chips of two classes that lores tells by their brightness and hires does not tell."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 20, (count, 16, 16, 3)).astype(np.uint8)
    lores = noise + (150 * labels[:, None, None, None]).astype(np.uint8)
    return Chips(lores, noise.repeat(2, axis=1).repeat(2, axis=2), labels, banked)


def test_what_tells_the_classes_apart_is_found_and_noise_is_not():
    model = build_released(MODEL, (), 3)
    chips = bright(161, 60)
    assert chips.accuracy(model, "lores") == 1
    assert 0.3 < chips.accuracy(model, "hires") < 0.7
    renamed = replace(chips, labels=np.where(np.arange(161) < 60, chips.labels, 1 - chips.labels))
    assert renamed.accuracy(model, "lores") == 0


def test_both_encoders_are_told_the_metres_per_pixel_of_one_ground(monkeypatch):
    model, told = build_released(MODEL, (), 3), []
    embed = model.embed

    def noted(shown, sensor, gsd_m, **how):
        told.append(shown.shape[-1] * gsd_m)
        return embed(shown, sensor, gsd_m, **how)

    monkeypatch.setattr(model, "embed", noted)
    for sensor in ("lores", "hires"):
        bright(9, 6).accuracy(model, sensor)
    assert told == [160, 160]


def test_painted_chips_are_of_one_ground_and_the_bank_comes_first(monkeypatch):
    assert len(CLASSES) == len(set(CLASSES)) == 15
    monkeypatch.setattr("exhibits.experiments.encoders.CLASSES", ("water", "forest"))
    chips = painted_chips(2, 1, seed=4)
    assert chips.banked == 4
    assert chips.labels.tolist() == [0, 0, 1, 1, 0, 1]
    for at, corner in zip((2, 3, 5), squares(4, "forest", 3), strict=True):
        expected = render_triple(4, *corner)
        assert np.array_equal(chips.lores[at], expected.lores)
        assert np.array_equal(chips.hires[at], expected.hires)
    assert chips.hires.shape == (6, 128, 128, 3)


def test_real_chips_are_of_the_bank_and_of_what_follows_the_valid_ones(tmp_path, monkeypatch):
    layout = CHIP_ZIPS["eurosat"]
    with zipfile.ZipFile(tmp_path / layout.file, "w") as archive:
        for number in range(2):
            for chip in range(302):
                held = io.BytesIO()
                pixels = np.full((64, 64, 3), 100 * number + chip % 100, np.uint8)
                Image.fromarray(pixels).save(held, "PNG")
                archive.writestr(f"chips/class{number}/class{number}_{chip}.png", held.getvalue())
    monkeypatch.delenv("SALIB_DATA_DIR", raising=False)
    assert eurosat_chips(3, 1) is None
    monkeypatch.setenv("SALIB_DATA_DIR", str(tmp_path))
    chips = eurosat_chips(3, 1)
    assert chips is not None
    assert chips.banked == 6
    assert chips.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert chips.lores[:, 0, 0, 0].tolist() == chips.hires[:, 9, 77, 2].tolist()
    names = sorted(range(302), key=lambda n: hashlib.sha256(f"class0_{n}.png".encode()).digest())
    shown = [n % 100 for n in (*names[:3], names[300])]
    assert chips.lores[chips.labels == 0, 0, 0, 0].tolist() == shown
    assert (chips.lores[:, 0, 0, 0] // 100).tolist() == chips.labels.tolist()
    monkeypatch.setenv("SALIB_DATA_DIR", str(tmp_path / "elsewhere"))
    assert eurosat_chips(3, 1) is None


def test_reconstruction_is_one_minus_the_mean_loss_of_eq_4_and_retrieval_a_share(tiles):
    samples, model = Samples(tiles, split="train"), build_released(MODEL, (), 3)
    found = held_out(model, samples, samples, RUN, 2)
    assert set(found) == {*RECALLS, EXPLAINED}
    errors = []
    with torch.no_grad():
        for step in range(2):
            views = draw_released(samples, model, RUN, step)
            errors.append(losses_of(outputs(model, views, TRAIN), TRAIN)["reconstruction"].item())
    assert found[EXPLAINED] == pytest.approx(1 - sum(errors) / 6, rel=1e-5)
    for name in RECALLS:
        assert found[name] * 8 == round(found[name] * 8)  # of two batches of four


def test_each_recall_is_read_off_its_own_pair_of_sensors(tiles, monkeypatch):
    """Lores and hires show a sample's own ground; radar that of its neighbour in the batch."""

    def agree(model, views, config):
        [out] = outputs(model, views, config)
        own = torch.eye(TRAIN.batch, MODEL.dim)
        shown = {"radar": own.roll(1, dims=0), "lores": own, "hires": own}
        return [replace(out, projections=shown)]

    monkeypatch.setattr("exhibits.experiments.encoders.outputs", agree)
    samples, model = Samples(tiles, split="train"), build_released(MODEL, (), 3)
    found = held_out(model, samples, samples, RUN, 1)
    found.pop(EXPLAINED)
    assert found == {"radar to lores": 0, "lores to hires": 1, "hires to lores": 1}


def test_black_radar_is_shown_and_true_radar_is_to_be_reconstructed(tiles, monkeypatch):
    samples = Samples(tiles, split="train")
    for number in range(len(samples)):
        radar = samples.image(number, "radar").copy()
        radar[::2] = 255
        samples._cache[number, "radar"] = radar
    seen = []

    def noted(model, views, config):
        seen.append(float(views[0][0].images["radar"].max()))
        return outputs(model, views, config)

    monkeypatch.setattr("exhibits.experiments.encoders.outputs", noted)
    model = build_released(MODEL, (), 3)
    plain = held_out(model, samples, samples, RUN, 1)
    black = held_out(model, Wrapped(samples), samples, RUN, 1)
    own = held_out(model, Wrapped(samples), Wrapped(samples), RUN, 1)
    assert seen[0] > 254 > seen[1]
    assert black[EXPLAINED] != own[EXPLAINED]
    assert plain["lores to hires"] == black["lores to hires"]
