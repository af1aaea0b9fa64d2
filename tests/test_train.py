"""The loop: the same seed twice, kept and replaced runs, learning, what a run records."""

import json
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from train_runs import MODEL, TRAIN, both_losses, digests

from salib.config import KINDS
from salib.files.artifact import RECIPES, file_digest
from salib.model import Mask, build_model, draw_masks
from salib.model.precision import instructions
from salib.training.batches import draw_batch
from salib.training.data import Samples
from salib.training.loop import _ahead
from salib.training.sampling import stream
from salib.training.train import pretrain


@pytest.mark.parametrize("kind", ["scale_alibi", "croma"])
def test_one_seed_gives_identical_weights_and_another_does_not(tiles, tmp_path, kind):
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        config = replace(MODEL, **KINDS[kind])
        out = pretrain(config, TRAIN, tiles=tiles, out=tmp_path / name, seed=seed)
        runs.append(digests(out))
    assert runs[0] == runs[1]
    assert runs[0]["model.safetensors"] != runs[2]["model.safetensors"]


def test_a_finished_run_is_kept_whatever_code_made_it(tiles, tmp_path, monkeypatch):
    said, out = [], tmp_path / "model"
    for source in ("a" * 64, "a" * 64, "b" * 64):
        monkeypatch.setattr("salib.training.train.source_digest", lambda _, source=source: source)
        pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=0, report=said.append)
    kept = f"kept: {out} was pretrained from the same data and configuration"
    changed = " (the code has changed since, aaaaaaaa to bbbbbbbb; the recipe has not)"
    assert said == [kept, kept + changed]


def test_a_finished_model_is_replaced_only_when_told_to(tiles, tmp_path, monkeypatch):
    out, other = tmp_path / "model", replace(TRAIN, steps=2)
    first = digests(pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=0))
    with pytest.raises(ValueError, match=r"differs in seed, train: choose .* --overwrite"):
        pretrain(MODEL, other, tiles=tiles, out=out, seed=1)
    assert digests(out) == first
    with monkeypatch.context() as raised:
        raised.setitem(RECIPES, "pretrain", RECIPES["pretrain"] + 1)
        with pytest.raises(ValueError, match="which differs in recipe: choose"):
            pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=0)
    pretrain(MODEL, other, tiles=tiles, out=out, seed=1, overwrite=True)
    assert len(pd.read_csv(out / "log.csv")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["notes.txt", "best/notes.txt", "config.json"])
