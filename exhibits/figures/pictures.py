"""Figures made of images: samples side by side, and chips of each theme."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from exhibits.figures.style import RAMP, WIDTH_IN, Array, grid, no_frame, panels
from salib.config import SENSOR_NAMES, SENSORS

COLUMNS = {name: SENSORS[name].label for name in SENSOR_NAMES} | {"hires4x": "hi 4x"}
"""Of Fig. 3: the last is hires with twice the pixels."""
GREY = 140
S2, WHITE = SENSORS["s2"], 3000
"""Pixel value of s2 that is drawn white: a reflectance of 0.3."""
MASK = ListedColormap(["#d9dce1", "#4c86c6"])


def false_colour(
    radar: UInt8[np.ndarray, "height width 2"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Radar as the paper stores it: red empty, green VV, blue VH."""
    return np.concatenate([np.zeros_like(radar[..., :1]), radar], axis=-1)


def picture(
    values: Shaped[Array, "bands height width"], hidden: Bool[Array, "rows cols"] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of one sensor's pixel values, radar in false colour, masked patches grey.

    Args:
        values: two bands (VV, VH) or three (red, green, blue), 0..255; or the twelve of s2.
        hidden: which patches of a grid over the image are masked.
    """
    shown = np.asarray(values)
    if len(shown) == len(S2.bands):
        shown = (shown[[*S2.shown]] * (255 / WHITE)).clip(0, 255)
    image = np.ascontiguousarray(shown.transpose(1, 2, 0)).round().astype(np.uint8)
    image = false_colour(image) if image.shape[-1] == 2 else image
    if hidden is not None:
        grid = np.asarray(hidden)
        tall, wide = image.shape[0] // grid.shape[0], image.shape[1] // grid.shape[1]
        image[grid.repeat(tall, axis=0).repeat(wide, axis=1)] = GREY
    return image


def similarity(
    image: UInt8[np.ndarray, "rows cols 3"],
    score: Float[np.ndarray, "rows cols"],
    matches: pd.DataFrame,
    query: tuple[int, int],
) -> Figure:
    """A scene of one pixel per patch, and the cosine of each patch (NaN without data) to a query.

    Args:
        matches: row and col of the most similar patches, best first.
        query: its row and column.
    """
    figure, axes = panels(1, 2, height_in=4.4)
    left, right = axes[0]
    left.imshow(image)
    drawn = right.imshow(score, cmap=RAMP, vmin=np.nanpercentile(score, 2), vmax=1)
    figure.colorbar(drawn, ax=right, shrink=0.7, label="cosine")
    for axis in (left, right):
        axis.plot(query[1], query[0], "+", color="white", markersize=12, markeredgewidth=2)
        for number, (row, col) in enumerate(matches[["row", "col"]].to_numpy(), start=1):
            style = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1}
            axis.text(col, row, str(number), color="white", fontsize=7, bbox=style)
        no_frame(axis)
    return figure


def figure3(triples: Sequence[Mapping[str, Any]]) -> Figure:
    """Fig. 3: samples in rows, in columns radar, lores, hires, and hires with twice the pixels.

    Args:
        triples: by sample 8-bit images `radar` (VV, VH), `lores`, `hires`, `hires4x`, and `title`.
    """
    height = (WIDTH_IN - 0.6) / len(COLUMNS)
    figure, axes = panels(len(triples), len(COLUMNS), height_in=height * len(triples) + 0.5)
    for row, triple in zip(axes, triples, strict=True):
        for axis, (name, heading) in zip(row, COLUMNS.items(), strict=True):
            image = triple[name]
            axis.imshow(false_colour(image) if image.shape[2] == 2 else image)
            axis.set_xlabel(f"{image.shape[1]} px", fontsize=7, labelpad=2)
            no_frame(axis)
            if axis in axes[0]:
                axis.set_title(heading, fontsize=10)
        row[0].set_ylabel(triple["title"], fontsize=8)
    return figure


def montage(rows: Sequence[tuple[str, np.ndarray, np.ndarray | None]]) -> Figure:
    """Chips of each theme: procedural on the left, real ones, where there are any, on the right.

    Args:
        rows: label, procedural chips (count, height, width, 3), and real chips or None.
    """
    made = [chips for _, chips, _ in rows]
    real = [chips for _, _, chips in rows if chips is not None]
    most = [max(map(len, half), default=0) for half in (made, real)]
    halves = 2 if real else 1
    chip = (WIDTH_IN - 1.4) / max(1, sum(most[:halves]))
    height_in = min(chip, 0.9) * len(rows) + 0.4
    figure, axes = panels(len(rows), halves, height_in=height_in, width_ratios=most[:halves])
    for strip, (label, *chips) in zip(axes, rows, strict=True):
        for axis, images in zip(strip, chips, strict=False):
            no_frame(axis)
            if images is not None:
                axis.imshow(_strip(images))
        strip[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    for axis, head in zip(axes[0], ("procedural", "real"), strict=False):
        axis.set_title(head, fontsize=9)
    return figure


def gallery(pictures: Mapping[str, Array], *, cols: int = 4) -> Figure:
    """Pictures or True/False grids under their names, all drawn at one size.

    Args:
        pictures: 8-bit images (height, width, 3), or masks (rows, cols) whose True is filled.
        cols: pictures in a row.
    """
    row_in = WIDTH_IN / max(3, min(cols, len(pictures))) + 0.15
    figure, axes = grid(len(pictures), cols, row_in=row_in)
    for axis, (name, shown) in zip(axes.flat, pictures.items(), strict=False):
        if shown.ndim == 3:
            axis.imshow(shown)
        else:
            axis.imshow(np.asarray(shown), cmap=MASK, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, fontsize=8)
        no_frame(axis)
    return figure


def _strip(chips: np.ndarray) -> UInt8[np.ndarray, "height width 4"]:
    """Chips in a row with a transparent gap between them."""
    gap = max(1, chips.shape[2] // 16)
    opaque = np.pad(chips, ((0, 0),) * 3 + ((0, 1),), constant_values=255)
    apart = np.pad(opaque, ((0, 0), (0, 0), (0, gap), (0, 0)))
    return np.hstack([*apart])[:, :-gap]
