"""Does attention know physical size? Classifiers of mosaics that are equal but for positions."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from earth.mosaics import draw_mosaic
from salib.config import BandStats, ModelConfig
from salib.files.artifact import atomic_file
from salib.model import Tokens, build_model
from salib.model.precision import autocast

CELLS_M = (40.0, 80.0, 160.0, 320.0)
"""Size of the cells of each class."""
SPREAD = 0.15
"""By how many octaves the cells of a picture differ from those of its class, at most."""
Intervals = tuple[tuple[float, float], ...]
TRAINED: Intervals = ((3.0, 4.2), (5.4, 11.0), (14.2, 20.0))
"""Metres per pixel of training pictures, log-uniform; between them are two gaps."""
TESTS: dict[str, tuple[Intervals, int]] = {
    "in range": (TRAINED, 64),
    "gap at 4.8 m": (((4.2, 5.4),), 64),
    "gap at 12.5 m": (((11.0, 14.2),), 64),
    "2.1 m": (((2.1, 2.1),), 64),
    "28 m": (((28.0, 28.0),), 64),
    "40 m": (((40.0, 40.0),), 64),
    "twice the side": (TRAINED, 128),
    "four times the side": (TRAINED, 256),
}
"""Metres per pixel, and the side of the pictures in pixels."""
LEVELS = BandStats(mean=(120.0,) * 3, std=(40.0,) * 3)
SMALL = ModelConfig(
    dim=96,
    depth=4,
    heads=6,
    patch_px=8,
    decoder_dim=16,
    decoder_heads=1,
    sensors=("radar", "lores"),
    band_stats=(BandStats(mean=(0.0, 0.0), std=(1.0, 1.0)), LEVELS),
)
STEEP = (2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)
ARMS: dict[str, dict[str, Any]] = {
    "Scale-ALiBi": {},
    "Scale-ALiBi, steep slopes": {"slopes": STEEP},
    "Scale-ALiBi, 16 m a step": {"reference_m": 16.0},
    "2D-ALiBi": {"position": "patches"},
    "2D-ALiBi, steep slopes": {"position": "patches", "slopes": STEEP},
    "2D-ALiBi, log GSD added": {"position": "patches", "told": True},
    "GSD-scaled sine-cosine": {"position": "gsd_sincos"},
    "rotary by ground distance": {"position": "rotary"},
    "no position": {"position": "none"},
}
"""Fields of the model's configuration; "told" adds the logarithm of the GSD to the tokens."""


@dataclass(frozen=True)
class Pictures:
    """Mosaics with the metres per pixel and the class of each."""

    images: UInt8[np.ndarray, "count side side 3"]
    gsd_m: Float[Tensor, " count"]
    labels: Int[Tensor, " count"]

    @classmethod
    def draw(
        cls, count: int, *, intervals: Intervals, side_px: int = 64, seed: Sequence[int]
    ) -> "Pictures":
        """Log-uniform GSDs within the intervals, classes in turn."""
        rng = np.random.default_rng(seed)
        ends = np.log(intervals)
        lengths = np.maximum(ends[:, 1] - ends[:, 0], 1e-12)
        which = rng.choice(len(ends), count, p=lengths / lengths.sum())
        gsd_m = np.exp(ends[which, 0] + rng.random(count) * (ends[which, 1] - ends[which, 0]))
        labels = rng.permutation(np.arange(count) % len(CELLS_M))
        cells_m = np.array(CELLS_M)[labels] * 2 ** rng.uniform(-SPREAD, SPREAD, count)
        pairs = zip(gsd_m, cells_m, strict=True)
        images = [draw_mosaic(rng, gsd_m=g, cell_m=c, side_px=side_px) for g, c in pairs]
        return cls(np.stack(images), torch.from_numpy(gsd_m).float(), torch.from_numpy(labels))

    def batches(self, size: int, steps: int, *, seed: int) -> Iterator[tuple[Tensor, ...]]:
        """Drawn anew epoch by epoch; each batch is turned, flipped, and its channels are mixed."""
        rng = np.random.default_rng([seed, 1])
        order = np.zeros(0, np.int64)
        for _ in range(steps):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(len(self.images))])
            rows, order = order[:size], order[size:]
            images = np.rot90(self.images[rows], int(rng.integers(4)), axes=(1, 2))
            images = images[:, :: rng.choice((1, -1)), :, rng.permutation(3)].copy()
            chosen = torch.from_numpy(rows)
            yield torch.from_numpy(images), self.gsd_m[chosen], self.labels[chosen]


