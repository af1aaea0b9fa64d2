"""Validation: both losses on samples that no step learns from, and the model of the least sum."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from train_runs import MODEL, TRAIN, digests, held_out

from salib import load_model
from salib.config import TrainConfig
from salib.model import Pretraining, build_model
from salib.training.data import Samples
from salib.training.step import Run, draw_step, outputs
from salib.training.train import pretrain
from salib.training.validation import Validation, agreement

LOSSES = ["valid_contrastive", "valid_reconstruction"]


@pytest.fixture(scope="module")
def validated(tiles, tmp_path_factory):
    return held_out(tiles, tmp_path_factory.mktemp("validated") / "tiles", valid=2)


def measured(tiles, model, *, config: TrainConfig = TRAIN, seed=2):
    run = Run(config=config, steps=config.steps, seed=seed, rank=0, ranks=1)
    validation = Validation.of(tiles, run, model)
    assert validation is not None
    return list(validation.measure(run, model)[0].values())


def test_weights_are_the_same_with_and_without_validation(validated, tmp_path, monkeypatch):
    found = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr("salib.training.validation.Validation.of", lambda *_: None)
        out = pretrain(MODEL, TRAIN, tiles=validated, out=tmp_path / name, seed=2)
        found.append(digests(out))
        columns = [n for n in pd.read_csv(out / "log.csv") if n.startswith("valid_")]
        assert ((out / "best").exists(), columns[:2]) == (
            (True, LOSSES) if name == "with" else (False, [])
        )
    assert found[0]["model.safetensors"] == found[1]["model.safetensors"]


def test_it_is_measured_twenty_times_and_at_the_last_step(validated, tmp_path):
    """43 steps: each second one, and the last; other rows are empty."""
    config = replace(TRAIN, steps=43, batch=2)
    out = pretrain(MODEL, config, tiles=validated, out=tmp_path / "model", seed=2)
    log = pd.read_csv(out / "log.csv")
    for name in LOSSES:
        steps = log.step[log[name].notna()].tolist()
        assert steps == [*range(1, 43, 2), 42]


def test_the_logged_losses_are_those_of_the_weights_after_the_step_and_best_has_the_least(
    validated, tmp_path, monkeypatch
):
    """The last two of eight steps are far too long and do harm."""
    config = replace(TRAIN, steps=8)
    monkeypatch.setattr(
        "salib.training.loop.learning_rate",
        lambda _, step, *, steps: 0.5 if step >= steps - 2 else 1e-2,
    )
    out = pretrain(MODEL, config, tiles=validated, out=tmp_path / "model", seed=2)
    log = pd.read_csv(out / "log.csv")
    total = log[LOSSES].sum(axis=1)
    assert 0 < total.idxmin() < len(log) - 2
    for folder, row in ((out, len(log) - 1), (out / "best", total.idxmin())):
        found = measured(validated, load_model(folder), config=config)
        assert found == pytest.approx(log.loc[row, LOSSES].to_list(), rel=1e-5)


def test_no_step_learns_from_a_held_out_sample(validated, tmp_path, monkeypatch):
    """Nor do the band statistics come from one."""
    seen = []

    def draw(samples, *args):
        seen.append(samples.rows)
        return draw_step(samples, *args)

    monkeypatch.setattr("salib.training.loop.draw_step", draw)
    out = pretrain(MODEL, replace(TRAIN, batch=2), tiles=validated, out=tmp_path / "a", seed=2)
    assert {split for rows in seen for split in rows.split} == {"train"}
    expected = Samples(validated, split="train").band_stats()
    assert load_model(out).config.band_stats == expected != Samples(validated).band_stats()


def test_it_sees_the_held_out_samples_alone_and_the_same_ones_each_time(validated, monkeypatch):
    seen = []

    def look(model, views, config):
        seen.extend(views)
        return outputs(model, views, config)

    monkeypatch.setattr("salib.training.validation.outputs", look)
    opened = []

    class Opened(Samples):
        def image(self, place, sensor):
            opened.append(self.rows.split[place])
            return super().image(place, sensor)

    monkeypatch.setattr("salib.training.validation.Samples", Opened)
    model = build_model(MODEL, 0)
    first, second = (measured(validated, model) for _ in range(2))
    other = measured(validated, model, seed=3)
    assert set(opened) == {"valid"}
    assert first == second != other
    images = [torch.cat([image.flatten() for image in batch.images.values()]) for batch, _ in seen]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert {len(batch.gsd_m["radar"]) for batch, _ in seen} == {2}  # there are no more
    assert model.training


@pytest.mark.parametrize(
    ("valid", "batch", "batches"), [(1, 4, 0), (3, 2, 1), (4, 2, 2), (5, 1, 4)]
)
def test_it_takes_four_whole_batches_at_most_and_needs_two_samples(
    tiles, tmp_path, valid, batch, batches
):
    folder = held_out(tiles, tmp_path / "tiles", valid=valid)
    alone = {"reconstruction": 1.0}  # which batches of one sample allow
    run = Run(config=replace(TRAIN, batch=batch, objective=alone), steps=3, seed=2, rank=0, ranks=1)
    validation = Validation.of(folder, run, build_model(MODEL, 0))
    assert (validation is None) == (not batches)
    if validation is not None:
        assert [len(drawn.gsd_m["lores"]) for [(drawn, _)] in validation.batches] == [
            batch
        ] * batches


def test_a_measurement_changes_neither_weights_nor_random_numbers(validated):
    model = build_model(MODEL, 0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert np.isfinite(measured(validated, model)).all()
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(weight.grad is None for weight in model.parameters())


def test_an_image_as_near_as_another_is_not_found():
    """Vectors that are all one find nothing; told apart, everything."""
    same = {name: torch.ones(6, 4) for name in ("radar", "lores")}
    told = agreement(Pretraining(same, {}, {}, {}, torch.ones(())))
    assert told["recall1_radar_lores"] == 0
    apart = {name: torch.eye(6) for name in same}
    assert agreement(Pretraining(apart, {}, {}, {}, torch.ones(())))["recall1_lores_radar"] == 1
