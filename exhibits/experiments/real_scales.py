"""Experiment 7: real images at many scales, asked of frozen models that differ in positions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from exhibits.experiments.plans import NOT_RUN, Plan, Rows, Verdict, means
from exhibits.experiments.pretraining import (
    NOT_TOLD,
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
from exhibits.figures.style import SERIES, legend, panels
from exhibits.tables.summary import seed_interval
from salib.model import ScaleAlibi, load_model

SCALE, PATCHES, SHIPPED = "Scale-ALiBi", "2D-ALiBi", "shipped model"
POSITIONS = {
    SCALE: ["position=ground"],
    PATCHES: ["position=patches"],
    "GSD-scaled sine-cosine": ["position=gsd_sincos", "slopes=[]"],
    "rotary by ground distance": ["position=rotary", "slopes=[]"],
    "sine-cosine": ["position=sincos", "slopes=[]"],
    "no position": ["position=none", "slopes=[]"],
}
SEEN = ["crop_px=[64, 256]", "ground_px=null"]
"""Crops of a whole tile and of a quarter of its side: lores pixels of 7.5 to 30 m."""
ARMS: Arms = {name: [*changes, *SEEN] for name, changes in POSITIONS.items()}
DEAF = ("patches", "sincos", "none")
"""Positions that no statement of the GSD reaches: what they are told makes no difference."""
EUROSAT, MERCED = "EuroSAT", "UC Merced"
FACTORS: dict[str, tuple[float, ...]] = {EUROSAT: (0.5, 1, 2, 4, 8), MERCED: (1, 2, 4, 8)}
"""By which the GSD of the asked images grows; half of UC Merced's takes too many patches."""
COMMON = {
    EUROSAT: {"Forest": "forest", "River": "river", "Residential": "residential"},
    MERCED: {"forest": "forest", "river": "river", "mediumresidential": "residential"},
}
"""Classes that both data sets have, by their names."""
CONSTANT_M = 15.0
"""What is stated of every image where the GSD is not told: the middle of what was trained."""
DECIDES = 2
"""The factor of EuroSAT's GSD that decides: 20 m, which was trained, as 10 m was."""
MERCED_PX, K = 128, 5
TOLD = {TRULY: "told truly", WRONGLY: "told the bank's GSD", NOT_TOLD: "told nothing"}
KEYS = ("arm", "seed", "steps", "bank", "asked", "factor", "told")


class Chips(NamedTuple):
    """Images of one data set, their classes, and their own metres per pixel."""

    name: str
    images: Images
    labels: np.ndarray
    gsd_m: float

    def common(self) -> "Chips":
        """Those of classes that both data sets have, by their common names."""
        names = COMMON[self.name]
        rows = np.isin(self.labels, [*names])
        labels = np.array([names[label] for label in self.labels[rows]])
        return self._replace(images=self.images[rows], labels=labels)


def data_sets(eurosat: Sequence[int], ucmerced: Sequence[int]) -> dict[str, tuple[Chips, Chips]]:
    """Bank and asked images of the data sets that are at hand; UC Merced averaged to 0.6 m.

    A few of UC Merced's chips are up to 5 % smaller than the others.

    Args:
        eurosat: chips of each class in the bank, and asked.
        ucmerced: the same.
    """
    bank, asked = eurosat
    found = {EUROSAT: (real_chips("eurosat", (0, bank, 300, 300 + asked)), 10.0)}
    bank, asked = ucmerced
    held = real_chips("ucmerced", (0, bank, 60, 60 + asked), side_px=MERCED_PX)
    found[MERCED] = held, 0.3 * 256 / MERCED_PX
    return {
        name: (Chips(name, *parts[0], gsd_m), Chips(name, *parts[1], gsd_m))
        for name, (parts, gsd_m) in found.items()
        if parts
    }


