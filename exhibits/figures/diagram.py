"""Fig. 1: the block diagram of the model."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from exhibits.figures.style import OTHER, ink, no_frame, panels
from salib.config import SENSOR_NAMES, SENSORS

Point = tuple[float, float]
LINES = {"radar": 4.4, "lores": 3.0, "hires": 1.6}
IMAGES = {
    "radar": "radar\nVV, VH",
    "lores": "lores\nred, green, blue",
    "hires": "hires\n2x the pixels",
}
COLOURS = {name: SENSORS[name].colour for name in SENSOR_NAMES}
FUSED = "#9a6fb8"
LOSS = "#b8983a"


def figure1() -> Figure:
    """Fig. 1: three masked encoders, contrast, two cross-encoders, decoder, reconstruction."""
    figure, axes = panels(1, 1, height_in=4.1)
    axis = axes[0, 0]
    axis.set(xlim=(0, 14.2), ylim=(0, 6.4))
    no_frame(axis)
    _contrast(axis)
    for name, y in LINES.items():
        colour = COLOURS[name]
        _box(axis, (1.15, y), IMAGES[name], colour, width=2.1)
        _box(axis, (3.1, y), "mask", OTHER, width=0.9)
        _box(axis, (4.75, y), rf"$E_{{\rm {name}}}$", colour, width=1.4)
        _arrow(axis, [(2.2, y), (2.65, y)], colour)
        _arrow(axis, [(3.55, y), (4.05, y)], colour)
    _box(axis, (8.1, 3.7), "cross-\nencoder 1", FUSED, width=1.6)
    _arrow(axis, [(5.45, 4.4), (7.3, 4.0)], COLOURS["radar"], "queries")
    _arrow(axis, [(5.45, 3.0), (7.3, 3.4)], COLOURS["lores"], "context", below=True)
    _box(axis, (10.1, 2.7), "cross-\nencoder 2", FUSED, width=1.6)
    _arrow(axis, [(8.9, 3.7), (9.3, 3.0)], FUSED, "joint")
    _arrow(axis, [(5.45, 1.6), (9.3, 2.4)], COLOURS["hires"], "context", below=True)
    _box(axis, (12.1, 2.7), "decoder", FUSED, width=1.3)
    _arrow(axis, [(10.9, 2.7), (11.45, 2.7)], FUSED)
    _box(axis, (12.1, 0.9), "reconstruction\nEqs. (4)-(5)", LOSS, width=2.2)
    _arrow(axis, [(12.1, 2.3), (12.1, 1.3)], FUSED)
    _arrow(axis, [(1.15, 0.75), (11.0, 0.75)], OTHER, "hidden patches of all three images")
    axis.plot([1.15, 1.15], [0.75, 1.2], color=OTHER, linestyle="--", linewidth=1)
    return figure


def _contrast(axis: Axes) -> None:
    """The three pooled vectors, and the loss that draws them together."""
    _box(axis, (6.05, 5.8), "contrastive, three pairs, Eq. (3)", LOSS, width=4.4)
    for shift, (name, y) in zip((0.0, 0.28, 0.56), LINES.items(), strict=True):
        x = 5.65 + shift
        axis.plot([5.45, x], [y, y], color=COLOURS[name], linewidth=1, linestyle=":")
        _arrow(axis, [(x, y), (x, 5.4)], COLOURS[name], style=":")
    axis.text(6.4, 4.98, "mean token, projected", fontsize=7, va="center")


def _box(axis: Axes, centre: Point, text: str, colour: str, *, width: float) -> None:
    height = 0.8
    corner = (centre[0] - width / 2, centre[1] - height / 2)
    style = "round,pad=0,rounding_size=0.12"
    for fill, alpha in ((True, 0.22), (False, 1.0)):
        look = {"boxstyle": style, "fill": fill, "alpha": alpha, "color": colour}
        axis.add_patch(FancyBboxPatch(corner, width, height, **look))
    axis.text(*centre, text, ha="center", va="center", fontsize=8, color=ink())


def _arrow(
    axis: Axes,
    ends: Sequence[Point],
    colour: str,
    label: str = "",
    *,
    below: bool = False,
    style: str = "-",
) -> None:
    start, end = ends
    line = "--" if colour == OTHER and label else style
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=9, color=colour, linestyle=line, shrinkA=0
    )
    axis.add_patch(arrow)
    if label:
        share = 0.5 if colour in (OTHER, FUSED) else 0.7
        x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        aside = 0.4 if colour == FUSED else 0.0
        axis.text(
            x + aside, y + (-0.24 if below else 0.22), label, ha="center", va="center", fontsize=7
        )
