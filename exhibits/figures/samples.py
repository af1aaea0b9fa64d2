"""Figures of a curated folder: what a search found, what was taken of it, and its samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from geopandas import GeoDataFrame
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from exhibits.figures.style import OTHER, SERIES, legend, panels
from salib.config import SENSOR_NAMES, SENSORS

SPLITS = {"train": SERIES[0], "valid": SERIES[1]}


def cover_map(layers: Mapping[str, Any]) -> Figure:
    """Footprints by sensor, those of the cover in colour, over the tiles of the joint samples.

    Args:
        layers: of `exhibits.maps.map_layers`.
    """
    scenes, samples = (
        GeoDataFrame.from_features(layers[name], crs="EPSG:4326") for name in ("scenes", "samples")
    )
    figure, axes = panels(1, len(layers["tiles"]), height_in=2.9, sharex=True, sharey=True)
    for axis, sensor in zip(axes[0], layers["tiles"], strict=True):
        samples.plot(
            ax=axis, color=[SPLITS[split] for split in samples["split"]], alpha=0.5, linewidth=0
        )
        mine: Any = scenes[scenes["sensor"] == sensor]
        mine = mine.sort_values("used")
        options = {True: (SENSORS[sensor].colour, 1.6), False: (OTHER, 0.6)}
        colours, widths = zip(*mine["used"].map(options), strict=True)
        mine.boundary.plot(ax=axis, color=colours, linewidth=widths)
        axis.set_title(f"{sensor}: {mine['used'].sum()} of {len(mine)} scenes", fontsize=9)
        axis.set(xlabel="longitude, degrees", ylabel="")
        axis.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("latitude, degrees")
    return figure


def distributions(index: pd.DataFrame) -> Figure:
    """What was curated: pixel size, valid share and date of the joint samples.

    Args:
        index: rows of index.parquet: gsd_m, split, and for each sensor valid_frac and datetime.
    """
    figure, axes = panels(1, 3, height_in=2.5)
    ground, valid, dates = axes[0]
    for split, colour in SPLITS.items():
        chosen = index.loc[index["split"] == split, "gsd_m"]
        if len(chosen):
            edges = np.histogram_bin_edges(index["gsd_m"], bins=24)
            label = f"{split} ({len(chosen):,})"
            ground.hist(chosen, bins=edges, color=colour, alpha=0.7, label=label)
    ground.set(xlabel="gsd_m of lores, m/px", ylabel="samples")
    legend(ground, size=7)
    ground.ticklabel_format(axis="x", useOffset=False)
    for row, name in enumerate(SENSOR_NAMES):
        _points(valid, 100 * index[f"valid_frac_{name}"].to_numpy(), row, SENSORS[name].colour)
        when = pd.DatetimeIndex(pd.to_datetime(index[f"datetime_{name}"], utc=True))
        _points(dates, when.tz_localize(None).to_numpy(), row, SENSORS[name].colour)
    valid.set_xlabel("valid pixels, %")
    dates.set_title("date of the scene", fontsize=9)
    locator = AutoDateLocator(maxticks=5)
    dates.xaxis.set_major_locator(locator)
    dates.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    for axis in (valid, dates):
        axis.set_yticks(range(len(SENSOR_NAMES)), SENSOR_NAMES)
        axis.set_ylim(len(SENSOR_NAMES) - 0.5, -0.5)
    for axis in axes[0]:
        axis.tick_params(labelsize=8)
    return figure


def _points(axis: Axes, values: np.ndarray, row: int, colour: str) -> None:
    """Every value of a sensor in one line, spread a little so that equal ones are visible."""
    spread = row + 0.3 * np.sin(np.arange(len(values)) * 2.4)
    axis.scatter(values, spread, s=5, color=colour, alpha=0.4, linewidths=0)
