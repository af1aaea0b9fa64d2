"""Experiment 6: what each fault of the released code costs, alone and all together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from exhibits.experiments.encoders import (
    EXPLAINED,
    RECALLS,
    Chips,
    eurosat_chips,
    held_out,
    painted_chips,
)
from exhibits.experiments.page import SHOWN
from exhibits.experiments.plans import NOT_RUN, Plan, Rows, Verdict, by_seed, means
from exhibits.experiments.released import (
    FAULTS,
    Released,
    Wrapped,
    build_released,
    draw_released,
    released_objective,
)
from exhibits.figures.style import OTHER, SERIES, legend, panels
from exhibits.tables.summary import seed_interval
from salib.config import PRESETS, TRAINING
from salib.evaluate.scores.statistics import Interval
from salib.training.data import Samples
from salib.training.step import Run, learn, learning_rate, make_optimizer

OURS, ALL = "ours", "all together"
ARMS: dict[str, tuple[str, ...]] = {
    OURS: (),
    "D3 hires contrasted with itself": ("D3",),
    "D6 hires mask pooled": ("D6",),
    "D7 one cross-encoder": ("D7",),
    "D8 cross-scale bias misread": ("D8",),
    "D9 bias of another image": ("D9",),
    "D12 bright radar black": ("D12",),
    "D13 inputs not standardised": ("D13",),
    ALL: FAULTS,
}
NEAREST = ("lores, procedural", "hires, procedural", "lores, EuroSAT", "hires, EuroSAT")
PANELS = {"nearest neighbours": NEAREST, "retrieval": (*RECALLS,), EXPLAINED: (EXPLAINED,)}
MEASURES = tuple(name for names in PANELS.values() for name in names)
"""All are shares, and more is better."""
RATES = (5e-4, 1e-3, 2e-3)
"""Learning rates from which each arm chooses."""
TUNING = 1000
"""Seed of the run and of the chips on which they choose, which no result uses."""
LEAST_POINTS = 3
"""That all together must cost."""
KEYS = ("arm", "seed", "steps", "batch")
TUNED = ("arm", "rate", "steps", "batch")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What all arms share: tiles, sizes, real chips.

    Attributes:
        steps: of a run, as batch.
        bank: chips of each class that are the bank, and `tested` those that are asked for.
        held: batches of held-out tiles.
    """

    train: Samples
    valid: Samples
    real: Chips | None
    steps: int
    batch: int
    bank: int
    tested: int
    held: int

    def config(self, samples: Samples, *, steps: int, rate: float, seed: int) -> Run:
        """A run on some samples: preset `tiny` but for its length, batch and learning rate."""
        batch = min(self.batch, len(samples))
        config = replace(TRAINING["tiny"], steps=steps, batch=batch, learning_rate=rate)
        return Run(config=config, steps=steps, seed=seed, rank=0, ranks=1)

    def pretrain(self, arm: str, *, steps: int, rate: float, seed: int) -> tuple[Released, float]:
        """A model of an arm, and the mean of the loss that it learnt over the last tenth.

        Every arm has the band statistics of the tiles as they are.
        """
        faults, one = ARMS[arm], self.config(self.train, steps=steps, rate=rate, seed=seed)
        objective = released_objective if "D3" in faults else one.config.objective
        one = replace(one, config=replace(one.config, objective=objective))
        stats = self.train.band_stats()
        model = build_released(replace(PRESETS["tiny"], band_stats=stats), faults, seed)
        samples = Wrapped(self.train) if "D12" in faults else self.train
        optimizer, losses = make_optimizer(model, one.config), []
        for step in range(steps):
            views = draw_released(samples, model, one, step, faults)
            at = learning_rate(one.config, step, steps=steps)
            told, _ = learn(model, optimizer, views, one, rate=at)
            losses.append(told["contrastive"] + told["reconstruction"])
        return model.eval(), float(np.mean(losses[-max(1, steps // 10) :]))

    def measure(self, arm: str, model: Released, painted: Chips, *, seed: int) -> dict[str, float]:
        """The model by `MEASURES`, on what none was trained on."""
        found = {}
        for kind, chips in (("procedural", painted), ("EuroSAT", self.real)):
            for sensor in ("lores", "hires"):
                value = np.nan if chips is None else chips.accuracy(model, sensor)
                found[f"{sensor}, {kind}"] = value
        seen = Wrapped(self.valid) if "D12" in ARMS[arm] else self.valid
        one = self.config(self.valid, steps=1, rate=RATES[1], seed=seed)
        return found | held_out(model, seen, self.valid, one, self.held)


def run(
    plan: Plan, profile: str, *, arms: Sequence[str] = tuple(ARMS), tiles: str | Path = ""
) -> pd.DataFrame:
    """Pretrain each arm for each seed on the same tiles, and measure it; resumes.

    Learning rates are those of `tuned`. Without a budget for the profile, none is run.

    Args:
        plan: with its budgets.
        profile: which of them.
        arms: some of `ARMS`, unless the budget names them.
        tiles: folder written by `curate`; by default the profile's.

    Returns:
        arm, seed, steps, batch, rate, cpu_s, loss and `MEASURES`; of EuroSAT NaN where it is not.

    Raises:
        ValueError: if there is something to run and there are no tiles, or under `laptop` no
            EuroSAT, without which rows would not be comparable.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    arms, seeds, tuning = sizes.pop("arms", arms), sizes.pop("seeds"), sizes.pop("tuning")
    size = {"steps": sizes["steps"], "batch": sizes["batch"]}
    wanted = [{"arm": arm, "seed": seed} | size for seed in range(seeds) for arm in arms]
    wanted = [at for at in wanted if at not in found]
    if not wanted:
        return found.frame
    trial = _trial(Path(tiles or f"runs/{profile}/tiles"), profile, sizes)
    rates = tuned(plan.rows(profile, TUNED, part="tuning"), trial, arms, steps=tuning)
    for seed, group in groupby(wanted, key=itemgetter("seed")):
        painted = painted_chips(trial.bank, trial.tested, seed=seed)
        for at in group:
            arm, began = at["arm"], time.process_time()
            model, loss = trial.pretrain(arm, steps=trial.steps, rate=rates[arm], seed=seed)
            told = {"rate": rates[arm], "cpu_s": time.process_time() - began, "loss": loss}
            found.add(at | told | trial.measure(arm, model, painted, seed=seed))
    return found.frame


def _trial(tiles: Path, profile: str, sizes: dict[str, Any]) -> Trial:
    if not (tiles / "index.parquet").is_file():
        raise ValueError(
            f"{tiles} must hold tiles, got none: run notebooks/01_curation.ipynb with the "
            f"parameters of profiles/{profile}.yml first"
        )
    train, valid = (Samples(tiles, split=name) for name in ("train", "valid"))
    real = eurosat_chips(sizes["bank"], sizes["tested"])
    if real is None and profile == SHOWN:
        raise ValueError(
            f"SALIB_DATA_DIR must hold EuroSAT_RGB.zip for profile {profile}, got none"
        )
    return Trial(train=train, valid=valid, real=real, **sizes)


def tuned(found: Rows, trial: Trial, arms: Sequence[str], *, steps: int) -> dict[str, float]:
    """The learning rate of each arm: that of the best nearest neighbours after so many steps.

    The mean of both encoders, on procedural chips that no result uses. Without faults and with all
    of them it is chosen; one fault alone is switched on at ours. With 0 steps the middle one.
    """
    if not steps:
        return dict.fromkeys(arms, RATES[1])
    wanted, arms = arms, [OURS, ALL]
    painted: list[Chips] = []
    for arm, rate in product(arms, RATES):
        at = {"arm": arm, "rate": rate, "steps": steps, "batch": trial.batch}
        if at not in found:
            painted = painted or [painted_chips(trial.bank, trial.tested, seed=TUNING)]
            model, loss = trial.pretrain(arm, steps=steps, rate=rate, seed=TUNING)
            right = [painted[0].accuracy(model, sensor) for sensor in ("lores", "hires")]
            found.add(at | {"loss": loss, "accuracy": float(np.mean(right))})
    held = found.current(steps=steps, batch=trial.batch)
    best: Any = held.dropna(subset="accuracy").sort_values("accuracy").groupby("arm").last()
    return {arm: float(best.loc[arm if arm == ALL else OURS, "rate"]) for arm in wanted}


def changes(rows: pd.DataFrame, arm: str, columns: Sequence[str] = MEASURES) -> dict[str, Interval]:
    """By measure how far an arm lies above ours: mean over seeds, paired, with its interval."""
    found = {}
    for name in columns:
        values: Any = by_seed(rows, name).reindex(columns=[arm, OURS]).dropna()
        if len(values):
            found[name] = seed_interval((values[arm] - values[OURS]).to_numpy(float))
    return found


def costs(rows: pd.DataFrame, arm: str) -> dict[str, Interval]:
    """The same of each panel: the mean of its measures that were run."""
    panel = {title: rows[[*names]].mean(axis=1) for title, names in PANELS.items()}
    return changes(rows.assign(**panel), arm, [*PANELS])


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: what all faults together cost; and which cost anything alone."""
    if rows.empty:
        return NOT_RUN
    found = {name: at for name, at in costs(rows, ALL).items() if name != EXPLAINED}
    if not found:
        return Verdict("cannot be decided here", "arms are missing")
    clear = {name: at for name, at in found.items() if at.high < 0}
    name, (points, low, high) = min((clear or found).items(), key=lambda one: one[1].value)
    evidence = f"all together {100 * points:+.1f} points of {name}"
    if np.isnan(low):
        return Verdict("cannot be decided here", f"{evidence}; one seed has no interval")
    alone = [
        arm.split()[0]
        for arm in ARMS
        if arm not in (OURS, ALL) and any(at.high < 0 for at in costs(rows, arm).values())
    ]
    evidence += f" [{100 * low:+.1f}, {100 * high:+.1f}]; alone, {', '.join(alone) or 'none'} cost"
    right = bool(clear) and 100 * points <= -LEAST_POINTS
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """All measures in percent, mean over seeds with its interval."""
    there = [name for name in MEASURES if len(rows[name].dropna())]
    arms = [arm for arm in ARMS if arm in set(rows["arm"])]
    return means(rows, there, percent=there).reindex(arms).rename_axis("arm")


def costs_figure(rows: pd.DataFrame) -> Figure:
    """Points that each fault adds to each measure, with 95 % intervals."""
    arms = [arm for arm in ARMS if arm != OURS and arm in set(rows["arm"])]
    found = [changes(rows, arm) for arm in arms]
    figure, axes = panels(1, len(PANELS), height_in=4.2, sharey=True)
    for axis, (title, names) in zip(axes[0], PANELS.items(), strict=True):
        for number, name in enumerate(names):
            offset, colour = 0.18 * (number - (len(names) - 1) / 2), SERIES[number]
            at = [place for place, own in enumerate(found) if name in own]
            ends = 100 * np.array([found[place][name] for place in at]).reshape(-1, 3)
            places = np.array(at) + offset
            axis.plot(ends[:, 0], places, "o", color=colour, ms=4, label=name)
            axis.hlines(places, ends[:, 1], ends[:, 2], color=colour, lw=1)
        axis.axvline(0, color=OTHER, lw=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("points, fault minus ours", fontsize=8)
        if len(names) > 1:
            legend(axis, size=7, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes[0, 0].set_yticks(range(len(arms)), arms, fontsize=8)
    axes[0, 0].invert_yaxis()
    return figure
