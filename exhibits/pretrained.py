"""What the page of the shipped model shows, from the tables of `benchmarks/pretrained.py`."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from exhibits.figures.style import OTHER, SERIES, legend, panels
from exhibits.tables.summary import INTERVAL, seed_interval

PROBES = ("k-NN 20", "k-NN 20, weighted", "linear", "k-NN 5, L2")
NAMES = {
    ("laptop", "lores"): "laptop",
    ("laptop", "hires"): "laptop, hires encoder",
    ("laptop", "untrained"): "the same, untrained",
    ("croma", "lores"): "CROMA, same recipe and time",
    ("paper", "lores"): "Eq. (6) alone, same time",
}
"""By arm and encoder. Baselines have no encoder and keep their names."""


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with what the page calls their model; those that it does not show are left out."""
    pairs = zip(rows["arm"], rows["encoder"], strict=True)
    shown = [arm if pd.isna(encoder) else NAMES.get((arm, encoder)) for arm, encoder in pairs]
    return rows.assign(model=shown).dropna(subset="model")


def eurosat_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent by model, read-out and probe: the mean over seeds and its interval.

    The interval is Student's over the seeds, or Wilson's over the chips where there is one seed.
    Models that no row is of are "not run".

    Args:
        rows: arm, seed, encoder, readout, probe, value, ci_low, ci_high.
    """
    cells: dict[tuple[str, str], dict[str, str]] = {}
    raw = rows["readout"].eq("mean, not standardised")
    rows = named(rows.assign(readout=rows["readout"].mask(raw, "mean")))
    groups: Any = rows.groupby(["model", "readout", "probe"], sort=False)
    for (model, readout, probe), own in groups:
        values = 100 * own[["value", "ci_low", "ci_high"]].to_numpy(float)
        interval = seed_interval(values[:, 0]) if len(own) > 1 else values[0]
        line = cells.setdefault((model, readout), dict.fromkeys(PROBES, ""))
        line[probe] = INTERVAL.format(*interval)
    for model in (name for name in NAMES.values() if (name, "mean") not in cells):
        cells[model, "mean"] = dict.fromkeys(PROBES, "not run")
    return pd.DataFrame(cells).T.rename_axis(["model", "read-out"])


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Cost of each full run, and how often another sensor's image is found at once.

    Args:
        runs: as `benchmarks/pretrained.py` writes them; short ones are left out.
    """
    recalls = [f"valid_recall1_{pair}" for pair in ("radar_lores", "lores_hires", "hires_lores")]
    shown = ["arm", "seed", "steps", "seconds", "instructions", "precision", "images_per_second"]
    table: Any = runs[~runs["arm"].str.startswith("short")]
    table = table.reindex(columns=[*shown, "valid_chance1", *recalls]).round(3)
    names = [name.removeprefix("valid_").replace("_", " ") for name in table]
    return table.set_axis(names, axis=1).set_index(["arm", "seed"])


def others_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Weighted nearest neighbours on other tasks, in percent: a line per task, a column per model.

    Args:
        rows: of the book's evaluation; the mean over seeds where they are several.
    """
    some: Any = rows[rows["probe"].eq("knn_weighted")]
    names = some["task"] + some["procedural"].map({True: " (procedural)", False: ""})
    values = some.assign(task=names).pivot_table(index="task", columns="model", values="value")
    return (100 * values).round(1).astype(object).fillna("")


def changes_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Points of accuracy that each change of the recipe brings, mean over seeds and its interval.

    Paired by seed, Student's 95 % interval over the seeds.

    Args:
        rows: as for `eurosat_table`, of the arms "short: recipe" and "short: <change>".
    """
    short: Any = rows[rows["arm"].str.startswith("short: ") & rows["probe"].isin(PROBES[:2])]
    mean = short[short["readout"] == "mean"]
    plain = short[short["arm"].eq("short: recipe") & short["readout"].eq("mean before whitening")]
    every = pd.concat([mean, plain.assign(arm="short: no whitening")])
    cells: Any = every.pivot(index=["probe", "seed"], columns="arm", values="value") * 100
    less = cells.sub(cells["short: recipe"], axis=0).drop(columns="short: recipe")
    found = {
        name.removeprefix("short: "): {
            probe: INTERVAL.replace(":", ":+").format(*seed_interval(own.to_numpy()))
            for probe, own in less[name].groupby("probe", sort=False)
        }
        for name in less
    }
    return pd.DataFrame(found).T.rename_axis("change")


def classes_figure(rows: pd.DataFrame) -> Figure:
    """Share of each EuroSAT class that weighted nearest neighbours find, of a few models.

    Args:
        rows: as for `eurosat_table`, and a column "of <class>" for each class.
    """
    chosen: Any = named(rows.query("readout == 'mean' and probe == 'k-NN 20, weighted'"))
    columns = [name for name in rows if name.startswith("of ")]
    means = 100 * chosen.groupby("model", sort=False)[columns].mean()
    order = means.loc["laptop"].sort_values(ascending=False).index
    figure, axes = panels(1, 1, height_in=3.4)
    axis = axes[0, 0]
    for number, model in enumerate(["laptop", *means.index.drop("laptop")]):
        colour = OTHER if number > 2 else SERIES[number]
        axis.plot(means.loc[model, order], range(len(order)), "o", color=colour, label=model)
    axis.set_yticks(range(len(order)), [name.removeprefix("of ") for name in order])
    axis.set(xlabel="found, %", ylim=(len(order) - 0.5, -0.5))
    axis.grid(alpha=0.25)
    legend(axis, size=7, beside=True)
    return figure
