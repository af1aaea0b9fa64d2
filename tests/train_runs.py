"""Short pretraining runs for tests: sizes, what they leave, and how they are interrupted."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from salib import TrainConfig, preset
from salib.files.artifact import file_digest
from salib.training.step import learning_rate, losses_of, outputs
from salib.training.train import pretrain

MODEL = replace(preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
TRAIN = TrainConfig(
    steps=3, batch=4, learning_rate=1e-3, crop_px=(24, 48), image_px=32, precision="float32"
)


def both_losses(model, batch, masks):
    """Eqs. (3) and (4) of one batch."""
    found = losses_of(outputs(model, [(batch, masks)], TRAIN), TRAIN)
    return found["contrastive"], found["reconstruction"]


def digests(out):
    """Of all files but the one that tells how long the run took."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "timing.json"]
    return {str(path.relative_to(out)): file_digest(path) for path in files}


def stopped(tiles, out, monkeypatch, *, at, config=TRAIN, model=MODEL, seed=2, **options):
    """A run that saves after each step and is interrupted at one."""

    def rate(config, step, *, steps):
        if step == at:
            raise KeyboardInterrupt
        return learning_rate(config, step, steps=steps)

    with monkeypatch.context() as patch:
        patch.setattr("salib.training.checkpoint.SAVE_EVERY_S", 0)
        patch.setattr("salib.training.loop.learning_rate", rate)
        with pytest.raises(KeyboardInterrupt):
            pretrain(model, config, tiles=tiles, out=out, seed=seed, **options)


def held_out(tiles, folder, *, valid):
    """The same archives with so many samples of the index in the validation split, none dropped."""
    shutil.copytree(tiles, folder)
    rows = pd.read_parquet(folder / "index.parquet").assign(split="train", valid_frac_hires=1.0)
    rows.loc[rows.index[:valid], "split"] = "valid"
    rows.to_parquet(folder / "index.parquet")
    return folder
