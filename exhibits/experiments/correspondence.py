"""Experiment 5: Figure 2's claim, that cross-attention finds the same ground in another image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn

from earth.mosaics import draw_mosaic
from exhibits.experiments import scale
from exhibits.experiments.mosaics import fit
from exhibits.experiments.plans import (
    NOT_RUN,
    Plan,
    Rows,
    Verdict,
    by_seed,
    chosen,
    difference,
    means,
)
from exhibits.figures.style import OTHER, SERIES, legend, panels, seed_dot
from exhibits.tables.summary import seed_interval
from salib.attention import Geometry
from salib.bias import alibi_slopes, patch_centres, sincos
from salib.model import patchify
from salib.model.layers import Transformer
from salib.model.precision import autocast

DIM, HEADS, DEPTH, PATCH_PX, REFERENCE_M = 96, 6, 2, 8, 64.0
SLOPES = {
    "ALiBi's slopes": tuple(alibi_slopes(HEADS).tolist()),
    "steep": scale.STEEP,
    "4 x steep": tuple(4 * slope for slope in scale.STEEP),
}
"""Slopes from which the arms with a bias choose."""
METRES, ALIBI, INDICES = "metres", "metres, ALiBi's slopes", "patch indices"
TABLE, SINCOS, NONE = "learned table", "sine-cosine in metres", "no position"
ARMS: dict[str, dict[str, Any]] = {
    METRES: SLOPES,
    ALIBI: {name: SLOPES[name] for name in ("ALiBi's slopes",)},
    INDICES: SLOPES,
    TABLE: {f"starts at {spread}": spread for spread in (0.02, 0.1, 0.5)},
    SINCOS: {f"{metres:g} m a radian": metres for metres in (16.0, 32.0, 64.0)},
    NONE: {"-": None},
}
"""By arm, the strengths that it chooses from: slopes, spread of a table, metres of a radian."""
RATES = (1e-3, 2e-3, 4e-3)
CELLS_M = (40.0, 160.0)
TRAINED, LARGER, FINER = "trained size", "larger image", "10 and 2.5 m"
TESTS = {TRAINED: (10.0, 5.0, 480.0), LARGER: (10.0, 5.0, 960.0), FINER: (10.0, 2.5, 480.0)}
"""Metres per pixel of the coarse and of the fine image, and the side of the ground in metres."""
FOUND, ABSENT = 0.9, 0.1
KEYS = ("arm", "seed", "steps", "pictures")
TUNED = ("arm", "strength", "rate", "steps", "pictures")


@dataclass(frozen=True)
class Pairs:
    """Coarse and fine mosaics, drawn apart, of the same squares of ground."""

    coarse: UInt8[np.ndarray, "count coarse_px coarse_px 3"]
    fine: UInt8[np.ndarray, "count fine_px fine_px 3"]
    coarse_m: float
    fine_m: float

    @classmethod
    def draw(
        cls, count: int, *, coarse_m: float, fine_m: float, ground_m: float, seed: Sequence[int]
    ) -> "Pairs":
        """Cells of 40 to 160 m, log-uniform."""
        rng = np.random.default_rng(seed)
        images = []
        for gsd_m in (coarse_m, fine_m):
            cells_m = CELLS_M[0] * (CELLS_M[1] / CELLS_M[0]) ** rng.random(count)
            how: Any = {"gsd_m": gsd_m, "side_px": round(ground_m / gsd_m)}
            images.append(np.stack([draw_mosaic(rng, cell_m=cell_m, **how) for cell_m in cells_m]))
        coarse, fine = images
        return cls(coarse, fine, coarse_m, fine_m)

    @property
    def times(self) -> int:
        """Fine patches along the side of a coarse one."""
        return round(self.coarse_m / self.fine_m)

    def batches(self, size: int, steps: int, *, seed: int) -> Iterator[tuple[Tensor, ...]]:
        """Images paired anew at every step; they have nothing but the ground in common."""
        rng = np.random.default_rng([seed, 1])
        for _ in range(steps):
            turned = (
                np.rot90(images[rng.integers(len(images), size=size)], int(rng.integers(4)), (1, 2))
                for images in (self.coarse, self.fine)
            )
            yield tuple(scaled(images) for images in turned)


def scaled(images: UInt8[np.ndarray, "count side side 3"]) -> Float[Tensor, "count 3 side side"]:
    """Pixel values about 0, of spread about 1."""
    return (torch.from_numpy(images.copy()).movedim(-1, 1).float() - 120) / 40


def colours(
    fine: Float[Tensor, "batch 3 side side"], times: int
) -> Float[Tensor, "batch tokens 3"]:
    """What is to be found: the fine image's mean colour under each coarse token.

    Args:
        times: how many fine patches lie along the side of a coarse one.
    """
    return F.avg_pool2d(fine, times * PATCH_PX).flatten(2).mT


class Reader(nn.Module):
    """Two patch embeddings, the library's cross-encoder, and a linear head; coarse asks fine."""

    def __init__(self, arm: str, strength: Any, *, seed: int) -> None:
        """Build an arm of the experiment."""
        super().__init__()
        self.arm, self.strength = arm, strength
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.ModuleList([nn.Linear(3 * PATCH_PX**2, DIM) for _ in range(2)])
            self.transformer = Transformer(DIM, HEADS, DEPTH, cross=True)
            self.head = nn.Linear(DIM, 3)
            sides = [round(TESTS[TRAINED][2] / gsd_m) // PATCH_PX for gsd_m in TESTS[TRAINED][:2]]
            tables = [torch.randn(1, DIM, side, side) for side in sides if arm == TABLE]
            self.tables = nn.ParameterList([nn.Parameter(strength * table) for table in tables])

    def forward(
        self,
        coarse: Float[Tensor, "batch 3 side side"],
        fine: Float[Tensor, "batch 3 fine_side fine_side"],
        gsds_m: tuple[float, float],
    ) -> Float[Tensor, "batch tokens 3"]:
        """A colour for each coarse token."""
        streams, places = [], []
        for number, images in enumerate((coarse, fine)):
            side = images.shape[-1] // PATCH_PX
            patch_m = 1.0 if self.arm == INDICES else PATCH_PX * gsds_m[number]
            places.append(patch_centres(side, side, torch.tensor([patch_m])))
            code = self.code(number, side, places[-1])
            streams.append(self.embed[number](patchify(images, PATCH_PX)) + code)
        here, across = (self.geometry(places[0], keys) for keys in places)
        return self.head(self.transformer(streams[0], here, streams[1], across)).float()

    def code(
        self, number: int, side: int, xy: Float[Tensor, "1 tokens 2"]
    ) -> Float[Tensor, "1 tokens dim"] | float:
        """What is added to the tokens of an image; a table is stretched to their grid."""
        if self.arm == TABLE:
            table = F.interpolate(self.tables[number], (side, side), mode="bicubic")
            return table.flatten(2).mT
        return sincos(xy / self.strength, DIM) if self.arm == SINCOS else 0.0

    def geometry(
        self, query_xy: Float[Tensor, "1 queries 2"], key_xy: Float[Tensor, "1 keys 2"]
    ) -> Geometry | None:
        """The bias of the arms that have one, in patches for `INDICES`."""
        if self.arm not in (METRES, ALIBI, INDICES):
            return None
        reference_m = 1.0 if self.arm == INDICES else REFERENCE_M
        return Geometry(query_xy, key_xy, torch.tensor(self.strength), reference_m)


def train(
    arm: str, strength: Any, shown: Pairs, *, steps: int, rate: float, seed: int
) -> tuple[Reader, float]:
    """A trained reader, and its mean loss over the last tenth of the steps."""
    model, gsds_m = Reader(arm, strength, seed=seed), (shown.coarse_m, shown.fine_m)

    def loss(coarse: Tensor, fine: Tensor) -> Tensor:
        return F.mse_loss(model(coarse, fine, gsds_m), colours(fine, shown.times))

    last = fit(model, shown.batches(64, steps, seed=seed), loss, steps=steps, rate=rate)
    return model.eval(), last


@torch.no_grad()
def r2(model: Reader, shown: Pairs) -> float:
    """Share of the spread of colours within an image that is found; its mean alone gives 0."""
    wrong = spread = 0.0
    for part in np.array_split(np.arange(len(shown.fine)), -(-len(shown.fine) // 32)):
        coarse, fine = scaled(shown.coarse[part]), scaled(shown.fine[part])
        with autocast("auto", torch.device("cpu")):
            found = model(coarse, fine, (shown.coarse_m, shown.fine_m))
        target = colours(fine, shown.times)
        wrong += float((found - target).square().sum())
        spread += float((target - target.mean(dim=1, keepdim=True)).square().sum())
    return 1 - wrong / spread


def run(plan: Plan, profile: str, *, arms: Sequence[str] = tuple(ARMS)) -> pd.DataFrame:
    """Train each arm for each seed with images of its own, and test it; resumes.

    Returns:
        arm, seed, steps, pictures, strength, rate, loss, and R2 by test.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, tested, arms = sizes.pop("seeds"), sizes.pop("tested"), sizes.pop("arms", arms)
    best = tuned(plan.rows(profile, TUNED, part="tuning"), arms, tested=tested, **sizes)
    steps, pictures = sizes["steps"], sizes["pictures"]
    for seed in range(seeds):
        own = {"seed": seed, "steps": steps, "pictures": pictures}
        if not (left := [arm for arm in arms if own | {"arm": arm} not in found]):
            continue
        shown = draw(TRAINED, pictures, seed=[seed, 1])
        held = {n: draw(n, tested, seed=[seed, 2, at]) for at, n in enumerate(TESTS)}
        for arm in left:
            strength, rate = best[arm]
            model, loss = train(arm, ARMS[arm][strength], shown, steps=steps, rate=rate, seed=seed)
            told = own | {"arm": arm, "strength": strength, "rate": rate, "loss": loss}
            found.add(told | {name: r2(model, pairs) for name, pairs in held.items()})
    return found.frame


def draw(test: str, count: int, *, seed: Sequence[int]) -> Pairs:
    """Pairs of one of the tests."""
    coarse_m, fine_m, ground_m = TESTS[test]
    return Pairs.draw(count, coarse_m=coarse_m, fine_m=fine_m, ground_m=ground_m, seed=seed)


def tuned(
    found: Rows, arms: Sequence[str], *, steps: int, pictures: int, tested: int, tuning: int
) -> dict[str, tuple[str, float]]:
    """Strength and learning rate of each arm: the best R2 after `tuning` steps; a middle if 0."""
    if not tuning:
        return {arm: (list(ARMS[arm])[len(ARMS[arm]) // 2], RATES[1]) for arm in arms}
    sizes = {"steps": tuning, "pictures": pictures}
    tried = [
        {"arm": arm, "strength": strength, "rate": rate, **sizes}
        for arm in arms
        for strength, rate in product(ARMS[arm], RATES)
    ]
    if left := [at for at in tried if at not in found]:
        shown = draw(TRAINED, pictures, seed=[scale.TUNING, 1])
        valid = draw(TRAINED, tested, seed=[scale.TUNING, 2])
        for at in left:
            value, how = ARMS[at["arm"]][at["strength"]], {"rate": at["rate"], "seed": scale.TUNING}
            model, loss = train(at["arm"], value, shown, steps=tuning, **how)
            found.add(at | {"loss": loss, TRAINED: r2(model, valid)})
    tried_all = found.current(**sizes).dropna(subset=TRAINED)
    best: Any = tried_all.sort_values(TRAINED).groupby("arm").last()
    return {arm: (str(best.loc[arm, "strength"]), float(best.loc[arm, "rate"])) for arm in arms}


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: metres in all tests, patch indices in none, and the codes on the larger image."""
    if rows.empty:
        return NOT_RUN
    if missing := {METRES, INDICES, TABLE, SINCOS} - set(rows["arm"]):
        return Verdict("cannot be decided here", f"missing: {', '.join(sorted(missing))}")
    metres, indices = (
        [seed_interval(by_seed(rows, test)[arm].dropna().to_numpy(float)) for test in TESTS]
        for arm in (METRES, INDICES)
    )
    ahead = [difference(rows, LARGER, METRES, arm) for arm in (TABLE, SINCOS)]
    evidence = (
        f"R2 of metres at least {min(end.value for end in metres):.2f}, of indices at most "
        f"{max(end.value for end in indices):.2f}; on the larger image metres are ahead by "
        f"{ahead[0].value:.2f} and {ahead[1].value:.2f}"
    )
    if np.isnan(metres[0].low):
        return Verdict("cannot be decided here", f"{evidence}; one seed has no interval")
    right = all(end.low > FOUND for end in metres) and all(end.high < ABSENT for end in indices)
    right = right and all(end.low > 0 for end in ahead)
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """R2 by test, mean over seeds with its interval, and what the arm chose."""
    there = [arm for arm in ARMS if arm in set(rows["arm"])]
    taken = {"strength": rows.groupby("arm")["strength"].first()}
    taken["learning rate"] = chosen(rows, RATES)
    return means(rows, list(TESTS), percent=[]).assign(**taken).loc[there].rename_axis("arm")


def correspondence_figure(rows: pd.DataFrame) -> Figure:
    """R2 of each arm in each test."""
    figure, axes = panels(1, 1, height_in=3.0)
    axis = axes[0, 0]
    for place, (arm, colour) in enumerate(zip(ARMS, SERIES, strict=False)):
        own: Any = rows[rows["arm"] == arm]
        for number, test in enumerate(TESTS if len(own) else ()):
            at = number + 0.12 * (place - (len(ARMS) - 1) / 2)
            label = None if number else arm
            seed_dot(axis, at, own[test].to_numpy(float), color=colour, label=label)
    axis.axhline(0, color=OTHER, lw=0.8)
    axis.set_ylabel("R² within the image")
    axis.set_xticks(range(len(TESTS)), list(TESTS))
    legend(axis, beside=True)
    return figure
