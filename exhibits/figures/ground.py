"""Figures of the bias: Fig. 2, reach of the heads, bias over the ground."""

from collections.abc import Mapping
from itertools import cycle
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from exhibits.figures.style import OTHER, RAMP, SERIES, Array, grid, legend, no_frame, panels


def figure2(bias: Float[Array, "queries keys"]) -> Figure:
    """Fig. 2: the two pictures, and the distance of every source patch to every context patch.

    Args:
        bias: of one head with slope 1, of the 2 x 2 patches of s to the 4 x 4 of c.
    """
    bias = np.asarray(bias)
    figure, axes = panels(1, 3, height_in=2.0, width_ratios=(1, 1, 4.6))
    for axis, name, side in zip(axes[0], "sc", (2, 4), strict=False):
        _numbered(axis, name, side)
    matrix = axes[0, 2]
    shown = matrix.imshow(bias, cmap=RAMP, aspect="auto")
    for (query, key), value in np.ndenumerate(bias):
        colour = "#1f2328" if shown.norm(value) > 0.6 else "#f6f8fa"  # to be read on the ramp
        options = {"ha": "center", "va": "center", "fontsize": 6, "color": colour}
        matrix.text(key, query, f"{-value:.2f}", **options)
    matrix.set_xticks(range(16), range(1, 17))
    matrix.set_yticks(range(4), range(1, 5))
    matrix.tick_params(labelsize=7, length=0)
    matrix.set_xlabel("patch of c (key)", fontsize=8)
    matrix.set_ylabel("patch of s (query)", fontsize=8)
    figure.colorbar(shown, ax=matrix, label="bias", pad=0.01)
    return figure


def bias_maps(
    bias: Float[Array, "heads rows cols"],
    slopes: Float[Array, " heads"],
    query_xy: Float[Array, " 2"],
    side_m: float,
) -> Figure:
    """One query's bias over a square image of keys, side_m metres wide, a panel per head.

    Args:
        query_xy: centre of the query patch, metres east and south.
    """
    bias = np.asarray(bias)
    figure, axes = grid(len(bias), 4, row_in=1.9, more_in=0.3, sharex=True, sharey=True)
    norm = Normalize(float(bias.min()), 0)
    for axis, head, slope in zip(axes.flat, bias, slopes, strict=False):
        axis.imshow(head, cmap=RAMP, norm=norm, extent=(0, side_m, side_m, 0))
        axis.plot(*query_xy, "+", color=SERIES[1], markersize=9)
        axis.set_title(f"m(h) = {slope:.3g}", fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("m east", fontsize=8)
    axes[0, 0].set_ylabel("m south", fontsize=8)
    figure.colorbar(ScalarMappable(norm, RAMP), ax=axes, label="bias", shrink=0.8)
    return figure


def slopes_and_reach(slopes: Mapping[str, Float[Array, " heads"]], reference_m: float) -> Figure:
    """Slopes m(h) by name of a set, and the radius reference_m / m(h) where one has cost a unit."""
    figure, axes = panels(1, 2, height_in=2.6)
    for colour, (name, values) in zip(cycle(SERIES), slopes.items(), strict=False):
        heads = np.arange(1, len(values) + 1)
        for axis, shown in zip(axes[0], (values, reference_m / np.asarray(values)), strict=True):
            axis.plot(heads, shown, "o-", color=colour, markersize=4, linewidth=1, label=name)
    for axis, label in zip(axes[0], ("slope m(h)", "radius, m"), strict=True):
        axis.set(yscale="log", xlabel="head", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes[0, 0])
    return figure


def heads_against(rows: pd.DataFrame, x: Literal["gsd_m", "side"]) -> Figure:
    """What each head attends to by bias alone, in tokens and in metres.

    Args:
        rows: gsd_m, side, slope, tokens, metres; slope 0, attending to all alike, is dotted.
        x: what varies; the ground sample distance, or the patches along an image's side.
    """
    figure, axes = panels(1, 2, height_in=2.9)
    labels = {"gsd_m": "gsd_m, m/px", "side": "patches a side"}
    first, last = float(rows[x].to_numpy().min()), float(rows[x].to_numpy().max())
    for axis, y in zip(axes[0], ("tokens", "metres"), strict=True):
        colours = cycle(SERIES)
        for slope, own in rows.groupby("slope", sort=False):
            options = {"color": next(colours), "linewidth": 1.6, "label": f"{slope:.3g}"}
            if slope == 0:
                options |= {"color": OTHER, "linestyle": ":", "label": "none"}
            axis.plot(own[x], own[y], **options)
        axis.set(xscale="log", yscale="log", xlabel=labels[x], xlim=(first, last))
        marks = [mark for mark in (1, 2, 4, 8, 16, 32, 64) if first <= mark <= last]
        axis.set_xticks(marks, [str(mark) for mark in marks])
        axis.xaxis.minorticks_off()
    axes[0, 0].set_ylabel("effective tokens")
    axes[0, 1].set_ylabel("mean attended distance, m")
    legend(axes[0, 1], title="m(h)", beside=True)
    return figure


def attended_keys(keys: Mapping[str, Float[Array, " queries"]], total: int) -> Figure:
    """How many of all keys each query attends to, by name of how logits are scaled."""
    figure, axes = panels(1, 1, height_in=2.2, width_in=5.4)
    axis = axes[0, 0]
    edges = np.geomspace(1, total, 60)
    for colour, (name, values) in zip(cycle(SERIES), keys.items(), strict=False):
        axis.hist(np.asarray(values), bins=edges, color=colour, alpha=0.75, label=name)
    axis.set(xscale="log", xlim=(0.95, total), xlabel=f"keys attended of {total}", ylabel="queries")
    legend(axis)
    return figure


def against_distance(
    distance_m: Float[Array, "queries keys"], bias: Mapping[str, Float[Array, "queries keys"]]
) -> Figure:
    """Bias of each pair of patches against their distance on the ground, a panel per reading."""
    figure, axes = panels(1, len(bias), height_in=2.6, width_in=5.4, sharex=True)
    for axis, colour, (name, values) in zip(axes[0], cycle(SERIES), bias.items(), strict=False):
        pairs = np.ravel(distance_m), np.ravel(values)
        axis.scatter(*pairs, s=5, color=colour, alpha=0.4, linewidths=0)
        axis.set(title=name, xlabel="ground distance, m")
    axes[0, 0].set_ylabel("bias")
    return figure


def _numbered(axis: Axes, name: str, side: int) -> None:
    """A small picture of an image cut into numbered patches."""
    chequered = np.indices((side, side)).sum(axis=0) % 2 == 0
    axis.imshow(chequered, cmap="Greys", vmin=-3, vmax=4, alpha=0.5)
    for number, (row, col) in enumerate(np.ndindex(side, side), start=1):
        axis.text(col, row, str(number), ha="center", va="center", fontsize=8)
    axis.set_title(f"${name}$", fontsize=11)
    no_frame(axis)
