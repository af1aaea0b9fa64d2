"""Figures of numbers published elsewhere, and of what chance would give."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exhibits.figures.style import OTHER, SERIES, grid, legend, panels

SOURCES = {"the paper": (SERIES[1], "D", 20), "ours": (SERIES[2], "s", 5)}
MARKERS = {"k-Means": "o", "k-Means + UMAP": "^"}


def anchor_points(points: pd.DataFrame, named: dict[str, str]) -> Figure:
    """Accuracy by task: published models as faint dots; named ones, the paper's and ours over them.

    Args:
        points: task, source ("torchgeo-bench", "the paper", "ours"), model, value as a fraction.
        named: published models to highlight, and their labels.
    """
    tasks = list(dict.fromkeys(points["task"]))
    figure, axes = panels(1, 1, height_in=1.2 + 0.5 * len(tasks))
    axis = axes[0, 0]
    published = points.query("source == 'torchgeo-bench'")
    count = len(set(published["model"]))
    options = {"color": OTHER, "alpha": 0.4, "label": f"{count} published models, k = 5"}
    _row(axis, published, tasks, 0.0, **options)
    for number, (model, label) in enumerate(named.items()):
        own = published.query(f"model == {model!r}")
        _row(axis, own, tasks, 0.0, color=SERIES[(0, 3, 4, 5)[number % 4]], label=f"{label}, k = 5")
    for number, (source, (colour, marker, k)) in enumerate(SOURCES.items(), start=1):
        own = points.query("source == @source")
        if len(own):
            options = {"color": colour, "marker": marker, "label": f"{source}, k = {k}"}
            _row(axis, own, tasks, 0.22 * number, **options)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_ylim(len(tasks) - 0.4, -0.4)
    axis.set_xlabel("nearest neighbours, accuracy in %")
    axis.grid(axis="x", alpha=0.25)
    legend(figure, loc="outside lower center", ncols=3)
    return figure


def chance(simulated: pd.DataFrame, entries: pd.DataFrame) -> Figure:
    """Simulated accuracy of raw cluster ids by task, a row for each value of known, entries below.

    Args:
        simulated: task, known, classes, accuracy as a fraction; a bar spans the middle 95 %.
        entries: task, probe, value as a fraction; drawn as points under the distributions.
    """
    tasks, shares = (list(dict.fromkeys(simulated[column])) for column in ("task", "known"))
    figure, axes = grid(len(tasks), 2, row_in=0.7 + 0.3 * len(shares), sharey=True)
    for axis, task in zip(axes.flat, tasks, strict=False):
        own = simulated.query("task == @task")
        classes = int(own["classes"].iloc[0])
        edges = np.linspace(0, 100 * own["accuracy"].max(), 121)
        for row, (_, values) in enumerate(own.groupby("known")["accuracy"]):
            counts, _ = np.histogram(100 * values, edges)
            heights = row - 0.85 * counts / counts.max()
            axis.stairs(heights, edges, baseline=row, fill=True, color=SERIES[0], alpha=0.6)
            axis.hlines(row, *100 * values.quantile([0.025, 0.975]), color=OTHER, linewidth=2)
        axis.axvline(100 / classes, color=OTHER, linestyle=":", linewidth=1)
        for number, (probe, points) in enumerate(entries.query("task == @task").groupby("probe")):
            y = np.full(len(points), len(shares) - 0.15 + 0.3 * number)
            options = {"color": SERIES[1], "marker": MARKERS[str(probe)], "label": str(probe)}
            axis.scatter(100 * points["value"], y, s=16, **options)
        axis.set_title(f"{task}, {classes} classes", fontsize=9)
        labels = [*(f"{known:.0%} known" for known in shares), "the paper"]
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(shares) + 0.5, -0.9)
        axis.tick_params(labelsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("accuracy of raw cluster ids, %", fontsize=8)
    legend(axes[0, 0], size=7, loc="upper right")
    return figure


def _row(axis: Axes, own: pd.DataFrame, tasks: list[str], shift: float, **options) -> None:
    rows = own["task"].map(tasks.index).to_numpy() + shift
    axis.scatter(100 * own["value"].to_numpy(), rows, s=22, linewidths=0, zorder=3, **options)
