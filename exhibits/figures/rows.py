"""Figures made of tables: how training went, what the probes found, what attention costs."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exhibits.figures.style import OTHER, SERIES, grid, legend, panels

LOSSES = {"contrastive": "contrastive, Eq. (3)", "reconstruction": "reconstruction, Eq. (4)"}


def loss_curves(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """Both losses of each run: the raw value faint, its moving average over it; dots: validation.

    Args:
        logs: by model, the columns step, contrastive and reconstruction; valid_contrastive and
            valid_reconstruction where these were measured.
    """
    figure, axes = panels(1, len(LOSSES), height_in=2.8)
    for axis, (loss, title) in zip(axes[0], LOSSES.items(), strict=True):
        for colour, (name, log) in zip(cycle(SERIES), logs.items(), strict=False):
            smooth = log[loss].rolling(21, center=True, min_periods=1).mean()
            axis.plot(log["step"], log[loss], color=colour, alpha=0.25, linewidth=0.8)
            axis.plot(log["step"], smooth, color=colour, linewidth=1.6, label=name)
            if f"valid_{loss}" in log:
                valid = log.dropna(subset=f"valid_{loss}")
                dots = {"linestyle": "--", "linewidth": 0.8, "marker": "o", "markersize": 3}
                label = f"{name}, validation"
                axis.plot(valid["step"], valid[f"valid_{loss}"], color=colour, label=label, **dots)
        axis.set(title=title, xlabel="step")
    legend(axes[0, 0])
    return figure


def training_signs(log: pd.DataFrame) -> Figure:
    """Retrieval across sensors, spread of the vectors, and size of the steps, over the steps.

    Args:
        log: of one run, as `salib.training.train.pretrain` writes it, with a validation split.
    """
    figure, axes = panels(1, 3, height_in=2.8)
    retrieval, spread, size = axes[0]
    valid = log.dropna(subset="valid_alignment")
    pairs = [name for name in log if name.startswith("valid_recall1_")]
    for colour, name in zip(cycle(SERIES), pairs, strict=False):
        label = name.removeprefix("valid_recall1_").replace("_", " to ")
        retrieval.plot(valid["step"], valid[name], color=colour, label=label, marker="o", ms=2)
    retrieval.plot(
        valid["step"], valid["valid_chance1"], color=OTHER, linestyle=":", label="chance"
    )
    retrieval.set(title="nearest image is the same ground", xlabel="step", ylabel="recall at 1")
    for colour, name in zip(SERIES, ("alignment", "uniformity"), strict=False):
        spread.plot(
            valid["step"], valid[f"valid_{name}"], color=colour, label=name, marker="o", ms=2
        )
    spread.set(title="alignment and uniformity", xlabel="step")
    rate = log["lr"] / log["lr"].max()
    size.plot(log["step"], rate, color=OTHER, label="learning rate, share of its peak")
    size.plot(log["step"], log["gradient"], color=SERIES[0], linewidth=0.8, label="gradient norm")
    size.set(title="steps", xlabel="step", yscale="log")
    for axis in axes[0]:
        legend(axis)
    return figure


def table2_intervals(rows: pd.DataFrame) -> Figure:
    """Nearest neighbours' accuracy by task and model: a dot and its 95 % interval.

    Args:
        rows: of `salib.evaluate.evaluate`: task, model, probe, value, ci_low, ci_high as fractions,
            and procedural. The majority class, which needs no probe, is drawn as a line.
    """
    shown = rows.query("probe == 'knn'")
    tasks, models = (list(dict.fromkeys(shown[column])) for column in ("task", "model"))
    figure, axes = grid(len(tasks), 2, row_in=0.7 + 0.22 * len(models), sharey=True)
    for axis, task in zip(axes.flat, tasks, strict=False):
        scores: Any = shown.query("task == @task").set_index("model")
        _intervals(axis, 100 * scores[["value", "ci_low", "ci_high"]], models)
        for value in rows.query("task == @task and probe == 'none'")["value"]:
            axis.axvline(100 * value, color=OTHER, linestyle=":", linewidth=1)
        made = " (procedural)" if bool(scores["procedural"].iloc[0]) else ""
        axis.set_title(f"{task}{made}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("knn accuracy, %")
    return figure


def _intervals(axis: Axes, scores: pd.DataFrame, models: list[str]) -> None:
    for row, model in enumerate(models):
        if model in scores.index:
            value, low, high = scores.loc[model].to_numpy(float)
            colour = SERIES[row % len(SERIES)]
            axis.plot([low, high], [row, row], color=colour, linewidth=2)
            axis.plot([value], [row], "o", color=colour, markersize=5)
    axis.set_yticks(range(len(models)), models, fontsize=8)
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.25)


def attention_cost(times: pd.DataFrame, memory: pd.DataFrame) -> Figure:
    """Time and peak memory of attention against the number of tokens, a line an implementation.

    Args:
        times: case, tokens, wall_s.
        memory: case, tokens, peak_mib.
    """
    figure, axes = panels(1, 2, height_in=3.0)
    names = list(dict.fromkeys([*times["case"], *memory["case"]]))
    colours = dict(zip(names, cycle(SERIES), strict=False))
    for axis, rows, y in ((axes[0, 0], times, "wall_s"), (axes[0, 1], memory, "peak_mib")):
        for case, sizes in rows.sort_values("tokens").groupby("case"):
            line = {"color": colours[case], "markersize": 4, "label": case}
            axis.plot(sizes["tokens"], sizes[y], "o-", **line)
        tokens = sorted(set(rows["tokens"]))
        axis.set(xscale="log", yscale="log", xlabel="tokens")
        axis.set_xticks(tokens, [f"{count:,}" for count in tokens])
        axis.xaxis.minorticks_off()
    axes[0, 0].set_ylabel("seconds, forward and backward")
    axes[0, 1].set_ylabel("peak MiB")
    legend(axes[0, 1], size=7, beside=True)
    return figure
