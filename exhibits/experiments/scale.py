"""Experiment 1: does attention know physical size? Arms that are equal but for positions."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from exhibits.experiments.mosaics import (
    TRAINED,
    Intervals,
    Pictures,
    accuracy,
    blind_optimum,
    gain,
    train,
)
from exhibits.experiments.plans import (
    NOT_RUN,
    Plan,
    Rows,
    Verdict,
    by_seed,
    chosen,
    difference,
    means,
    read_plan,
)
from exhibits.figures.style import OTHER, SERIES, legend, panels, seed_line
from exhibits.tables.summary import seed_interval

STEEP = (2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)
SCALE, PATCHES, STEEP_PATCHES = "Scale-ALiBi", "2D-ALiBi", "2D-ALiBi, steep slopes"
ARMS: dict[str, dict[str, Any]] = {
    SCALE: {},
    "Scale-ALiBi, steep slopes": {"slopes": STEEP},
    "Scale-ALiBi, 16 m a step": {"reference_m": 16.0},
    PATCHES: {"position": "patches"},
    STEEP_PATCHES: {"position": "patches", "slopes": STEEP},
    "2D-ALiBi, log GSD added": {"position": "patches", "told": True},
    "GSD-scaled sine-cosine": {"position": "gsd_sincos"},
    "rotary by ground distance": {"position": "rotary"},
    "no position": {"position": "none"},
}
"""Fields of the model's configuration; "told" adds the logarithm of the GSD to the tokens."""
IN_RANGE, TWICE, FOUR_TIMES = "in range", "2 x side", "4 x side"
GSDS_M = (2.1, 3.5, 4.8, 7.75, 12.5, 17.0, 28.0, 40.0)
"""Of single tests: 4.8 and 12.5 lie in gaps of what was trained, 2.1, 28 and 40 beyond its ends."""
TESTS: dict[str, tuple[Intervals, int, int]] = {
    IN_RANGE: (TRAINED, 64, 1),
    **{f"{gsd_m:g} m": (((gsd_m, gsd_m),), 64, 2) for gsd_m in GSDS_M},
    TWICE: (TRAINED, 128, 2),
    FOUR_TIMES: (TRAINED, 256, 8),
}
"""Metres per pixel, side in pixels, and what divides the number of pictures."""
RATES = (7.5e-4, 1.5e-3, 3e-3)
"""Learning rates from which each arm chooses."""
LOST_MOST = 5.0
"""Points that Scale-ALiBi may lose at twice the side."""
TUNING = 1000
"""Seed of the pictures on which they choose, which no result uses."""
KEYS = ("arm", "seed", "steps", "pictures")
TUNED = ("arm", "rate", "steps", "pictures")


def draw_tests(count: int, *, seed: int) -> dict[str, Pictures]:
    """Pictures of every test, for one seed."""
    return {
        name: Pictures.draw(
            count // part, intervals=intervals, side_px=side, seed=[seed, 2, number]
        )
        for number, (name, (intervals, side, part)) in enumerate(TESTS.items())
    }


