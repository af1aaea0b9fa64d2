"""Experiment 4: one encoder for both optical sensors against the paper's one for each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from exhibits.experiments.plans import NOT_RUN, Plan, Verdict, chosen, means
from exhibits.experiments.pretraining import (
    RATES,
    TRULY,
    TUNED,
    WRONGLY,
    Arms,
    Images,
    Runs,
    described,
    nearest_accuracy,
    paired,
    points,
    real_chips,
    resampled,
    undecided,
)
from exhibits.figures.style import SERIES, legend, panels, seed_line
from salib.model import Pretraining, ScaleAlibi, load_model
from salib.model.precision import autocast
from salib.model.views import View
from salib.training.batches import Crop, cut_crop
from salib.training.data import Samples
from salib.training.validation import agreement

SHARED, APART = "one optical encoder", "an encoder for each sensor"
ARMS: Arms = {APART: [], SHARED: ["shared_optical=true"]}
SIDES_PX = (32, 48, 64, 80, 96, 128)
"""In how many pixels the same ground is shown."""
OWN_PX = 64
"""Of EuroSAT's chips, and of a crop in training; hires has twice as many."""
FINER_PX, COARSER_PX = (128,), (32,)
"""Finer than the lores encoder is trained at, within what hires is; coarser than both."""
MARGIN = 0.05
"""What may be lost elsewhere."""
GROUND_PX = 96
"""Side of the ground of a held-out tile that is shown, in its lores pixels of about 7.5 m."""
EUROSAT_M, K = 10.0, 20
RADAR, HIRES, EUROSAT, MOVED = "radar-lores", "lores-hires", "EuroSAT", "moved"
KEYS = ("arm", "seed", "steps", "test", "side_px", "told")
OTHERS_PX = tuple(side for side in SIDES_PX if side != OWN_PX)
MEASURES: dict[str, tuple[str, tuple[int, ...], str]] = {
    RADAR: (RADAR, (OWN_PX,), TRULY),
    HIRES: (HIRES, (OWN_PX,), TRULY),
    "lores-hires, finer": (HIRES, FINER_PX, TRULY),
    "lores-hires, coarser": (HIRES, COARSER_PX, TRULY),
    "EuroSAT, 10 m": (EUROSAT, (OWN_PX,), TRULY),
    "EuroSAT, 5 m": (EUROSAT, FINER_PX, TRULY),
    "EuroSAT, 20 m": (EUROSAT, COARSER_PX, TRULY),
    "EuroSAT, other GSDs": (EUROSAT, OTHERS_PX, TRULY),
    "the same, told 10 m": (EUROSAT, OTHERS_PX, WRONGLY),
    MOVED: (MOVED, (OWN_PX,), WRONGLY),
}
"""Test, sides over which its values are averaged, and what was told."""


