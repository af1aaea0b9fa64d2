"""A run from a preset, a file, single values or stored weights; what it shows while it runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from train_runs import MODEL, TRAIN, digests, held_out

from salib import load_model
from salib.config import PRESETS, TRAINING, BandStats
from salib.config.runs import read_run
from salib.model import build_model, save_model
from salib.training.checkpoint import Checkpoint
from salib.training.loop import _other_ranks
from salib.training.step import Run
from salib.training.train import pretrain
from salib.training.watch import watcher


def test_a_preset_is_the_beginning_and_each_later_word_counts_over_it(tmp_path):
    assert read_run() == (PRESETS["base"], TRAINING["base"], 0)
    path = tmp_path / "run.yml"
    path.write_text("preset: tiny\nkind: croma\nseed: 7\ntrain: {batch: 9, epochs: 2}\n")
    model, training, seed = read_run(
        path,
        changes={"batch": 11, "steps": None, "learning_rate": None},
        texts=["depth=6", "slopes=[1, 0.5, 0.25, 0.125]", "objective={contrastive: 2}"],
    )
    assert seed == 7
    assert (model.sensors, model.position) == (("radar", "lores"), "patches")
    assert (model.depth, model.slopes) == (6, (1, 0.5, 0.25, 0.125))
    assert training == replace(
        TRAINING["tiny"], batch=11, epochs=2, steps=None, objective={"contrastive": 2}
    )


def test_what_a_run_was_asked_for_can_be_given_back(tiles, tmp_path):
    config = replace(TRAIN, objective={"views": 1.0, "contrastive": 0.5}, views=2, crop_px=(24, 32))
    model = replace(MODEL, slopes=(0.5, 0.25), position="ground", hires_mask_ratio=0.6)
    first = pretrain(model, config, tiles=tiles, out=tmp_path / "first", seed=5)
    back = read_run(first / "run.yml")
    assert back == (model, config, 5)
    again = pretrain(*back[:2], tiles=tiles, out=tmp_path / "again", seed=back[2])
    assert digests(again) == digests(first)
    stats = (BandStats(mean=(1.0, 2.0), std=(3.0, 4.0)), *rgb(7, 8))
    path = tmp_path / "stats.yml"
    told = replace(model, band_stats=stats).to_json()
    path.write_text(yaml.safe_dump(json.loads(json.dumps({"model": told}))))
    assert read_run(path)[0].band_stats == stats


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "must hold preset, kind, model, train, seed, got other YAML"),
        ("model: 3", "got other YAML"),
        ("train: [1]", "got other YAML"),
        ("train: {bach: 3}", "got 'bach': did you mean batch?"),
        ("models: {}", "got 'models': did you mean model?"),
        ("preset: huge", "preset must be one of"),
        ("train: {batch: many}", "got .*many"),
        ("train: {learning_rate: fast}", "values must be of their fields' types"),
        ("train: {objective: a.function}", "objective"),
        ("model: {schema: 1}", "another version of salib"),
        ("model: {band_stats: [1]}", "values must be of their fields' types"),
        ("seed: -1", "seed must be a whole number"),
        ("a: [", "must be YAML"),
        ("\x00", "must be YAML"),
    ],
)
def test_a_file_that_is_no_run_is_refused_in_a_line(tmp_path, text, message):
    path = tmp_path / "run.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth", "--set must be KEY=VALUE, got 'depth'"),
        ("deep=3", "got 'deep'"),
        ("position=grund", "position must be one of"),
        ("patch_px=0", "patch_px must be a positive whole number"),
        ("steps=three", "steps.*three"),
    ],
)
def test_a_value_that_is_none_is_refused_in_a_line(text, message):
    with pytest.raises(ValueError, match=message):
        read_run(texts=[text])
    with pytest.raises(ValueError, match=r"must be a YAML file, got no file nowhere\.yml"):
        read_run("nowhere.yml")


def test_a_run_starts_from_weights_and_their_standardisation(tiles, tmp_path):
    stats = (BandStats(mean=(9.0, 8.0), std=(3.0, 3.0)), *rgb(7, 8))
    start = build_model(replace(MODEL, band_stats=stats), 11)
    save_model(start, tmp_path / "start")
    still = replace(TRAIN, learning_rate=1e-30, weight_decay=0.0)
    out = pretrain(
        MODEL, still, tiles=tiles, out=tmp_path / "model", seed=2, init=tmp_path / "start"
    )
    model = load_model(out)
    assert model.config.band_stats == start.config.band_stats
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, start.state_dict()[name])
    other = build_model(replace(MODEL, depth=4), 0)
    save_model(other, tmp_path / "other")
    with pytest.raises(ValueError, match="init must hold a model of the same architecture"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "b", seed=2, init=tmp_path / "other")
    with pytest.raises(ValueError, match="which differs in init: choose"):
        pretrain(MODEL, still, tiles=tiles, out=out, seed=2)
    with pytest.raises(ValueError, match=r"model folder must hold config\.json"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "c", seed=2, init=tmp_path / "none")


def rgb(*means):
    return tuple(BandStats(mean=(float(m),) * 3, std=(50.0,) * 3) for m in means)


def test_rows_are_shown_and_logged_while_it_runs(tiles, tmp_path, monkeypatch):
    rows, seen = [], []
    monkeypatch.setattr("salib.training.checkpoint.LOG_EVERY_S", 0)
    log = tmp_path / ".model.unfinished" / "log.csv"

    def look(row):
        rows.append(row)
        seen.append(len(pd.read_csv(log)) if log.is_file() else 0)

    out = pretrain(
        MODEL, replace(TRAIN, steps=9), tiles=tiles, out=tmp_path / "model", seed=2, watch=look
    )
    told = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(told, pd.read_csv(out / "log.csv")[[*told]], rtol=1e-5)
    assert [row["step"] for row in rows] == [*range(9)]
    assert 0 < max(seen) < 9
    assert seen == sorted(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_who_asks_for_a_package_that_is_missing_is_told_its_name(monkeypatch, tmp_path):
    assert watcher(None, None) is None
    for module, name in (("torch.utils.tensorboard", "tensorboard"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ValueError, match=f"{name} must be installed"):
            watcher(*((tmp_path, None) if name == "tensorboard" else (None, "project")))


def test_both_get_every_number_of_a_row(monkeypatch, tmp_path):
    told = []

    class Fake:
        SummaryWriter = staticmethod(lambda folder: Fake)
        init = staticmethod(lambda project: Fake)
        add_scalar = staticmethod(lambda name, value, step: told.append((name, value, step)))
        log = staticmethod(lambda row, step: told.append((row, step)))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Fake)
    monkeypatch.setitem(sys.modules, "wandb", Fake)
    look = watcher(tmp_path, "project")
    assert look is not None
    row = {"step": 3, "lr": 0.5, "valid_contrastive": 2.0}
    look(row)
    assert told == [("step", 3, 3), ("lr", 0.5, 3), ("valid/contrastive", 2.0, 3), (row, 3)]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[gloo] Connection closed by peer [::1]:9", True),
        ("NCCL error in: x", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
        ("CUDA out of memory", False),
    ],
)
def test_only_what_a_backend_says_is_called_a_lost_rank(text, lost, tmp_path):
    """A mistake of a user's objective, say, is told as what it is, with one rank or two."""
    model = build_model(MODEL, 0)
    for ranks in (1, 2):
        run = Run(config=TRAIN, steps=3, seed=0, rank=0, ranks=ranks)
        kept = Checkpoint(tmp_path, {}, model, torch.optim.SGD(model.parameters(), lr=1.0))
        kept.rows, called = [{"step": 0}], lost and ranks > 1
        with pytest.raises(OSError if called else RuntimeError) as caught, _other_ranks(run, kept):
            raise RuntimeError(text)
        assert text in str(caught.value)
        assert ("Lost another rank after step 1 of 3" in str(caught.value)) == called
        assert (tmp_path / "state.pt").exists() == called


