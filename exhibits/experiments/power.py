"""What the paper's Table 2 can tell: its differences against the chance of its test images.

Nothing is trained. The printed percentages, the published sizes of the test splits and our own
spread over seeds are enough to say which differences exceed chance, and what it would have taken.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from exhibits.experiments.plans import NOT_RUN, Plan, Verdict
from exhibits.figures.style import OTHER, SERIES, grid, legend
from exhibits.tables.clusters import COUNTS
from exhibits.tables.rows import PROBE_NAMES
from salib.evaluate.scores.statistics import CONFIDENCE, TWO_SIDED

CHANCE = 1 - CONFIDENCE
PRINTED, OVER_SEEDS = Path("paper/table2.csv"), Path("results/learning.csv")
KEYS = ("probe", "task", "column", "less")
PAIRS = (("SA-high", "CROMA"), ("SA-low", "CROMA"), ("SA-high", "SA-low"))
RANKED = ("neural", "knn")
"""Probes whose rows can rank encoders; of k-means raw cluster ids were compared with classes."""
REAL = ("eurosat", "ucmerced")
"""Tasks of `results/learning.csv` whose test images are the same for every seed."""
FLAGGED = {"m-forestnet": (0.301, 12), "m-so2sat": (0.151, 17)}
"""Share of test labels that torchgeo-bench's audit flags (its `docs/perf_report/
cleanlab_audit_geobench.md`; below 0.01 on other tasks of one label), and classes. An upper end: it
expects a fifth to a third of the flags to be mistaken."""


def run(plan: Plan, profile: str) -> pd.DataFrame:
    """Compute every row anew, which takes a second; nothing without a budget for the profile.

    Returns:
        `differences`, with the plan's recipe.
    """
    found = plan.rows(profile, KEYS)
    if profile in plan.budget:
        spread = seed_spread(pd.read_csv(OVER_SEEDS))
        table = differences(pd.read_csv(PRINTED), spread, **plan.budget[profile])
        found.add(*table.to_dict("records"))
    return found.frame


def differences(
    printed: pd.DataFrame, spread: tuple[float, float], *, power: float
) -> pd.DataFrame:
    """Every difference between two columns, and what chance would make of it.

    Args:
        printed: paper/table2.csv.
        spread: least and most points by which a difference may vary over seeds (`seed_spread`).
        power: how often a difference is to be told by the images or seeds that are needed for it.

    Returns:
        probe, task, column, less; n (test images), points, low, high, p and p_holm (unpaired;
        NaN where rows rank nothing); images (needed), seeds_least, seeds_most (needed); and the
        share of the images on which two encoders can differ: differ_least, differ_most,
        differ_apart (errors of both independent) and differ_told (the most at which McNemar's
        exact test would tell the difference).
    """
    lines = []
    for row in printed.to_dict("records"):
        n = COUNTS[row["task"]][2]
        for one, other in PAIRS:
            shares = row[one] / 100, row[other] / 100
            at = {"probe": row["probe"], "task": row["task"], "column": one, "less": other}
            line = at | {"n": n} | unpaired(*shares, n) | paired(*shares, n)
            line["images"] = images_needed(*shares, power=power)
            for end, points in zip(("least", "most"), spread, strict=True):
                line[f"seeds_{end}"] = seeds_needed(line["points"], points, power=power)
            lines.append(line)
    table: Any = pd.DataFrame(lines)
    ranked = table["probe"].isin(RANKED)
    table["p_holm"] = np.nan
    table.loc[ranked, "p_holm"] = multipletests(table.loc[ranked, "p"], method="holm")[1]
    return table


def unpaired(one: float, other: float, n: int) -> dict[str, float]:
    """Points between two accuracies on n images each, Agresti and Caffo's interval, and p-value."""
    counts = (one * n, n, other * n, n)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo", compare="diff")
    test: Any = test_proportions_2indep(*counts, method="agresti-caffo", compare="diff")
    ends = {"points": one - other, "low": float(low), "high": float(high)}
    return {name: 100 * value for name, value in ends.items()} | {"p": float(test.pvalue)}


def paired(one: float, other: float, n: int) -> dict[str, float]:
    """Shares of n images on which two encoders of these accuracies can differ.

    If one is right on won images that the other misses and wrong on lost, won - lost is known and
    won + lost is not; McNemar's exact p-value grows with it.
    """
    right = round(one * n), round(other * n)
    apart, both = abs(right[0] - right[1]), max(0, sum(right) - n)
    differ = np.arange(apart, sum(right) - 2 * both + 1, 2)
    p_values = np.minimum(1, 2 * stats.binom.sf((differ + apart) // 2 - 1, differ, 0.5))
    told = differ[p_values < CHANCE]
    independent = one * (1 - other) + other * (1 - one)
    ends = {"least": differ[0] / n, "most": differ[-1] / n, "apart": independent}
    ends["told"] = told[-1] / n if len(told) else 0.0
    return {f"differ_{name}": float(value) for name, value in ends.items()}


def images_needed(one: float, other: float, *, power: float) -> int:
    """Test images for each column, unpaired, at which such a difference is told so often."""
    ends = stats.norm.ppf(TWO_SIDED) + stats.norm.ppf(power)
    variance = one * (1 - one) + other * (1 - other)
    return int(np.ceil(ends**2 * variance / (one - other) ** 2))


def seeds_needed(points: float, spread: float, *, power: float) -> int:
    """Seeds at which a mean difference of so many points is told so often by a paired t test."""
    effect, solver = abs(points) / spread, TTestPower()
    ends = stats.norm.ppf(TWO_SIDED) + stats.norm.ppf(power)
    seeds = max(2, int((ends / effect) ** 2))  # a t test never needs fewer than a normal one
    while solver.power(effect, seeds, CHANCE) < power:
        seeds += 1
    return seeds


def seed_spread(rows: pd.DataFrame) -> tuple[float, float]:
    """Deviation over seeds of the points between an SA column and CROMA, pooled over tasks.

    Returns:
        On real tasks, whose test images stay; on procedural ones, whose images are drawn anew
        with each seed. Ours are small models: the range is an assumption about the authors'.
    """
    values = 100 * rows.pivot(index=["task", "seed"], columns="column", values="accuracy")
    less = values[["SA-high", "SA-low"]].sub(values["CROMA"], axis=0)
    variances: Any = less.groupby("task").var()
    real = variances.index.isin(REAL)
    parts = [float(np.sqrt(variances[some].to_numpy().mean())) for some in (real, ~real)]
    return min(parts), max(parts)


def kept_by_labels(task: str) -> tuple[float, float]:
    """What flagged labels leave of accuracy: the most that can be reached, and of a difference.

    If every flagged label is wrong, at random among the other classes and whatever an encoder
    says, accuracy a becomes a (1 - f) + (1 - a) f / (K - 1).
    """
    flagged, classes = FLAGGED[task]
    return 1 - flagged, 1 - flagged * classes / (classes - 1)


def won(rows: pd.DataFrame) -> tuple[int, int]:
    """Rows of Table 2 whose best column is an SA one, and how many of these rank nothing."""
    best: Any = rows[rows["less"] == "CROMA"].groupby(["probe", "task"])["points"].max()
    probes = best[best > 0].index.get_level_values("probe")
    return len(probes), int((~probes.isin(RANKED)).sum())


def sure(rows: pd.DataFrame) -> tuple[int, int, int]:
    """Differences from CROMA that are ranked, and how many exceed chance above and below 0."""
    some = rows[rows["p_holm"].notna() & (rows["less"] == "CROMA")]
    told = some.loc[some["p_holm"] < CHANCE, "points"]
    return len(some), int((told > 0).sum()), int((told < 0).sum())


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: which differences from CROMA exceed chance, and in whose favour."""
    if rows.empty:
        return NOT_RUN
    count, better, worse = sure(rows)
    evidence = (
        f"of {count} differences from CROMA in rows that can rank, {better} in favour of "
        f"Scale-ALiBi and {worse} against it exceed chance after Holm's correction"
    )
    if not better + worse:
        return Verdict("cannot be decided here", evidence)
    return Verdict("holds" if better and not worse else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences from CROMA in rows that can rank: chance, and what it would have taken."""
    lines = {}
    some: Any = rows[rows["p_holm"].notna() & (rows["less"] == "CROMA")]
    for row in some.to_dict("records"):
        seeds = dict.fromkeys((f"{row['seeds_least']:,}", f"{row['seeds_most']:,}"))
        lines[PROBE_NAMES[row["probe"]], row["task"], row["column"]] = {
            "points": "{points:+.1f} [{low:+.1f}, {high:+.1f}]".format(**row),
            "p, Holm": "{p_holm:.2g}".format(**row),
            "test images": "{n:,}".format(**row),
            "needed": "{images:,}".format(**row),
            "seeds needed": " to ".join(seeds),
            "told if fewer differ, %": f"{100 * row['differ_told']:.0f}",
            "differ if independent, %": f"{100 * row['differ_apart']:.0f}",
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(["probe", "task", "column"])


def differences_figure(rows: pd.DataFrame) -> Figure:
    """Every printed difference by probe and task, filled where it exceeds chance."""
    tasks = list(dict.fromkeys(rows["task"]))
    figure, axes = grid(len(set(rows["probe"])), 2, row_in=2.4, more_in=0.3, sharey=True)
    for axis, (probe, own) in zip(axes.flat, rows.groupby("probe", sort=False), strict=True):
        for number, (one, other) in enumerate(PAIRS):
            some = own[(own["column"] == one) & (own["less"] == other)].set_index("task").loc[tasks]
            at = np.arange(len(tasks)) + 0.24 * (number - 1)
            ranked = probe in RANKED
            how = {"color": SERIES[number] if ranked else OTHER, "zorder": 2 + number}
            axis.hlines(at, some["low"], some["high"], lw=1.4, **how)
            told = some["p_holm"].to_numpy() < CHANCE
            for chosen, fill in ((told, how["color"]), (~told, "none")):
                label = f"{one} less {other}" if ranked and fill == "none" else None
                points = some["points"].to_numpy()[chosen]
                marker = {"marker": "osD"[number], "s": 24, "facecolors": fill, "label": label}
                axis.scatter(points, at[chosen], edgecolors=how["color"], zorder=6, **marker)
        axis.axvline(0, color=OTHER, lw=0.8)
        title = PROBE_NAMES[str(probe)] + ("" if probe in RANKED else ": ranks nothing")
        axis.set_title(title, fontsize=9)
        axis.set_yticks(range(len(tasks)), tasks, fontsize=8)
        axis.set_ylim(len(tasks) - 0.5, -0.5)
    for axis in axes[-1]:
        axis.set_xlabel("points of accuracy", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=3)
    return figure
