"""Interrupted runs: what is saved and when, what resumes, and what is never lost."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_runs import MODEL, TRAIN, digests, held_out, stopped

from salib import build_model, load_model
from salib.training.checkpoint import StoppedRun, stop_signals
from salib.training.step import learning_rate
from salib.training.train import pretrain

LONG = replace(TRAIN, steps=6)


@pytest.fixture(autouse=True)
def heard():
    """A suite that runs in the background ignores Ctrl-C, and so would its runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_leaves_nothing_behind(tiles, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("salib.training.train.stamp", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    load_model(pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=0))


def test_an_interrupted_run_resumes_and_ends_as_if_it_had_not_been(tiles, tmp_path, monkeypatch):
    """Not even after an edit of a docstring: the code's digest is told, and never refuses."""
    validated, said = held_out(tiles, tmp_path / "tiles", valid=2), []
    whole = pretrain(MODEL, LONG, tiles=validated, out=tmp_path / "whole", seed=2)
    out = tmp_path / "model"
    for at, source in ((3, "a" * 64), (5, "a" * 64), (None, "b" * 64)):
        monkeypatch.setattr("salib.training.train.source_digest", lambda _, source=source: source)
        if at:
            stopped(validated, out, monkeypatch, at=at, config=LONG, report=said.append)
            assert not out.exists()
    pretrain(MODEL, LONG, tiles=validated, out=out, seed=2, report=said.append)
    changed = " (the code has changed since, aaaaaaaa to bbbbbbbb; the recipe has not)"
    assert said == ["Resuming at step 3 of 6", f"Resuming at step 5 of 6{changed}"]
    ours, theirs = digests(out), digests(whole)
    assert ours.pop("made_from.json") != theirs.pop("made_from.json")  # only in the digest
    assert ours == theirs
    assert "best/model.safetensors" in ours
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "tiles", "whole"]


def signalled(number, *, at):
    """The learning rate of a run that gets a signal in the middle of a step."""

    def rate(config, step, *, steps):
        if step == at - 1:
            os.kill(os.getpid(), number)
        return learning_rate(config, step, steps=steps)

    return rate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_after_its_step_and_nothing_is_lost(
    tiles, tmp_path, monkeypatch, number
):
    whole = pretrain(MODEL, LONG, tiles=tiles, out=tmp_path / "whole", seed=2)
    before, said, out = signal.getsignal(number), [], tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr("salib.training.loop.learning_rate", signalled(number, at=4))
        line = "^stopped at step 4 of 6; resume with the same command$"
        with pytest.raises(KeyboardInterrupt, match=line) as stop:
            pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2)
        assert isinstance(stop.value, StoppedRun)
        assert stop.value.signal == number
    assert signal.getsignal(number) is before
    pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["Resuming at step 4 of 6"]
    assert digests(out) == digests(whole)


def test_a_signal_at_the_last_step_lets_the_run_finish(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr("salib.training.loop.learning_rate", signalled(signal.SIGTERM, at=3))
    load_model(pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=2))


def test_signals_are_left_alone_outside_the_main_thread_and_where_they_are_ignored():
    found = []

    def look():
        with stop_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signals() as received:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert signal.getsignal(signal.SIGTERM) is before


