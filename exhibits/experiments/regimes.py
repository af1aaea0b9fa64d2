"""Experiment 3: the paper's own set-up, in which an encoder sees one sensor at one GSD."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from exhibits.experiments import scale
from exhibits.experiments.mosaics import TRAINED, Intervals, Pictures, accuracy, gain, train
from exhibits.experiments.plans import NOT_RUN, Plan, Verdict, by_seed, means
from exhibits.figures.style import OTHER, legend, panels, seed_dot, seed_line
from exhibits.tables.summary import seed_interval

ONE, LATITUDE, TWO = "one GSD", "latitude", "two GSDs"
REGIMES: dict[str, Intervals] = {
    ONE: ((7.75, 7.75),),
    LATITUDE: ((3.13, 4.33),),
    TWO: ((3.875, 3.875), (15.5, 15.5)),
    "an octave": ((5.48, 10.96),),
    "3 to 20 m": TRAINED,
}
"""Metres per pixel of training pictures. An XYZ tile of one zoom spans `LATITUDE` in the US."""
ARMS = (scale.SCALE, "Scale-ALiBi, steep slopes", scale.PATCHES)
GSDS_M = (3.0, 4.76, 7.75, 12.5, 20.0)
WITHIN, UP, DOWN = "in regime", "gain, doubled", "gain, halved"
BLIND, KNOWN = 0.1, 0.7
"""A gain nearer to 0 than the first is none; above the second, scale is known."""
KEYS = ("regime", "arm", "seed", "steps", "pictures")


def room(intervals: Intervals) -> tuple[float, float]:
    """Bounds of stated GSDs: the ends of what was trained, where that is two octaves wide.

    A narrower range has none, for there a stated GSD is outside as soon as it is doubled.
    """
    low, high = intervals[0][0], intervals[-1][1]
    return (low, high) if high >= 4 * low else (0.0, np.inf)


def run(plan: Plan, profile: str, *, arms: Sequence[str] = ARMS) -> pd.DataFrame:
    """Train each arm in each regime for each seed, with pictures of its own; resumes.

    Learning rates are those that experiment 1 chose for the same arms.

    Returns:
        regime, arm, seed, steps, pictures, rate, loss, accuracy in the regime and at single GSDs,
        gain where the stated GSD is doubled, and where it is halved.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, tested, arms = sizes.pop("seeds"), sizes.pop("tested"), sizes.pop("arms", arms)
    regimes = sizes.pop("regimes", tuple(REGIMES))
    rates = scale.chosen_rates(profile, arms, root=plan.root)
    for seed, regime in ((seed, regime) for seed in range(seeds) for regime in regimes):
        own = {"regime": regime, "seed": seed, **sizes}
        if not (left := [arm for arm in arms if own | {"arm": arm} not in found]):
            continue
        intervals, number = REGIMES[regime], list(REGIMES).index(regime)
        shown = Pictures.draw(sizes["pictures"], intervals=intervals, seed=[seed, 1, number])
        held = Pictures.draw(tested, intervals=intervals, seed=[seed, 2, number])
        single = draw_single(tested, seed=seed)
        for arm in left:
            told, how = own | {"arm": arm, "rate": rates[arm]}, {"rate": rates[arm], "seed": seed}
            model, loss = train(scale.ARMS[arm], shown, steps=sizes["steps"], **how)
            right = {WITHIN: accuracy(model, held)}
            right |= {name: accuracy(model, pictures) for name, pictures in single.items()}
            moved = {
                name: gain(model, held, times=times, within=room(intervals))
                for name, times in ((UP, 2.0), (DOWN, 0.5))
            }
            found.add(told | {"loss": loss} | right | moved)
    return found.frame


def draw_single(count: int, *, seed: int) -> dict[str, Pictures]:
    """Pictures of one GSD each, the same for all regimes and arms of a seed."""
    return {
        f"{gsd_m:g} m": Pictures.draw(
            count, intervals=((gsd_m, gsd_m),), seed=[seed, 2, len(REGIMES) + number]
        )
        for number, gsd_m in enumerate(GSDS_M)
    }