def by_factor(model: ScaleAlibi, bank: Chips, asked: Chips) -> Iterator[dict[str, Any]]:
    """Accuracy of the asked images in each size, the bank's at its own, by what is told.

    A model that cannot hear the GSD has rows of what is true alone.
    """
    deaf = model.config.position in DEAF
    known = {TRULY: described(model, bank.images, bank.gsd_m)}
    known[WRONGLY] = known[TRULY]
    if not deaf:
        known[NOT_TOLD] = described(model, bank.images, CONSTANT_M)
    for factor in FACTORS[asked.name]:
        images = resampled(asked.images, round(asked.images.shape[1] / factor))
        stated = {TRULY: asked.gsd_m * factor, WRONGLY: bank.gsd_m, NOT_TOLD: CONSTANT_M}
        seen: dict[float, Any] = {}
        for told in (TRULY,) if deaf else known:
            metres = stated[told]
            if metres not in seen:
                seen[metres] = described(model, images, metres)
            found, truth = seen[metres], asked.labels
            value = nearest_accuracy(known[told], bank.labels, found, truth, k=K)
            yield {"factor": float(factor), "told": told, "gsd_m": stated[TRULY], "value": value}


def measure(found: Rows, at: dict[str, Any], model: ScaleAlibi, sets: dict) -> None:
    """Add rows of each bank and each data set asked; across two, of their common classes."""
    for one, (bank, _) in sets.items():
        for other, (_, asked) in sets.items():
            pair = (bank, asked) if one == other else (bank.common(), asked.common())
            names = {"bank": one, "asked": other}
            found.add(*(at | names | row for row in by_factor(model, *pair)))


def run(plan: Plan, profile: str, *, arms: Sequence[str] = tuple(ARMS)) -> pd.DataFrame:
    """Pretrain each arm for each seed, measure it and the shipped model; resumes model by model.

    Each arm first takes the learning rate of the least loss. Without real images, or a budget for
    the profile, nothing is run; models that lack rows of a data set are measured anew.

    Returns:
        arm, seed, steps, rate, loss, bank, asked, factor, told, gsd_m, value.

    Raises:
        ValueError: if the profile has no tiles yet.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, arms = sizes.pop("seeds"), sizes.pop("arms", arms)
    sets = data_sets(sizes.pop("eurosat"), sizes.pop("ucmerced"))
    if not sets:
        return found.frame
    last = [*sets][-1]
    end = {"bank": last, "asked": last, "factor": FACTORS[last][-1], "told": TRULY}
    at: dict[str, Any] = {"arm": SHIPPED, "seed": 0, "steps": sizes["steps"]}  # beside whose runs
    if at | end not in found:
        measure(found, at, load_model("laptop"), sets)
    runs = Runs(name=plan.name, profile=profile, **sizes)
    chosen = {arm: ARMS[arm] for arm in arms}
    rates = runs.tuned(plan.rows(profile, TUNED, part="tuning"), chosen)
    for seed, arm in ((seed, arm) for seed in range(seeds) for arm in arms):
        at = {"arm": arm, "seed": seed, "steps": runs.steps}
        if at | end not in found:
            folder, loss = runs.train(arm, ARMS[arm], seed=seed, rate=rates[arm])
            measure(found, at | {"rate": rates[arm], "loss": loss}, load_model(folder), sets)
    return found.frame


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per arm and seed: by data set and between two, at factor 1 and at 2 and more.

    "20 m" is EuroSAT at the factor that decides, by what was told; "kept" the mean over the data
    sets at factors of 2 or more, most of them beyond what was trained.
    """
    own = rows["bank"].eq(rows["asked"])
    coarser, true = rows["factor"] >= 2, rows["told"].eq(TRULY)
    chosen = {}
    for name in (EUROSAT, MERCED):
        here = own & rows["asked"].eq(name) & true
        chosen |= {f"{name}, factor 1": here & rows["factor"].eq(1), f"{name}, 2-8": here & coarser}
        chosen[f"across, bank of {name}"] = ~own & rows["bank"].eq(name) & true
    twice = own & rows["asked"].eq(EUROSAT) & rows["factor"].eq(DECIDES)
    for told in TOLD:
        heard = rows["told"].eq(told)
        chosen |= {f"20 m, {told}": twice & heard, f"kept, {told}": own & coarser & heard}
    lines = {name: _mean(rows[which]) for name, which in chosen.items() if which.any()}
    return pd.DataFrame(lines).rename_axis(["arm", "seed"]).reset_index()


