"""Colours and panels that all drawings share."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Array = np.ndarray | Tensor
SENSOR_COLOURS = {"radar": "#c2703d", "lores": "#3f9270", "hires": "#4c86c6"}
OTHER = "#8b8f97"
SERIES = ("#4c86c6", "#c2703d", "#3f9270", "#9a6fb8", "#b8983a", "#c45c6e", "#4aa3a8", OTHER)
RAMP = "viridis"
WIDTH_IN = 7.2


def panels(
    rows: int, cols: int, *, height_in: float, width_in: float = WIDTH_IN, **options
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes, always two-dimensional; no state of pyplot is touched."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained", dpi=144)
    return figure, figure.subplots(rows, cols, squeeze=False, **options)


def ink() -> str:
    """The colour of text on the page's present theme."""
    return mpl.rcParams["text.color"]


def open_frame(axes: Axes) -> None:
    """Leave only the left and lower edge of a plot."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def no_frame(axes: Axes) -> None:
    """Leave neither ticks nor edges, as around a picture."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
