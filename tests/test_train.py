"""The loop: the same seed twice, ranks, kept runs, learning."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from salib import TrainConfig, load_model, preset
from salib.artifact import file_digest
from salib.config import KINDS
from salib.data import Samples, draw_batch, stream
from salib.model import Mask, build_model
from salib.ranks import drawing_threads
from salib.train import _ahead, learning_rate, pretrain, step_losses

MODEL = replace(preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
TRAIN = TrainConfig(
    steps=3, batch=4, learning_rate=1e-3, crop_px=(24, 48), image_px=32, precision="float32"
)


def digests(out):
    return {p.name: file_digest(p) for p in out.iterdir() if p.name != "timing.json"}


@pytest.mark.parametrize("kind", ["scale_alibi", "croma"])
def test_one_seed_gives_identical_weights_and_another_does_not(tiles, tmp_path, kind):
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        config = replace(MODEL, **KINDS[kind])
        out = pretrain(config, TRAIN, tiles=tiles, out=tmp_path / name, seed=seed)
        runs.append(digests(out))
    assert runs[0] == runs[1]
    assert runs[0]["model.safetensors"] != runs[2]["model.safetensors"]


def test_a_finished_run_is_kept_and_another_configuration_is_not(tiles, tmp_path):
    said = []
    out = tmp_path / "model"
    for steps in (2, 2, 3):
        config = replace(TRAIN, steps=steps)
        pretrain(MODEL, config, tiles=tiles, out=out, seed=0, report=said.append)
    assert len(said) == 1
    assert len(pd.read_csv(out / "log.csv")) == 3


@pytest.mark.parametrize(("native", "precision"), [(False, "float32"), (True, "bf16")])
def test_auto_trains_in_bfloat16_only_where_the_device_multiplies_it(
    tiles, tmp_path, monkeypatch, native, precision
):
    monkeypatch.setattr("salib.precision.multiplies_bfloat16", lambda device: native)
    weights = {}
    for said in ("auto", "float32", "bf16"):
        config = replace(TRAIN, precision=said)
        out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / said, seed=1)
        weights[said] = file_digest(out / "model.safetensors")
        used = precision if said == "auto" else said
        assert json.loads((out / "timing.json").read_text())["precision"] == used
    assert weights["auto"] == weights[precision]
    assert weights["float32"] != weights["bf16"]


def test_an_interrupted_run_leaves_nothing_behind(tiles, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("salib.train.stamp", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    load_model(pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0))


def test_two_ranks_train_the_model_of_one(tiles, tmp_path, monkeypatch):
    """Contrast over all ranks, with gradients: two ranks give the weights of a single process.

    The two are interrupted once, and go on from what the first of them saved.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # there may be one GPU only
    alone = load_model(pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "one", seed=5))
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); import test_train as t;"
        "tiles, out = sys.argv[1:3];"
        "t.stopped(tiles, out, t.pytest.MonkeyPatch(), at=2, seed=5);"
        "t.torch.distributed.barrier();"
        "t.pretrain(t.MODEL, t.TRAIN, tiles=tiles, out=out, seed=5)"
    )
    script = tmp_path / "rank.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script), str(tiles), str(tmp_path / "two")]
    command.append(os.path.dirname(__file__))
    settings = {"OMP_NUM_THREADS": "1", "JAXTYPING_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    assert "goes on at step 2 of 3" in done.stdout
    both = load_model(tmp_path / "two")
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("one", "two")]
    assert logs[0].contrastive[0] == pytest.approx(logs[1].contrastive[0], rel=1e-4)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(both.state_dict()[name], value, atol=2e-3, rtol=0, msg=name)


