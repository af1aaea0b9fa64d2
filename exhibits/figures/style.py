"""Colours and panels that all drawings share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from exhibits.tables.summary import seed_interval

Array = np.ndarray | Tensor
OTHER = "#8b8f97"
SERIES = ("#4c86c6", "#c2703d", "#3f9270", "#9a6fb8", "#b8983a", "#c45c6e", "#4aa3a8", OTHER)
RAMP = "viridis"
WIDTH_IN = 7.2


def panels(
    rows: int, cols: int, *, height_in: float, width_in: float = WIDTH_IN, **options
) -> tuple[Figure, np.ndarray]:
    """A figure with a two-dimensional grid of axes, open above and to the right, without pyplot."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained", dpi=144)
    axes = figure.subplots(rows, cols, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def grid(
    count: int, cols: int, *, row_in: float, more_in: float = 0.0, **options
) -> tuple[Figure, np.ndarray]:
    """As `panels`, so many in all, row by row; what is left of the last row stays empty."""
    rows = -(-count // cols)
    figure, axes = panels(rows, min(cols, count), height_in=row_in * rows + more_in, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def legend(of: Axes | Figure, *, size: int = 8, beside: bool = False, **options) -> None:
    """A legend without a frame, within the plot or beside it."""
    if beside:
        options |= {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    of.legend(fontsize=size, frameon=False, **options)


def seed_line(
    axes: Axes, at: Sequence[float | int], values: Float[np.ndarray, "seeds points"], **options: Any
) -> None:
    """Means over seeds as a line, and their 95 % intervals as a band where seeds are several."""
    axes.plot(at, values.mean(axis=0), **{"marker": "o", "ms": 3, "lw": 1.2} | options)
    if len(values) > 1:
        ends = np.array([seed_interval(column) for column in values.T])
        axes.fill_between(at, ends[:, 1], ends[:, 2], color=options["color"], alpha=0.12, lw=0)


def seed_dot(
    axes: Axes,
    at: float,
    values: Float[np.ndarray, " seeds"],
    *,
    sideways: bool = False,
    **options: Any,
) -> None:
    """A mean over seeds, and its 95 % interval as an upright line, or one along the axis of x."""
    mean, *ends = seed_interval(values)
    dot, line = (at, mean), ((at, at), ends)
    axes.plot(*(dot[::-1] if sideways else dot), ls="", **{"marker": "o", "ms": 4} | options)
    axes.plot(*(line[::-1] if sideways else line), color=options["color"], lw=1)


def no_frame(axes: Axes) -> None:
    """Leave neither ticks nor edges, as around a picture."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