class Classifier(nn.Module):
    """The library's lores encoder, the mean of its tokens, and a linear head."""

    def __init__(self, arm: Mapping[str, Any], *, seed: int) -> None:
        """Build an arm of the experiment."""
        super().__init__()
        changes = dict(arm)
        told = changes.pop("told", False)
        self.encoder = build_model(replace(SMALL, **changes), seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Linear(SMALL.dim, len(CELLS_M))
        self.told = nn.Parameter(torch.zeros(SMALL.dim)) if told else None

    def forward(
        self, images: UInt8[Tensor, "batch rows cols 3"], gsd_m: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Scores of the classes."""
        pixels = self.encoder.encoder("lores").standardise(images.movedim(-1, 1).float())
        tokens = self.encoder.tokenize("lores", pixels, gsd_m)
        if self.told is not None:
            x = tokens.x + (gsd_m / 8).log()[:, None, None] * self.told
            tokens = Tokens(x, tokens.xy)
        return self.head(self.encoder.encode("lores", tokens).x.mean(dim=1).float())


def train(
    arm: Mapping[str, Any], shown: Pictures, *, steps: int, rate: float, seed: int, batch: int = 64
) -> tuple[Classifier, float]:
    """A trained classifier, and its mean loss over the last tenth of the steps.

    AdamW, warm-up over a tenth, cosine to zero, in bfloat16 where the processor has it.
    """
    model = Classifier(arm, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm, losses = max(1, steps // 10), []
    for step, (images, gsd_m, labels) in enumerate(shown.batches(batch, steps, seed=seed)):
        share = (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
        if step >= warm:
            share = 0.5 - 0.5 * np.cos(np.pi * share)
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.zero_grad(set_to_none=True)
        with autocast("auto", torch.device("cpu")):
            loss = F.cross_entropy(model(images, gsd_m), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), float(np.mean(losses[-max(1, steps // 10) :]))


@torch.no_grad()
def scores(model: Classifier, shown: Pictures, *, times: float = 1.0) -> Float[Tensor, "count 4"]:
    """Probabilities of the classes, of pictures whose GSD is stated `times` as large as it is."""
    parts = torch.arange(len(shown.images)).split(128 * 64**2 // shown.images[0][..., 0].size or 1)
    with autocast("auto", torch.device("cpu")):
        found = [
            model(torch.from_numpy(shown.images[part.numpy()]), times * shown.gsd_m[part])
            for part in parts
        ]
    return torch.cat(found).float().softmax(dim=1)


def gain(model: Classifier, shown: Pictures) -> float:
    """By how many octaves the answer grows if the stated GSD is doubled and the pixels stay.

    1 knows scale, 0 is blind to it. Of pictures whose answer has room: not of the largest cells,
    nor of those whose doubled GSD lies beyond what was trained.
    """
    room = (shown.labels < len(CELLS_M) - 1) & (2 * shown.gsd_m <= TRAINED[-1][1])
    some = Pictures(shown.images[room.numpy()], shown.gsd_m[room], shown.labels[room])
    octaves = torch.arange(len(CELLS_M)).float()
    once, twice = (scores(model, some, times=times) @ octaves for times in (1.0, 2.0))
    return float((twice - once).mean())


def measured(model: Classifier, tests: Mapping[str, Pictures]) -> dict[str, float]:
    """Accuracy on each test, and the gain on the first."""
    right = {
        name: float((scores(model, shown).argmax(1) == shown.labels).float().mean())
        for name, shown in tests.items()
    }
    return right | {"gain": gain(model, next(iter(tests.values())))}


def blind_optimum(intervals: Intervals = TRAINED, *, draws: int = 400_000) -> float:
    """Best accuracy of whoever knows the cells' size in pixels exactly, and nothing of the GSD."""
    rng, ends = np.random.default_rng(0), np.log2(intervals)
    lengths = np.maximum(ends[:, 1] - ends[:, 0], 1e-12)
    which = rng.choice(len(ends), draws, p=lengths / lengths.sum())
    gsd = ends[which, 0] + rng.random(draws) * (ends[which, 1] - ends[which, 0])
    sizes = np.log2(CELLS_M)[:, None] + rng.uniform(-SPREAD, SPREAD, draws) - gsd
    bins = np.linspace(sizes.min(), sizes.max(), 400)
    counts = np.stack([np.histogram(of, bins)[0] for of in sizes])
    return float(counts.max(axis=0).sum() / counts.sum())


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds by arm and test, in percent; the gain as it is."""
    groups: Any = rows.groupby("arm", sort=False)
    means = groups.mean(numeric_only=True).drop(columns="seed")
    return (100 * means.drop(columns="gain")).round(1).assign(gain=means["gain"].round(2))


RATES = (7.5e-4, 1.5e-3, 3e-3)
"""Learning rates that each arm may choose from."""
TUNING = 1000
"""Seed of the pictures on which they choose, which no result uses."""


def run_arms(
    out: str | Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    seeds: int,
    steps: int,
    pictures: int,
    tested: int,
    rates: Sequence[float] = RATES,
) -> pd.DataFrame:
    """Train each arm for each seed, with pictures of its own, and measure it; a row is kept.

    Each arm first takes the learning rate, of `rates`, that is most accurate in range with another
    seed. Called again, rows that `out` holds already are not run again.

    Args:
        out: CSV; `<name>_tuning.csv` beside it has what the rates gave.
        seeds: how many.
        steps: of each run.
        pictures: to train on; every picture is shown turned, flipped and in other colours.
        tested: pictures of each test; an eighth of them at four times the side.
    """
    out = Path(out)
    tuning = Rows(out.with_name(f"{out.stem}_tuning.csv"), ("arm", "rate", "steps", "pictures"))
    if len(rates) > 1:
        shown = Pictures.draw(pictures, intervals=TRAINED, seed=[TUNING, 1])
        valid = {"in range": Pictures.draw(tested, intervals=TRAINED, seed=[TUNING, 2])}
        for arm, rate in product(arms, rates):
            at = {"arm": arm, "rate": rate, "steps": steps, "pictures": pictures}
            if at not in tuning:
                model, loss = train(ARMS[arm], shown, steps=steps, rate=rate, seed=TUNING)
                tuning.add(at | {"loss": loss} | measured(model, valid))
        best = {arm: float(tuning.best("in range", arm=arm)["rate"]) for arm in arms}
    else:
        best = dict.fromkeys(arms, rates[0])
    found = Rows(out, ("arm", "seed", "steps", "pictures"))
    for seed in range(seeds):
        drawn: list[Any] = []
        for arm in arms:
            at = {"arm": arm, "seed": seed, "steps": steps, "pictures": pictures}
            if at in found:
                continue
            if not drawn:
                drawn = [Pictures.draw(pictures, intervals=TRAINED, seed=[seed, 1])]
                drawn.append(draw_tests(tested, seed=seed))
            began = time.process_time()
            model, loss = train(ARMS[arm], drawn[0], steps=steps, rate=best[arm], seed=seed)
            told = {"rate": best[arm], "cpu_s": time.process_time() - began, "loss": loss}
            found.add(at | told | measured(model, drawn[1]))
    return found.frame


def draw_tests(count: int, *, seed: int) -> dict[str, Pictures]:
    """Pictures of every test, for one seed."""
    return {
        name: Pictures.draw(
            count // (8 if side > 128 else 1),
            intervals=intervals,
            side_px=side,
            seed=[seed, 2, number],
        )
        for number, (name, (intervals, side)) in enumerate(TESTS.items())
    }


class Rows:
    """A table in a CSV file that grows by rows, each known by some of its columns."""

    def __init__(self, path: str | Path, keys: Sequence[str]) -> None:
        """Read what is there."""
        self.path, self.keys = Path(path), list(keys)
        self.frame = pd.read_csv(path) if self.path.is_file() else pd.DataFrame(columns=self.keys)

    def __contains__(self, at: Mapping[str, Any]) -> bool:
        """Whether a row of these keys is there."""
        return bool(self._chosen({key: at[key] for key in self.keys}).any())

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and write the file."""
        new = pd.DataFrame([row])
        self.frame = new if self.frame.empty else pd.concat([self.frame, new], ignore_index=True)
        with atomic_file(self.path) as part:
            self.frame.to_csv(part, index=False, float_format="%.5g")

    def best(self, column: str, **at: Any) -> pd.Series:
        """The row of the greatest value in a column, of those with these values in others."""
        some: Any = self.frame[self._chosen(at)]
        return some.loc[some[column].idxmax()]

    def _chosen(self, at: Mapping[str, Any]) -> np.ndarray:
        each = [np.asarray(self.frame[key] == value) for key, value in at.items()]
        return np.logical_and.reduce(each)
