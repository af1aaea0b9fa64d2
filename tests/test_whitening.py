"""Embeddings of training images lose their correlation, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_runs import MODEL, TRAIN, digests, held_out, stopped

from salib import load_model
from salib.config import SENSOR_NAMES
from salib.model import build_model
from salib.model.whitening import JOINT, Whitening
from salib.training.batches import draw_batch
from salib.training.data import Samples
from salib.training.train import pretrain

WHITE = replace(MODEL, whiten=True)


def vectors(count: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    mixed = torch.randn(16, 16, generator=generator) * 2.0 ** torch.arange(16)
    return torch.randn(count, 16, generator=generator) @ mixed + 5


def test_axes_have_no_correlation_and_the_first_has_most_variance():
    x = vectors()
    whitening = Whitening(WHITE)
    assert torch.equal(whitening("lores", x), x)
    whitening.fit(dict.fromkeys((*SENSOR_NAMES, JOINT), x))
    out = whitening("lores", x)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(16), atol=1e-3, rtol=0)
    covariance = torch.cov(out.T)
    largest = np.linalg.eigvalsh(np.cov(x.T.numpy().astype(float)))[::-1]
    expected = largest / (largest + 0.01 * largest.mean())  # what the least variance leaves
    np.testing.assert_allclose(covariance, np.diag(expected), atol=2e-3)
    np.testing.assert_allclose(whitening("lores", x.mean(dim=0)), out.mean(dim=0), atol=1e-3)
    strongest = np.linalg.eigh(np.cov(x.T.numpy().astype(float)))[1][:, -1]
    along = np.corrcoef((x.numpy() - x.numpy().mean(0)) @ strongest, out[:, 0])[0, 1]
    assert abs(along) > 0.999


def test_axes_do_not_depend_on_the_signs_that_a_solver_chooses(monkeypatch):
    x, solve = vectors(), torch.linalg.eigh

    def turned(matrix):
        values, axes = solve(matrix)
        return values, axes * torch.tensor([1.0, -1.0] * 8, dtype=axes.dtype)

    found = []
    for solver in (solve, turned):
        monkeypatch.setattr(torch.linalg, "eigh", solver)
        whitening = Whitening(WHITE)
        whitening.fit(dict.fromkeys((*SENSOR_NAMES, JOINT), x))
        found.append(whitening("radar", x))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_run_ends_with_axes_of_its_training_samples(tiles, tmp_path, dropout):
    """The weights are those of a run without; vectors of other crops are all but uncorrelated."""
    config, tiles = replace(TRAIN, sensor_dropout=dropout), held_out(tiles, tmp_path / "t", valid=2)
    folders = [
        pretrain(model, config, tiles=tiles, out=tmp_path / str(model.whiten), seed=2)
        for model in (MODEL, WHITE)
    ]
    for path in (".", "best"):
        plain, white = (load_model(folder / path) for folder in folders)
        held = white.state_dict()
        assert all(torch.equal(value, held[name]) for name, value in plain.state_dict().items())
        samples, found = (
            Samples(tiles, split="train"),
            {name: [] for name in (*SENSOR_NAMES, JOINT)},
        )
        for step in range(60):
            batch = draw_batch(
                samples, replace(config, jitter=0.0, sensor_dropout=0.0), seed=9, step=step
            )
            for name in SENSOR_NAMES:
                found[name].append(white.embed(batch.images[name], name, batch.gsd_m[name]))
            found[JOINT].append(white.embed(batch.images, gsd_m=batch.gsd_m))
        for name, parts in found.items():
            covariance = torch.cov(torch.cat(parts).T)
            assert covariance.diagonal()[0] == pytest.approx(1, abs=0.3), name
            first = torch.corrcoef(torch.cat(parts).T)[:4, :4] - torch.eye(4)
            assert first.abs().max() < 0.25, name  # those that the drawn crops tell well
    image = torch.rand(2, 3, 32, 32) * 255
    tokens = white.embed(image, "lores", 5.0, tokens=True)
    torch.testing.assert_close(
        tokens.mean(dim=1), white.embed(image, "lores", 5.0), atol=1e-4, rtol=0
    )
    expected = white.whitening("lores", plain.embed(image, "lores", 5.0))
    torch.testing.assert_close(white.embed(image, "lores", 5.0), expected, atol=1e-4, rtol=0)


def test_an_interrupted_run_ends_with_the_same_axes(tiles, tmp_path, monkeypatch):
    whole = pretrain(WHITE, TRAIN, tiles=tiles, out=tmp_path / "whole", seed=2)
    stopped(tiles, tmp_path / "cut", monkeypatch, at=2, model=WHITE)
    again = pretrain(WHITE, TRAIN, tiles=tiles, out=tmp_path / "cut", seed=2)
    assert digests(again) == digests(whole)


def test_a_run_that_starts_from_whitened_weights_measures_its_axes_anew(tiles, tmp_path):
    first = pretrain(WHITE, TRAIN, tiles=tiles, out=tmp_path / "first", seed=2)
    short = replace(TRAIN, steps=1, learning_rate=1e-12)
    second = pretrain(WHITE, short, tiles=tiles, out=tmp_path / "second", seed=2, init=first)
    one, other = (load_model(folder).whitening["lores"] for folder in (first, second))
    torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-3, atol=1e-3)


def test_without_it_nothing_is_stored():
    assert not [name for name in build_model(MODEL, 0).state_dict() if "whitening" in name]