def test_a_model_folder_of_others_is_not_replaced(tiles, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("somebody's")
    with pytest.raises(ValueError, match="out must be new"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path, seed=0)
    assert (tmp_path / "model.safetensors").read_text() == "somebody's"


def stopped(tiles, out, monkeypatch, *, at, config=TRAIN, seed=2, **options):
    """A run that saves after each step and is interrupted at one."""

    def rate(config, step):
        if step == at:
            raise KeyboardInterrupt
        return learning_rate(config, step)

    with monkeypatch.context() as patch:
        patch.setattr("salib.progress.SAVE_EVERY_S", 0)
        patch.setattr("salib.train.learning_rate", rate)
        with pytest.raises(KeyboardInterrupt):
            pretrain(MODEL, config, tiles=tiles, out=out, seed=seed, **options)


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tiles, tmp_path, monkeypatch):
    config, said = replace(TRAIN, steps=6), []
    whole = pretrain(MODEL, config, tiles=tiles, out=tmp_path / "whole", seed=2)
    out = tmp_path / "model"
    for at in (3, 5):
        stopped(tiles, out, monkeypatch, at=at, config=config, report=said.append)
        assert not out.exists()
    pretrain(MODEL, config, tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["goes on at step 3 of 6", "goes on at step 5 of 6"]
    assert digests(out) == digests(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]


def test_an_interrupted_run_is_not_lost_to_another_configuration(tiles, tmp_path, monkeypatch):
    out = tmp_path / "model"
    stopped(tiles, out, monkeypatch, at=2)
    with pytest.raises(ValueError, match="2 steps with another seed and train: choose another"):
        pretrain(MODEL, replace(TRAIN, steps=9), tiles=tiles, out=out, seed=4)
    state = next(tmp_path.rglob("state.pt"))
    monkeypatch.setattr("salib.train.resolve_precision", lambda *_: "bf16")
    with pytest.raises(ValueError, match="2 steps with another precision: choose another"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    whole = state.read_bytes()
    for cut in (0, 999, 5_000, len(whole) - 100):
        state.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"must be the state of a run.*: delete .*unfinished"):
            pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert state.is_file()


def test_a_state_goes_with_its_finished_run_and_stays_with_an_unfinished_one(
    tiles, tmp_path, monkeypatch
):
    out, other = tmp_path / "model", replace(TRAIN, steps=5)
    stopped(tiles, out, monkeypatch, at=2)
    state = tmp_path / ".model.unfinished" / "state.pt"
    left = state.read_bytes()
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    for config in (TRAIN, other):  # as if the run had been killed before it cleared up
        state.parent.mkdir(exist_ok=True)
        state.write_bytes(left)
        pretrain(MODEL, config, tiles=tiles, out=out, seed=2)
        assert not state.exists()
    stopped(tiles, out, monkeypatch, at=2, seed=3)
    pretrain(MODEL, other, tiles=tiles, out=out, seed=2)
    assert state.is_file()


def test_a_disk_that_holds_a_state_needs_room_for_one_more_only(tiles, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("salib.progress.check_room", lambda _, needed: asked.append(needed))
    stopped(tiles, tmp_path / "model", monkeypatch, at=2)
    pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=2)
    state = asked[1]
    assert asked[0] == 2 * state
    assert asked[-1] <= state


def test_a_disk_that_fills_up_costs_no_saved_step(tiles, tmp_path, monkeypatch):
    out, full = tmp_path / "model", []

    def check(folder, needed):
        full.append(needed)
        if len(full) > 4:  # the first is asked for before the first step
            raise OSError(28, "disk must have more free")

    with monkeypatch.context() as patch:
        patch.setattr("salib.progress.check_room", check)
        patch.setattr("salib.progress.SAVE_EVERY_S", 0)
        with pytest.raises(OSError, match="disk must have"):
            pretrain(MODEL, replace(TRAIN, steps=6), tiles=tiles, out=out, seed=2)
    said = []
    pretrain(MODEL, replace(TRAIN, steps=6), tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["goes on at step 3 of 6"]


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


def test_ranks_of_a_machine_share_its_cores_for_drawing(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    found = []
    for ranks in ("1", "4", "64"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        found.append(drawing_threads(torch.device("cuda")))
    assert found == [8, 3, 1]
    assert drawing_threads(torch.device("cpu")) == 1


def test_more_ranks_than_gpus_are_refused(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=r"must not exceed its GPUs.*--nproc-per-node=1"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_models_of_both_kinds_see_the_same_places_and_masks(tiles):
    masks = {}
    for kind in ("scale_alibi", "croma"):
        model = build_model(replace(MODEL, **KINDS[kind]), 0)
        masks[kind] = model.draw_masks(4, rows=3, cols=5, generator=stream(9, "masks", 2))
    for name in ("radar", "lores"):
        assert torch.equal(masks["croma"][name].keep, masks["scale_alibi"][name].keep)


def test_repairing_any_one_sensor_raises_the_contrastive_loss_of_the_model(tiles):
    """After a little training on one batch, each sensor's own place is its best match."""
    model = build_model(MODEL, 0)
    samples = Samples(tiles)
    batch = draw_batch(samples, replace(TRAIN, batch=4, jitter=0.5), seed=1, step=0)
    masks = model.draw_masks(4, rows=4, cols=4, generator=stream(1, "masks", 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        contrastive, _ = step_losses(model, batch, masks, joint_target=False)
        optimizer.zero_grad()
        contrastive.backward()
        optimizer.step()
    with torch.no_grad():
        right, _ = step_losses(model, batch, masks, joint_target=False)
        for name in model.config.sensors:
            turned = {**batch.images, name: batch.images[name].roll(1, dims=0)}
            mask = {
                **masks,
                name: Mask(masks[name].keep.roll(1, dims=0), masks[name].hidden.roll(1, dims=0)),
            }
            wrong, _ = step_losses(model, replace(batch, images=turned), mask, joint_target=False)
            assert wrong > right + 0.1, name


def test_learning_rate_warms_up_and_decays_to_zero():
    config = replace(TRAIN, steps=100, warmup=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 1e-5
    middle = 1e-3 * 0.5 * (1 + math.cos(math.pi * 45 / 90))
    assert rates[55] == pytest.approx(middle)


def test_diverging_runs_stop_with_the_step(tiles, tmp_path):
    with pytest.raises(ValueError, match="loss must stay finite"):
        pretrain(
            MODEL,
            replace(TRAIN, learning_rate=1e30, steps=20),
            tiles=tiles,
            out=tmp_path / "model",
            seed=0,
        )
    assert not (tmp_path / "model").exists()


def test_what_a_model_was_made_from_stands_beside_it(tiles, tmp_path):
    out = pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=7)
    made = json.loads((out / "made_from.json").read_text())
    assert made["seed"] == 7
    assert made["tiles"] == {path.name: file_digest(path) for path in sorted(tiles.iterdir())}


def test_other_pixels_under_the_same_index_are_learnt_anew(tiles, tmp_path):
    said = []
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for source in (tiles, tiles, tmp_path):
        if source is tmp_path:  # the radar archive of another world, the same places
            (tmp_path / "radar.pmtiles").write_bytes((tiles / "lores.pmtiles").read_bytes() + b"x")
        pretrain(MODEL, TRAIN, tiles=source, out=tmp_path / "m", seed=0, report=said.append)
    assert len(said) == 1