LOST = """
import os, sys
sys.path.insert(0, sys.argv[1])
from salib.training import checkpoint, loop, validation
from salib.cli import app as cli
from salib import config
import train_runs as t
config.PRESETS["tiny"], config.TRAINING["tiny"] = t.MODEL, t.TRAIN
where, lost_at = os.environ["LOST_AT"].split()
def lose(step):
    if os.environ["RANK"] == "1" and step == int(lost_at):
        os._exit(9)
rate, measure = loop.learning_rate, validation.Validation.measure
def learning_rate(c, step, *, steps):
    lose(step if where == "step" else -2)
    return rate(c, step, steps=steps)
measured = [0]
def lost_measure(self, run, model):
    measured[0] += 1
    lose(measured[0] if where == "validation" else -2)
    return measure(self, run, model)
loop.learning_rate, validation.Validation.measure = learning_rate, lost_measure
sys.argv[1:2] = []
cli.main()
"""


@pytest.mark.parametrize(("place", "done"), [("step 4", 4), ("validation 3", 0)])
def test_a_lost_rank_ends_the_run_in_a_line_and_it_resumes_to_the_same_weights(
    tiles, tmp_path, place, done
):
    """Between two steps what was done is saved; amid one, what was saved before counts."""
    script, folder = tmp_path / "lost.py", held_out(tiles, tmp_path / "tiles", valid=2)
    script.write_text(LOST)
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "JAXTYPING_DISABLE": "1"}
    settings |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(script), str(Path(__file__).parent), "pretrain", str(folder), "--preset"]
    command += ["tiny", "--steps", "7", "--precision", "float32"]
    found = {}
    for name, lost in (("whole", "step -1"), ("again", place), ("again", "step -1")):
        run = subprocess.run(
            [*command, "--out", str(tmp_path / name)],
            env={**os.environ, **settings, "LOST_AT": lost},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if lost == place:
            assert run.returncode
            assert "salib: Lost another rank after step" in run.stderr
            assert not (tmp_path / name).exists()
            continue
        assert run.returncode == 0, run.stderr[-3000:]
        found[name] = digests(tmp_path / name)
        assert (f"Resuming at step {done} of 7" in run.stdout) == (name == "again" and done > 0)
    assert found["whole"] == found["again"]
