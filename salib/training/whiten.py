"""The last step of a run with `ModelConfig.whiten`: what the model says of training images."""

from collections import defaultdict
from dataclasses import replace

import torch

from salib.model import ScaleAlibi
from salib.model.precision import autocast
from salib.model.views import View
from salib.model.whitening import JOINT
from salib.training.batches import draw_batch
from salib.training.data import Samples
from salib.training.ranks import rank_device
from salib.training.sampling import stream
from salib.training.step import Run

PER_AXIS = 8
"""Images per number of an embedding."""


@torch.no_grad()
def fit_whitening(model: ScaleAlibi, samples: Samples, run: Run) -> None:
    """Fit `model.whitening` on crops of training samples whose radiometry is left as it is.

    Raises:
        ValueError: if fewer than two of the drawn samples have all sensors, or one sensor.
    """
    plain = {"jitter": 0.0, "gamma": 0.0, "haze": 0.0, "noise": 0.0, "sensor_dropout": 0.0}
    config = replace(run.config, **plain)
    seed = stream(run.seed, "whitening", 0).initial_seed()
    means, names = defaultdict(list), model.config.sensors
    for step in range(-(-PER_AXIS * model.config.dim // config.batch)):
        batch = draw_batch(samples, config, seed=seed, step=step, sensors=names)
        with autocast(config.precision, rank_device()):
            encoded = {
                name: model.encode_view(name, View(batch.images[name], batch.gsd_m[name]))
                for name in names
            }
            encoded[JOINT] = model.fuse(encoded)
        every = torch.ones(config.batch, dtype=torch.bool)
        there = {name: every for name in names} | dict(batch.present or {})
        there[JOINT] = torch.stack([*there.values()]).all(dim=0)
        for name, tokens in encoded.items():
            means[name].append(tokens.x.float().mean(dim=1)[there[name].to(tokens.x.device)])
    whole = {name: torch.cat(parts) for name, parts in means.items()}
    for name, vectors in whole.items():
        if len(vectors) < 2:
            raise ValueError(f"samples must be two or more to whiten {name}, got {len(vectors)}")
    model.whitening.fit(whole)