def gains(rows: pd.DataFrame, regime: str, column: str) -> np.ndarray:
    """Gains of Scale-ALiBi with ALiBi's slopes in a regime, one per seed."""
    some: Any = rows[rows["regime"] == regime]
    return by_seed(some, column)[scale.SCALE].dropna().to_numpy(float)


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: no gain at one GSD nor over latitude, and gain with two GSDs, both ways."""
    if rows.empty:
        return NOT_RUN
    own: Any = rows[rows["arm"] == scale.SCALE]
    if missing := {ONE, LATITUDE, TWO} - set(own["regime"]):
        return Verdict("cannot be decided here", f"missing: {', '.join(sorted(missing))}")
    ends = {
        regime: [seed_interval(gains(rows, regime, column)) for column in (UP, DOWN)]
        for regime in (ONE, LATITUDE, TWO)
    }
    told = (f"{regime}: {up.value:.2f}, {down.value:.2f}" for regime, (up, down) in ends.items())
    evidence = "gain with the stated GSD doubled and halved: " + "; ".join(told)
    if any(np.isnan(end.low) for pair in ends.values() for end in pair):
        return Verdict("cannot be decided here", f"{evidence}; one seed has no interval")
    blind = [end for regime in (ONE, LATITUDE) for end in ends[regime]]
    right = all(end.low > -BLIND and end.high < BLIND for end in blind)
    right = right and all(end.low > KNOWN for end in ends[TWO])
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in the regime in percent and gains, mean over seeds with its interval."""
    parts = {}
    for regime in (name for name in REGIMES if name in set(rows["regime"])):
        own: Any = rows[rows["regime"] == regime]
        parts[regime] = means(own, [WITHIN, UP, DOWN], percent=[WITHIN]).reindex(
            [arm for arm in ARMS if arm in set(own["arm"])]
        )
    return pd.concat(parts, names=["trained at", "arm"])


def regimes_figure(rows: pd.DataFrame) -> Figure:
    """Gain by regime and arm, and for each regime accuracy against GSD."""
    figure, axes = panels(2, 3, height_in=4.6)
    first, *others = axes.flat
    _draw_gains(first, rows)
    names = [f"{gsd_m:g} m" for gsd_m in GSDS_M]
    for axis, (regime, intervals) in zip(others, REGIMES.items(), strict=True):
        for low, high in intervals:
            axis.axvspan(low / 1.03, high * 1.03, color=OTHER, alpha=0.25, lw=0)
        for arm in ARMS:
            own: Any = rows[(rows["regime"] == regime) & (rows["arm"] == arm)]
            if len(own):
                seed_line(axis, GSDS_M, 100 * own[names].to_numpy(float), **scale.look(arm))
        axis.set(xscale="log", ylim=(0, 103))
        axis.set_title(regime, size=9)
        axis.minorticks_off()
        axis.set_xticks(GSDS_M, [f"{gsd_m:g}" for gsd_m in GSDS_M])
    for axis in axes[1]:
        axis.set_xlabel("metres per pixel")
    axes[0, 1].set_ylabel("accuracy, %")
    axes[1, 0].set_ylabel("accuracy, %")
    lines = [Line2D([], [], label=arm, **scale.look(arm)) for arm in ARMS]
    legend(figure, handles=lines, loc="outside lower center", ncols=len(ARMS))
    return figure


def _draw_gains(axis: Axes, rows: pd.DataFrame) -> None:
    for (number, regime), (place, arm) in product(enumerate(REGIMES), enumerate(ARMS)):
        own: Any = rows[(rows["regime"] == regime) & (rows["arm"] == arm)]
        for column, mark, shift in ((UP, "^", -0.06), (DOWN, "v", 0.06)):
            if len(own):
                at, how = number + 0.26 * (place - 1) + shift, {"marker": mark, "ms": 3.5}
                values = own[column].to_numpy(float)
                seed_dot(axis, at, values, color=scale.look(arm)["color"], **how)
    for level in (0, 1):
        axis.axhline(level, color=OTHER, lw=0.8, ls=":")
    axis.set_ylabel("gain")
    axis.set_xticks(range(len(REGIMES)), list(REGIMES), rotation=25, size=7)