def _mean(rows: Any) -> Any:
    """Mean over factors, then over data sets, so that each of these counts alike."""
    each = rows.groupby(["arm", "seed", "bank", "asked"])["value"].mean()
    return each.groupby(["arm", "seed"]).mean()


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: telling the GSD helps, and is more than where it cannot be heard."""
    if rows.empty:
        return NOT_RUN
    if not {SCALE, PATCHES} <= set(rows["arm"]):
        return undecided("", "an arm is missing")
    by_seed = wide(rows)
    if f"20 m, {TRULY}" not in by_seed:
        return undecided("", "EuroSAT was not run")
    truly, wrongly = ((SCALE, f"20 m, {told}") for told in (TRULY, WRONGLY))
    less = {
        "told truly over wrongly": paired(by_seed, truly, wrongly),
        "Scale-ALiBi over 2D-ALiBi": paired(by_seed, truly, (PATCHES, f"20 m, {TRULY}")),
    }
    evidence = f"EuroSAT at 20 m: {points(less)}"
    if any(np.isnan(each.low) for each in less.values()):
        return undecided(evidence, "one seed has no interval")
    right = all(each.low > 0 for each in less.values())
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent, mean over seeds with its interval; a line per arm."""
    by_seed = wide(rows)
    names = [name for name in by_seed if name not in ("arm", "seed")]
    lines = []
    for arm in (name for name in (*ARMS, SHIPPED) if name in set(by_seed["arm"])):
        own: Any = by_seed[by_seed["arm"] == arm].dropna(axis=1, how="all")
        lines.append(means(own, [name for name in names if name in own], percent=names))
    return pd.concat(lines).reindex(columns=names).fillna("").rename_axis("arm").T


def factors_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy against the factor, on each data set, by arm and by what was told."""
    figure, axes = panels(1, 2, height_in=3.4)
    for axis, name in zip(axes[0], (EUROSAT, MERCED), strict=True):
        here = rows["bank"].eq(name) & rows["asked"].eq(name)
        for number, arm in enumerate((*ARMS, SHIPPED)):
            for told, dash in zip(TOLD, ("-", ":", "--"), strict=True):
                own: Any = rows[here & rows["arm"].eq(arm) & rows["told"].eq(told)]
                if own.empty or (told != TRULY and arm != SCALE):
                    continue
                values = own.pivot(index="seed", columns="factor", values="value") * 100
                ends = np.array([seed_interval(values[at].to_numpy(float)) for at in values])
                label = arm if told == TRULY else f"{arm}, {TOLD[told]}"
                how = {"color": SERIES[number], "ls": dash, "marker": "o", "ms": 3, "lw": 1.2}
                axis.plot(values.columns, ends[:, 0], label=label, **how)
                if arm == SCALE and told == TRULY and len(values) > 1:
                    low, high = ends[:, 1], ends[:, 2]
                    axis.fill_between(values.columns, low, high, color=SERIES[number], alpha=0.12)
        axis.set(xscale="log", xlabel="factor of the GSD", title=f"{name}, real chips")
        axis.title.set_fontsize(9)
        axis.minorticks_off()
        axis.set_xticks(FACTORS[name], [f"{factor:g}" for factor in FACTORS[name]])
    axes[0, 0].set_ylabel("accuracy, %")
    drawn = max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda two: len(two[0]))
    legend(figure, size=7, loc="outside lower center", ncols=3, handles=drawn[0], labels=drawn[1])
    return figure