class HeldOut(NamedTuple):
    """The middle of the held-out tiles in one sensor: as its pixels are, with their GSD."""

    images: list[np.ndarray]
    lores_m: Float[Tensor, " count"]
    sensor: str

    def shown(self, side_px: int) -> tuple[UInt8[Tensor, "count bands side side"], Tensor]:
        """All grounds in so many pixels, and their true metres per pixel."""
        crop = Crop((256 - GROUND_PX) // 2, (256 - GROUND_PX) // 2, GROUND_PX, 0)
        factor = self.images[0].shape[0] // 256
        cut = [cut_crop(image, crop, factor, side_px) for image in self.images]
        pixels = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()
        return pixels, self.lores_m * GROUND_PX / side_px


def held_out(tiles: Path) -> dict[str, HeldOut]:
    """By sensor, the tiles from which nothing is learnt."""
    samples = Samples(tiles, split="valid")
    numbers = range(len(samples))
    lores_m = torch.tensor([samples.gsd_m(n, "lores") for n in numbers])
    return {
        sensor: HeldOut([samples.image(n, sensor) for n in numbers], lores_m, sensor)
        for sensor in ("radar", "lores", "hires")
    }


@torch.no_grad()
def projected(model: ScaleAlibi, view: HeldOut, side_px: int, *, told: str = TRULY) -> Tensor:
    """Projections, by which sensors find each other, of whole images."""
    (images, gsd_m), parts = view.shown(side_px), []
    stated = gsd_m if told == TRULY else gsd_m * side_px / OWN_PX
    with autocast("auto", model.log_scale.device):
        for some in torch.arange(len(images)).split(16):
            tokens = model.encode_view(view.sensor, View(images[some], stated[some]))
            parts.append(model.projections[view.sensor](model.pool(view.sensor, tokens)))
    return torch.cat(parts).float()


def recall(one: Tensor, other: Tensor) -> float:
    """Share of grounds that the nearest image of the other sensor shows; mean of both ways."""
    out = Pretraining({"one": one, "other": other}, {}, {}, {}, torch.ones(()))
    told = agreement(out)
    return float(told["recall1_one_other"] + told["recall1_other_one"]) / 2


def retrieval(model: ScaleAlibi, tiles: Mapping[str, HeldOut]) -> Iterator[dict[str, Any]]:
    """Recall at 1 across sensors, the lores image at its own GSD and at others."""
    radar = projected(model, tiles["radar"], OWN_PX)
    hires = projected(model, tiles["hires"], 2 * OWN_PX)
    for side_px in SIDES_PX:
        gsd_m = round(float(tiles["lores"].shown(side_px)[1].mean()), 3)
        for told in (TRULY, WRONGLY) if side_px != OWN_PX else (TRULY,):
            lores = projected(model, tiles["lores"], side_px, told=told)
            at = {"side_px": side_px, "told": told, "gsd_m": gsd_m}
            yield at | {"test": HIRES, "value": recall(lores, hires)}
            if side_px == OWN_PX:
                yield at | {"test": RADAR, "value": recall(radar, lores)}


def neighbours(
    model: ScaleAlibi, bank: tuple[Images, np.ndarray], asked: tuple[Images, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """k-NN accuracy on EuroSAT: the bank at 10 m, the asked images there and at other GSDs.

    Last, "moved": how far another stated GSD moves an image, its pixels unchanged, as a share of
    the mean distance between two images.
    """
    known = described(model, bank[0], EUROSAT_M)
    for side_px in SIDES_PX:
        images, gsd_m = resampled(asked[0], side_px), EUROSAT_M * OWN_PX / side_px
        stated = {TRULY: gsd_m, WRONGLY: EUROSAT_M}
        for told in (TRULY, WRONGLY) if side_px != OWN_PX else (TRULY,):
            found = described(model, images, stated[told])
            value = nearest_accuracy(known, bank[1], found, asked[1], k=K)
            at = {"side_px": side_px, "told": told, "gsd_m": gsd_m}
            yield at | {"test": EUROSAT, "value": value}
    here, there = (described(model, asked[0], times * EUROSAT_M) for times in (1, 2))
    apart = float(torch.pdist(torch.from_numpy(here)).mean())
    value = float(np.linalg.norm(there - here, axis=1).mean()) / apart
    yield {"side_px": OWN_PX, "told": WRONGLY, "gsd_m": EUROSAT_M, "test": MOVED, "value": value}


def run(plan: Plan, profile: str) -> pd.DataFrame:
    """Pretrain both arms for each seed and measure them frozen; resumes model by model.

    Each arm first takes the learning rate of the least loss. Without EuroSAT's zip its rows are
    not run; once it is there, only they are. Without a budget for the profile nothing is run.

    Returns:
        arm, seed, steps, rate, loss, test, side_px, gsd_m, told, value.

    Raises:
        ValueError: if the profile has no tiles yet.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, bank, asked = (sizes.pop(name) for name in ("seeds", "bank", "asked"))
    chips = real_chips("eurosat", (0, bank, 300, 300 + asked))
    runs = Runs(name=plan.name, profile=profile, **sizes)
    tiles = held_out(runs.tiles)
    rates = runs.tuned(plan.rows(profile, TUNED, part="tuning"), ARMS)
    for seed, arm in ((seed, arm) for seed in range(seeds) for arm in ARMS):
        at = {"arm": arm, "seed": seed, "steps": runs.steps}
        last = {HIRES: SIDES_PX[-1]} | ({MOVED: OWN_PX} if chips else {})  # rows of each part
        ends = {n: {"test": n, "side_px": side, "told": WRONGLY} for n, side in last.items()}
        if not (lacking := [n for n, end in ends.items() if at | end not in found]):
            continue
        folder, loss = runs.train(arm, ARMS[arm], seed=seed, rate=rates[arm])
        model, at = load_model(folder), at | {"rate": rates[arm], "loss": loss}
        if HIRES in lacking:
            found.add(*(at | row for row in retrieval(model, tiles)))
        if MOVED in lacking:
            found.add(*(at | row for row in neighbours(model, *chips)))
    return found.frame


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per arm and seed, a column per measure that was run."""
    lines: dict[str, Any] = {}
    for name, (test, sides, told) in MEASURES.items():
        here = rows["test"].eq(test) & rows["side_px"].isin(sides) & rows["told"].eq(told)
        own: Any = rows[here]
        if len(own):
            lines[name] = own.groupby(["arm", "seed"])["value"].mean()
    return pd.DataFrame(lines).rename_axis(["arm", "seed"]).reset_index()


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: EuroSAT at 5 m higher, little lost elsewhere, each by its paired interval."""
    if rows.empty:
        return NOT_RUN
    by_seed = wide(rows)
    if set(by_seed["arm"]) != set(ARMS):
        return undecided("", "an arm is missing")
    names = ["EuroSAT, 5 m", "EuroSAT, 10 m", RADAR, HIRES]
    less = {n: paired(by_seed, (SHARED, n), (APART, n)) for n in names if n in by_seed}
    evidence = points(less)
    if np.isnan(less[HIRES].low):
        return undecided(evidence, "one seed has no interval")
    if len(less) < len(names):
        return undecided(evidence, "EuroSAT was not run")
    others = [less[name] for name in names[1:]]
    if less[names[0]].low <= 0 or any(each.high < 0 for each in others):
        return Verdict("does not hold", evidence)
    if any(each.low < -MARGIN for each in others):
        return undecided(evidence, "these seeds cannot exclude a loss of 5 points")
    return Verdict("holds", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every measure in percent, mean over seeds with its interval; a line per measure."""
    by_seed = wide(rows)
    shown = means(by_seed, [n for n in MEASURES if n in by_seed], percent=[*MEASURES])
    shown = shown.reindex(columns=[*MEASURES], fill_value="not run")
    return shown.assign(rate=chosen(rows, RATES)).T


def scales_figure(rows: pd.DataFrame) -> Figure:
    """Retrieval and k-NN accuracy against the GSD at which images are shown."""
    figure, axes = panels(1, 2, height_in=2.9)
    titles = {HIRES: "lores finds hires, procedural tiles", EUROSAT: "k-NN, real EuroSAT chips"}
    for axis, (test, title) in zip(axes[0], titles.items(), strict=True):
        for number, arm in enumerate(ARMS):
            for told, dash in ((TRULY, "-"), (WRONGLY, ":")):
                right = rows["told"].eq(told) | rows["side_px"].eq(OWN_PX)
                own: Any = rows[rows["arm"].eq(arm) & rows["test"].eq(test) & right]
                values = own.pivot(index="seed", columns="gsd_m", values="value") * 100
                label = f"{arm}, told {'truly' if told == TRULY else 'the usual GSD'}"
                if len(values):
                    how = {"color": SERIES[number], "ls": dash, "label": label}
                    seed_line(axis, [*values.columns], values.to_numpy(float), **how)
        axis.set(xscale="log", xlabel="metres per pixel", title=title)
        axis.title.set_fontsize(9)
        axis.minorticks_off()
        at = sorted({*rows.loc[rows["test"].eq(test), "gsd_m"]})
        axis.set_xticks(at, [f"{gsd_m:.3g}" for gsd_m in at])
    axes[0, 0].set_ylabel("recall at 1, %")
    axes[0, 1].set_ylabel("accuracy, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend(figure, size=7, loc="outside lower center", ncols=2, handles=handles, labels=labels)
    return figure