def from_the_command_line(tiles, out, *, number=None):
    """Run `salib pretrain` in a process of its own that may get a signal at its second step."""
    send = "" if number is None else f"loop.learning_rate = t.signalled({int(number)}, at=2);"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import test_checkpoint as t; from salib import config;"
        "from salib.cli import app as cli; from salib.training import loop;"
        "config.PRESETS['tiny'], config.TRAINING['tiny'] = t.MODEL, t.TRAIN;"
        f"{send} cli.main()"
    )
    command = [sys.executable, "-c", code, "pretrain", tiles, "--out", out]
    command += ["--preset", "tiny", "--seed", "2", "--precision", "float32"]
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **settings, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_command_ends_with_0_after_sigterm_and_130_after_ctrl_c_and_resumes(tiles, tmp_path):
    out = tmp_path / "model"
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        done = from_the_command_line(tiles, tmp_path / str(code), number=number)
        assert done.returncode == code, done.stderr
        assert done.stdout == "stopped at step 2 of 3; resume with the same command\n"
    (tmp_path / ".0.unfinished").rename(tmp_path / ".model.unfinished")
    done = from_the_command_line(tiles, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Resuming at step 2 of 3\n{out}\n"
    assert from_the_command_line(tiles, tmp_path / "whole").returncode == 0
    assert digests(out) == digests(tmp_path / "whole")


def test_an_interrupted_run_is_lost_to_other_inputs_only_when_told_to(tiles, tmp_path, monkeypatch):
    out, other, said = tmp_path / "model", replace(TRAIN, steps=9), []
    stopped(tiles, out, monkeypatch, at=2)
    with pytest.raises(ValueError, match=r"2 steps of one that differs in seed, train: choose"):
        pretrain(MODEL, other, tiles=tiles, out=out, seed=4)
    state = next(tmp_path.rglob("state.pt"))
    with monkeypatch.context() as patch:
        patch.setattr("salib.training.train.resolve_precision", lambda *_: "bf16")
        with pytest.raises(ValueError, match="2 steps of one that differs in precision: choose"):
            pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    whole = state.read_bytes()
    for cut in (0, 999, 5_000, len(whole) - 100):
        state.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"must be a checkpoint.*: give --overwrite"):
            pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert state.is_file()
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2, overwrite=True, report=said.append)
    assert not state.exists()
    stopped(tiles, out, monkeypatch, at=1, config=other, overwrite=True)
    pretrain(MODEL, other, tiles=tiles, out=out, seed=4, overwrite=True, report=said.append)
    assert said == []  # both began anew


def test_a_run_killed_while_it_saves_keeps_what_it_saved_before(tiles, tmp_path, monkeypatch):
    saves, out, said = [], tmp_path / "model", []

    def half(state, path):
        saves.append(path)
        if len(saves) == 3:
            path.write(b"PK half of it")
            raise KeyboardInterrupt
        return save(state, path)

    with monkeypatch.context() as patch:
        save = torch.save
        patch.setattr("salib.training.checkpoint.SAVE_EVERY_S", 0)
        patch.setattr("torch.save", half)
        with pytest.raises(KeyboardInterrupt):
            pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2)
    pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["Resuming at step 2 of 6"]


def test_a_state_goes_with_its_finished_run_and_not_with_another(tiles, tmp_path, monkeypatch):
    out, state = tmp_path / "model", tmp_path / ".model.unfinished" / "state.pt"
    stopped(tiles, out, monkeypatch, at=2)
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert not state.exists()
    stopped(tiles, out, monkeypatch, at=2, seed=3, overwrite=True)
    pretrain(MODEL, TRAIN, tiles=tiles, out=out, seed=2)
    assert state.is_file()


def test_a_run_begins_only_where_a_state_fits(tiles, tmp_path, monkeypatch):
    weights = 4 * sum(weight.numel() for weight in build_model(MODEL, 2).parameters())

    def check(folder, needed):
        raise OSError(28, f"disk must have {needed} more")

    monkeypatch.setattr("salib.training.checkpoint.check_disk_space", check)
    with pytest.raises(OSError, match=f"disk must have {3 * weights} more"):
        pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=2)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_costs_no_saved_step(tiles, tmp_path, monkeypatch):
    out, full = tmp_path / "model", []

    def check(folder, needed):
        full.append(needed)
        if len(full) > 4:  # the first is asked for before the first step
            raise OSError(28, "disk must have more free")

    with monkeypatch.context() as patch:
        patch.setattr("salib.training.checkpoint.check_disk_space", check)
        patch.setattr("salib.training.checkpoint.SAVE_EVERY_S", 0)
        with pytest.raises(OSError, match="disk must have"):
            pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2)
    said = []
    pretrain(MODEL, LONG, tiles=tiles, out=out, seed=2, report=said.append)
    assert said == ["Resuming at step 3 of 6"]