def test_a_folder_with_other_files_is_not_replaced_even_when_told_to(tiles, tmp_path, name):
    out = pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0)
    if name == "config.json":  # as somebody else's model would have it
        (out / "made_from.json").unlink()
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("somebody's")
    held = digests(out)
    with pytest.raises(ValueError, match="out must be new, empty or written by the same"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=1, overwrite=True)
    assert digests(out) == held
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("native", "precision"), [(False, "float32"), (True, "bf16")])
def test_auto_trains_in_bfloat16_only_where_the_device_multiplies_it(
    tiles, tmp_path, monkeypatch, native, precision
):
    monkeypatch.setattr("salib.model.precision.multiplies_bfloat16", lambda device: native)
    weights = {}
    for said in ("auto", "float32", "bf16"):
        config = replace(TRAIN, precision=said)
        out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / said, seed=1)
        weights[said] = file_digest(out / "model.safetensors")
        used = precision if said == "auto" else said
        assert json.loads((out / "timing.json").read_text())["precision"] == used
    assert weights["auto"] == weights[precision]
    assert weights["float32"] != weights["bf16"]


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_batches_drawn_ahead_come_in_order_and_errors_with_them(workers):
    def draw(step):
        time.sleep(0.002 * (step % 3 == 0))
        return step

    assert list(_ahead(draw, range(7), workers)) == list(range(7))
    assert list(_ahead(draw, range(5, 7), workers)) == [5, 6]
    assert list(_ahead(draw, range(0), workers)) == []
    broken = _ahead(lambda step: 1 // (step - 2), range(7), workers)
    assert [next(broken), next(broken)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(broken)


def test_a_loop_that_ends_early_draws_no_more():
    drawn, threads = [], threading.active_count()
    batches = _ahead(lambda step: drawn.append(step) or step, range(1000), 4)
    with closing(batches):
        assert next(batches) == 0
    assert len(drawn) <= 5
    assert threading.active_count() <= threads


def test_threads_draw_the_batches_of_one(tiles):
    drawn = []
    for workers in (1, 6):
        draw = partial(draw_batch, Samples(tiles), TRAIN, seed=2)  # with no tile decoded yet
        drawn.append(list(_ahead(lambda step, draw=draw: draw(step=step), range(12), workers)))
    for one, many in zip(*drawn, strict=True):
        for name, image in one.images.items():
            assert torch.equal(image, many.images[name])
            assert torch.equal(one.gsd_m[name], many.gsd_m[name])


def test_models_of_both_kinds_see_the_same_places_and_masks(tiles):
    masks = {}
    for kind in ("scale_alibi", "croma"):
        model = build_model(replace(MODEL, **KINDS[kind]), 0)
        masks[kind] = draw_masks(model.config, 4, rows=3, cols=5, generator=stream(9, "masks", 2))
    for name in ("radar", "lores"):
        assert torch.equal(masks["croma"][name].keep, masks["scale_alibi"][name].keep)


def test_repairing_any_one_sensor_raises_the_contrastive_loss_of_the_model(tiles):
    """After a little training on one batch, each sensor's own place is its best match."""
    model = build_model(MODEL, 0)
    samples = Samples(tiles)
    batch = draw_batch(samples, replace(TRAIN, batch=4, jitter=0.5), seed=1, step=0)
    masks = draw_masks(model.config, 4, rows=4, cols=4, generator=stream(1, "masks", 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        contrastive, _ = both_losses(model, batch, masks)
        optimizer.zero_grad()
        contrastive.backward()
        optimizer.step()
    with torch.no_grad():
        right, _ = both_losses(model, batch, masks)
        for name in model.config.sensors:
            turned = {**batch.images, name: batch.images[name].roll(1, dims=0)}
            mask = {
                **masks,
                name: Mask(masks[name].keep.roll(1, dims=0), masks[name].hidden.roll(1, dims=0)),
            }
            wrong, _ = both_losses(model, replace(batch, images=turned), mask)
            assert wrong > right + 0.1, name


def test_training_lowers_each_loss_and_neither_explains_the_fall_of_the_other(tiles, tmp_path):
    """Falls of both losses when their sum is learnt, and when one of them alone is."""
    config, falls = replace(TRAIN, steps=60, learning_rate=3e-3), {}
    weights = {
        "both": {"contrastive": 1.0, "reconstruction": 1.0},
        "contrastive": {"contrastive": 1.0, "reconstruction": 1e-9},
        "reconstruction": {"contrastive": 1e-9, "reconstruction": 1.0},
    }
    for learnt, objective in weights.items():
        config = replace(config, objective=objective)
        out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / learnt, seed=1)
        log = pd.read_csv(out / "log.csv")[["contrastive", "reconstruction"]]
        falls[learnt] = log[:10].mean() - log[-10:].mean()
    assert falls["both"].contrastive > 0.4
    assert falls["both"].reconstruction > 1.2
    for alone, other in (("contrastive", "reconstruction"), ("reconstruction", "contrastive")):
        assert falls[alone][alone] > 0.4
        assert falls[alone][other] < 0.5 * falls["both"][other]


def test_diverging_runs_stop_with_the_step(tiles, tmp_path):
    with pytest.raises(ValueError, match=r"loss must stay finite, got .*nan.* at step \d"):
        pretrain(
            MODEL,
            replace(TRAIN, learning_rate=1e30, steps=20),
            tiles=tiles,
            out=tmp_path / "model",
            seed=0,
        )
    assert not (tmp_path / "model").exists()


def test_what_a_model_was_made_from_and_on_stands_beside_it(tiles, tmp_path):
    out = pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=7)
    made = json.loads((out / "made_from.json").read_text())
    assert made["seed"] == 7
    assert made["recipe"] == RECIPES["pretrain"]
    assert made["tiles"] == {path.name: file_digest(path) for path in sorted(tiles.iterdir())}
    timing = json.loads((out / "timing.json").read_text())
    rate = TRAIN.steps * TRAIN.batch / timing.pop("seconds")
    assert timing.pop("images_per_second") == pytest.approx(rate)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert timing.pop("attention")
    assert 0 <= timing.pop("waiting") < 1
    assert timing == {
        "device": device,
        "precision": "float32",
        "instructions": instructions(torch.device(device)),
        "steps": TRAIN.steps,
    }


def test_the_attention_that_ran_is_recorded_by_name(tiles, tmp_path, monkeypatch):
    for name in ("sdpa", "reference"):
        monkeypatch.setattr("salib.model.ScaleAlibi.impl", name)
        out = pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / name, seed=7)
        assert json.loads((out / "timing.json").read_text())["attention"] == [name]


def test_other_pixels_under_the_same_index_are_another_run(tiles, tmp_path):
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "m", seed=0)
    # the radar archive of another world, the same places
    (tmp_path / "radar.pmtiles").write_bytes((tiles / "lores.pmtiles").read_bytes() + b"x")
    with pytest.raises(ValueError, match="which differs in tiles: choose"):
        pretrain(MODEL, TRAIN, tiles=tmp_path, out=tmp_path / "m", seed=0)
