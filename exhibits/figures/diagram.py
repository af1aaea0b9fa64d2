"""Fig. 1: the block diagram of the model."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from exhibits.figures.style import OTHER, no_frame, panels
from salib.config import SENSOR_NAMES, SENSORS

Point = tuple[float, float]
LINES = {
    "radar": (4.4, "radar\nVV, VH"),
    "lores": (3.0, "lores\nred, green, blue"),
    "hires": (1.6, "hires\n2x the pixels"),
}
COLOURS = {name: SENSORS[name].colour for name in SENSOR_NAMES}
FUSED = "#9a6fb8"
LOSS = "#b8983a"
LABELS = {
    (6.745, 4.34): "queries",
    (6.745, 3.04): "context",
    (9.5, 3.57): "joint",
    (8.145, 1.92): "context",
    (6.075, 0.97): "hidden patches of all three images",
}
"""Text beside the arrows, by position."""


def figure1() -> Figure:
    """Fig. 1: three masked encoders, contrast, two cross-encoders, decoder, reconstruction."""
    figure, axes = panels(1, 1, height_in=4.1)
    axis = axes[0, 0]
    axis.set(xlim=(0, 14.2), ylim=(0, 6.4))
    no_frame(axis)
    _box(axis, (6.05, 5.8), "contrastive, three pairs, Eq. (3)", LOSS, width=4.4)
    axis.text(6.4, 4.98, "mean token, projected", fontsize=7, va="center")
    for number, (name, (y, images)) in enumerate(LINES.items()):
        colour, x = COLOURS[name], 5.65 + 0.28 * number
        axis.plot([5.45, x], [y, y], color=colour, linewidth=1, linestyle=":")
        _arrow(axis, (x, y), (x, 5.4), colour, style=":")
        _box(axis, (1.15, y), images, colour, width=2.1)
        _box(axis, (3.1, y), "mask", OTHER, width=0.9)
        _box(axis, (4.75, y), rf"$E_{{\rm {name}}}$", colour, width=1.4)
        _arrow(axis, (2.2, y), (2.65, y), colour)
        _arrow(axis, (3.55, y), (4.05, y), colour)
    _box(axis, (8.1, 3.7), "cross-\nencoder 1", FUSED, width=1.6)
    _arrow(axis, (5.45, 4.4), (7.3, 4.0), COLOURS["radar"])
    _arrow(axis, (5.45, 3.0), (7.3, 3.4), COLOURS["lores"])
    _box(axis, (10.1, 2.7), "cross-\nencoder 2", FUSED, width=1.6)
    _arrow(axis, (8.9, 3.7), (9.3, 3.0), FUSED)
    _arrow(axis, (5.45, 1.6), (9.3, 2.4), COLOURS["hires"])
    _box(axis, (12.1, 2.7), "decoder", FUSED, width=1.3)
    _arrow(axis, (10.9, 2.7), (11.45, 2.7), FUSED)
    _box(axis, (12.1, 0.9), "reconstruction\nEqs. (4)-(5)", LOSS, width=2.2)
    _arrow(axis, (12.1, 2.3), (12.1, 1.3), FUSED)
    _arrow(axis, (1.15, 0.75), (11.0, 0.75), OTHER, style="--")
    axis.plot([1.15, 1.15], [0.75, 1.2], color=OTHER, linestyle="--", linewidth=1)
    for (x, y), text in LABELS.items():
        axis.text(x, y, text, ha="center", va="center", fontsize=7)
    return figure


def _box(axis: Axes, centre: Point, text: str, colour: str, *, width: float) -> None:
    options = {"facecolor": (colour, 0.22), "edgecolor": colour}
    corner, style = (centre[0] - width / 2, centre[1] - 0.4), "round,pad=0,rounding_size=0.12"
    axis.add_patch(FancyBboxPatch(corner, width, 0.8, style, **options))
    axis.text(*centre, text, ha="center", va="center", fontsize=8)


def _arrow(axis: Axes, start: Point, end: Point, colour: str, *, style: str = "-") -> None:
    options = {"arrowstyle": "-|>", "mutation_scale": 9, "color": colour, "linestyle": style}
    axis.annotate("", end, start, arrowprops=options | {"shrinkA": 0})
