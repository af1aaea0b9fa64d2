"""Several ranks train the model of one: one global batch, its masks, its negatives."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from train_runs import MODEL, TRAIN, held_out

from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss
from salib.model import build_model, draw_masks
from salib.training.batches import draw_batch
from salib.training.checkpoint import StoppedRun
from salib.training.data import Samples
from salib.training.ranks import drawing_threads, join_ranks
from salib.training.sampling import stream
from salib.training.step import learning_rate
from salib.training.train import pretrain

PLAIN = replace(TRAIN, steps=20, learning_rate=0.3)
VALIDATED, VALID = replace(TRAIN, batch=2), (3, 4)  # one batch of two samples, and two
SEED, STOP = 5, 7


def wide(*args, **options):
    """A batch in float64."""
    drawn = draw_batch(*args, **options)
    return drawn.each(torch.Tensor.double)


def plainly(patch):
    """Train in float64 and by SGD, in which an error of a gradient shows as it is."""
    patch.setattr("salib.training.train.build_model", lambda *args: build_model(*args).double())
    patch.setattr("salib.training.step.draw_batch", wide)
    patch.setattr(
        "salib.training.train.make_optimizer",
        lambda model, _: torch.optim.SGD(model.parameters(), lr=9.0),
    )


def by_hand(tiles, levels):
    """The run as a loop: all samples of a batch at once, the sum of both losses, clipped SGD."""
    model = build_model(replace(MODEL, band_stats=levels), SEED).double()
    samples, log = Samples(tiles, split="train"), []
    for step in range(PLAIN.steps):
        batch = wide(samples, PLAIN, seed=SEED, step=step)
        masks = draw_masks(
            model.config, PLAIN.batch, rows=4, cols=4, generator=stream(SEED, "masks", step)
        )
        out = model(batch.images, batch.gsd_m, masks)
        contrast = contrastive_loss(out.projections, out.temperature)
        rebuilt = reconstruction_loss(out.predicted, normalise_targets(out.target), out.hidden)
        gradient = torch.autograd.grad(contrast + rebuilt, list(model.parameters()))
        norm = torch.sqrt(sum(part.square().sum() for part in gradient))
        rate = learning_rate(PLAIN, step, steps=PLAIN.steps) / max(1.0, float(norm) + 1e-6)
        with torch.no_grad():
            for weight, down in zip(model.parameters(), gradient, strict=True):
                weight -= rate * down
        log.append((contrast.item(), rebuilt.item()))
    return model.state_dict(), log


def as_a_rank(tiles, out):
    """What each rank runs: stopped by a signal that one of them gets, resumed, kept, refused."""
    patch, rank, said = pytest.MonkeyPatch(), int(os.environ["RANK"]), []
    patch.setattr(
        "salib.training.ranks.LONGEST_WAIT", timedelta(minutes=2)
    )  # a rank alone fails, not hangs
    how = {"tiles": tiles, "out": out / "plain", "seed": SEED, "report": said.append}

    def rate(config, step, *, steps):
        if rank == 1 and step == STOP - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return learning_rate(config, step, steps=steps)

    with patch.context() as plain:
        plainly(plain)
        if rank == 1:  # the archives are read for their digests once, not by every rank
            plain.setattr(
                "salib.training.train.file_digest", lambda path: pytest.fail("hashed again")
            )
        with plain.context() as interrupted:
            interrupted.setattr("salib.training.loop.learning_rate", rate)
            with pytest.raises(StoppedRun, match=f"stopped at step {STOP} of 20; resume with"):
                pretrain(MODEL, PLAIN, **how)
        for _ in range(2):
            pretrain(MODEL, PLAIN, **how)
        with pytest.raises(ValueError, match="which differs in seed: choose"):
            pretrain(MODEL, PLAIN, **how | {"seed": SEED + 1})
    told = [line.split(":")[0] for line in said]
    assert told == ([f"Resuming at step {STOP} of 20", "kept"] if rank == 0 else [])
    for valid in VALID:
        folder = out / f"tiles{valid}"
        pretrain(MODEL, VALIDATED, tiles=folder, out=out / f"valid{valid}", seed=SEED)


@pytest.fixture(scope="module")
def two(tiles, tmp_path_factory):
    """Two gloo ranks have run `as_a_rank` here, with the tiles that hold samples out."""
    folder = tmp_path_factory.mktemp("two")
    for valid in VALID:
        held_out(tiles, folder / f"tiles{valid}", valid=valid)
    script = folder / "rank.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "import test_train_ranks as t; t.as_a_rank(*map(Path, sys.argv[2:]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += map(str, [script, Path(__file__).parent, tiles, folder])
    settings = {"OMP_NUM_THREADS": "1", "JAXTYPING_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **settings, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:5000]
    return folder


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # there may be one GPU only


def test_two_ranks_and_one_end_with_the_weights_of_the_loop_by_hand(
    two, tiles, tmp_path, cpu, monkeypatch
):
    """Samples, masks, and gradients through the other rank's negatives: all as of one batch."""
    plainly(monkeypatch)
    alone = pretrain(MODEL, PLAIN, tiles=tiles, out=tmp_path / "one", seed=SEED)
    levels = Samples(tiles, split="train").band_stats()
    weights, losses = by_hand(tiles, levels)
    start = build_model(MODEL, SEED).state_dict()
    for run in (alone, two / "plain"):
        found = load_file(run / "model.safetensors")
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, atol=1e-9, rtol=0, msg=name)
        log = pd.read_csv(run / "log.csv")[["contrastive", "reconstruction"]]
        assert log.to_numpy() == pytest.approx(torch.tensor(losses).numpy(), rel=1e-5)
    moved = sorted(float((weights[n] - value).abs().max()) for n, value in start.items())
    assert moved[len(moved) // 2] > 1e-3


@pytest.mark.parametrize("valid", VALID)
def test_validation_losses_do_not_depend_on_the_number_of_ranks(two, tmp_path, cpu, valid):
    tiles = two / f"tiles{valid}"
    alone = pretrain(MODEL, VALIDATED, tiles=tiles, out=tmp_path / "one", seed=SEED)
    logs = [pd.read_csv(run / "log.csv") for run in (alone, two / f"valid{valid}")]
    for name in ("valid_contrastive", "valid_reconstruction"):
        assert logs[0][name].notna().all()
        assert logs[1][name].to_numpy() == pytest.approx(logs[0][name].to_numpy(), rel=1e-5)


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


def test_a_port_that_is_taken_is_told_with_what_to_do(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", **where}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OSError, match=f"127.0.0.1:{port} .*: start torchrun with --standalone"):
            join_ranks()