def run(plan: Plan, profile: str, *, arms: Sequence[str] = tuple(ARMS)) -> pd.DataFrame:
    """Train each arm for each seed, with pictures of its own, and measure it.

    Each arm first takes the learning rate that is most accurate in range with another seed. Rows
    that are there already are not run again. Without a budget for the profile, none is run.

    Returns:
        arm, seed, steps, pictures, rate, cpu_s, loss, accuracy by test, and gain.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, tested, arms = sizes.pop("seeds"), sizes.pop("tested"), sizes.pop("arms", arms)
    rates = tuned(plan.rows(profile, TUNED, part="tuning"), arms, tested=tested, **sizes)
    steps, pictures = sizes["steps"], sizes["pictures"]
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
            model, loss = train(ARMS[arm], drawn[0], steps=steps, rate=rates[arm], seed=seed)
            told = {"rate": rates[arm], "cpu_s": time.process_time() - began, "loss": loss}
            right = {name: accuracy(model, shown) for name, shown in drawn[1].items()}
            grown = gain(model, drawn[1][IN_RANGE], within=(TRAINED[0][0], TRAINED[-1][1]))
            found.add(at | told | right | {"gain": grown})
    return found.frame


def tuned(
    found: Rows, arms: Sequence[str], *, steps: int, pictures: int, tested: int, tuning: int
) -> dict[str, float]:
    """The learning rate of each arm: the most accurate after `tuning` steps; the middle if 0."""
    if not tuning:
        return dict.fromkeys(arms, RATES[1])
    sizes = {"steps": tuning, "pictures": pictures}
    wanted = [{"arm": arm, "rate": rate, **sizes} for arm, rate in product(arms, RATES)]
    if left := [at for at in wanted if at not in found]:
        shown = Pictures.draw(pictures, intervals=TRAINED, seed=[TUNING, 1])
        valid = Pictures.draw(tested, intervals=TRAINED, seed=[TUNING, 2])
        for at in left:
            how = {"steps": tuning, "rate": at["rate"], "seed": TUNING}
            model, loss = train(ARMS[at["arm"]], shown, **how)
            found.add(at | {"loss": loss, IN_RANGE: accuracy(model, valid)})
    tried = found.current(**sizes).dropna(subset=IN_RANGE)
    best: Any = tried.sort_values(IN_RANGE).groupby("arm").last()
    return {arm: float(best.loc[arm, "rate"]) for arm in arms}


def chosen_rates(profile: str, arms: Sequence[str], *, root: Path) -> dict[str, float]:
    """The learning rates of this experiment, for others with the same arms; found if not there."""
    plan = replace(read_plan("scale"), root=root)
    names = ("steps", "pictures", "tested", "tuning")
    sizes = {name: plan.budget[profile][name] for name in names}
    return tuned(plan.rows(profile, TUNED, part="tuning"), arms, **sizes)


def look(arm: str) -> dict[str, Any]:
    """Colour and dash of an arm, the same on every page; 2D-ALiBi's share a colour."""
    dash = "-" if arm.startswith("Scale") else "--"
    if arm == STEEP_PATCHES:
        return {"color": look(PATCHES)["color"], "ls": ":"}
    coloured = [name for name in ARMS if name != STEEP_PATCHES]
    return {"color": SERIES[coloured.index(arm)], "ls": dash}


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: gains, the paired difference in range, and what twice the side costs."""
    if rows.empty:
        return NOT_RUN
    if not {SCALE, PATCHES} <= set(rows["arm"]):
        return Verdict("cannot be decided here", "arms are missing")
    gains, values = by_seed(rows, "gain"), by_seed(rows, IN_RANGE)
    points, low, _ = (100 * np.array(difference(rows, IN_RANGE, SCALE, PATCHES))).tolist()
    longer = seed_interval((by_seed(rows, TWICE)[SCALE] - values[SCALE]).dropna().to_numpy(float))
    known, blind = gains[SCALE].mean(), gains[PATCHES].abs().max()
    evidence = (
        f"gain {known:.2f} against {blind:.2f}; {points:+.1f} points in range, at least {low:+.1f}"
        f"; {100 * longer.value:+.1f} points at twice the side, at least {100 * longer.low:+.1f}"
    )
    if np.isnan(low):
        return Verdict("cannot be decided here", f"{evidence}; one seed has no interval")
    right = blind < 1e-6 and known > 0.7 and points > 20 and low > 0
    right = right and 100 * longer.low > -LOST_MOST
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent and gain, mean over seeds with its interval."""
    names = [IN_RANGE, "4.8 m", "12.5 m", "2.1 m", "28 m", "40 m", TWICE, FOUR_TIMES]
    found = means(rows, [*names, "gain"], percent=names).rename_axis("arm")
    return found.assign(**{"learning rate": chosen(rows, RATES)})


def accuracy_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy against GSD, and against the side of the picture; the best of a blind as a line."""
    figure, axes = panels(1, 2, height_in=3.2, width_ratios=[3, 1], sharey=True)
    left, right = axes[0]
    for low, high in TRAINED:
        left.axvspan(low, high, color=OTHER, alpha=0.15, lw=0)
    for arm in (name for name in ARMS if name in set(rows["arm"])):
        own: Any = rows[rows["arm"] == arm]
        for axis, at, names in (
            (left, GSDS_M, [f"{gsd_m:g} m" for gsd_m in GSDS_M]),
            (right, (1, 2, 4), [IN_RANGE, TWICE, FOUR_TIMES]),
        ):
            seed_line(axis, at, 100 * own[names].to_numpy(float), label=arm, **look(arm))
    for axis in (left, right):
        axis.set(xscale="log", ylim=(0, 101))
        axis.minorticks_off()
    right.axhline(100 * blind_optimum(), color=OTHER, ls=":", lw=1)
    left.set_xticks(GSDS_M, [f"{gsd_m:g}" for gsd_m in GSDS_M])
    right.set_xticks((1, 2, 4), ("1", "2", "4"))
    left.set(xlabel="metres per pixel (shaded: trained)", ylabel="accuracy, %")
    right.set(xlabel="side, times 64 px")
    legend(right, size=7, beside=True)
    return figure
