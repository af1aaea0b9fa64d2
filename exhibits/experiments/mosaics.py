"""Classifiers of mosaics by the physical size of their cells, equal but for positions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from earth.mosaics import draw_mosaic
from salib.config import BandStats, ModelConfig
from salib.model import Tokens, build_model
from salib.model.precision import autocast

CELLS_M = (40.0, 80.0, 160.0, 320.0)
"""Size of the cells of each class."""
SPREAD = 0.15
"""By how many octaves the cells of a picture differ from those of its class, at most."""
Intervals = tuple[tuple[float, float], ...]
TRAINED: Intervals = ((3.0, 4.2), (5.4, 11.0), (14.2, 20.0))
"""Metres per pixel of training pictures, log-uniform; between them are two gaps."""
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
"""The encoder of every arm, but for what the arm changes."""


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
            self.head = nn.Linear(self.encoder.config.dim, len(CELLS_M))
        self.told = nn.Parameter(torch.zeros(self.encoder.config.dim)) if told else None

    def forward(
        self, images: UInt8[Tensor, "batch rows cols 3"], gsd_m: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Scores of the classes."""
        tokens = self.tokenize(images, gsd_m)
        return self.head(self.encoder.encode("lores", tokens).x.mean(dim=1).float())

    def tokenize(
        self, images: UInt8[Tensor, "batch rows cols 3"], gsd_m: Float[Tensor, " batch"]
    ) -> Tokens:
        """Tokens as the first layer gets them."""
        pixels = self.encoder.encoder("lores").standardise["lores"](images.movedim(-1, 1).float())
        tokens = self.encoder.tokenize("lores", pixels, gsd_m)
        if self.told is None:
            return tokens
        return Tokens(tokens.x + (gsd_m / 8).log()[:, None, None] * self.told, tokens.xy)


def train(
    arm: Mapping[str, Any], shown: Pictures, *, steps: int, rate: float, seed: int, batch: int = 64
) -> tuple[Classifier, float]:
    """A trained classifier, and its mean loss over the last tenth of the steps."""
    model = Classifier(arm, seed=seed)

    def loss(images: Tensor, gsd_m: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images, gsd_m), labels)

    batches = shown.batches(batch, steps, seed=seed)
    last = fit(model, batches, loss, steps=steps, rate=rate)
    return model.eval(), last


def fit(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    loss_of: Callable[..., Tensor],
    *,
    steps: int,
    rate: float,
) -> float:
    """Train, a step per batch; returns the mean loss over the last tenth of the steps.

    AdamW, warm-up over a tenth, cosine to zero, in bfloat16 where the processor has it.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm, losses = max(1, steps // 10), []
    for step, batch in enumerate(batches):
        share = (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
        if step >= warm:
            share = 0.5 - 0.5 * np.cos(np.pi * share)
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.zero_grad(set_to_none=True)
        with autocast("auto", torch.device("cpu")):
            loss = loss_of(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 10) :]))


@torch.no_grad()
def scores(model: nn.Module, shown: Pictures, *, times: float = 1.0) -> Float[Tensor, "count 4"]:
    """Probabilities of the classes, of pictures whose GSD is stated `times` as large as it is."""
    parts = torch.arange(len(shown.images)).split(128 * 64**2 // shown.images[0][..., 0].size or 1)
    with autocast("auto", torch.device("cpu")):
        found = [
            model(torch.from_numpy(shown.images[part.numpy()]), times * shown.gsd_m[part])
            for part in parts
        ]
    return torch.cat(found).float().softmax(dim=1)


def accuracy(model: nn.Module, shown: Pictures) -> float:
    """Share of the pictures whose class is found."""
    return float((scores(model, shown).argmax(dim=1) == shown.labels).float().mean())


def gain(
    model: nn.Module,
    shown: Pictures,
    *,
    times: float = 2.0,
    within: tuple[float, float] = (0.0, np.inf),
) -> float:
    """Octaves by which the answer grows per octave of the stated GSD, while the pixels stay.

    1 knows scale, 0 is blind to it; no label enters, but for leaving out pictures whose answer
    has no room to move: those of the last class on the way, and those whose stated GSD would lie
    outside `within`.

    Args:
        times: the stated GSD over the true one, above 1 or below.
    """
    last = len(CELLS_M) - 1 if times > 1 else 0
    stated = times * shown.gsd_m
    room = (shown.labels != last) & (stated >= within[0]) & (stated <= within[1])
    some = Pictures(shown.images[room.numpy()], shown.gsd_m[room], shown.labels[room])
    octaves = torch.arange(len(CELLS_M)).float()
    true, moved = (scores(model, some, times=factor) @ octaves for factor in (1.0, times))
    return float((moved - true).mean() / np.log2(times))


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
