"""Maps: what a search found, what was taken of it, and the places that it gave."""

import math

import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from exhibits.figures.style import OTHER, SERIES, panels
from salib.config import SENSOR_NAMES, SENSORS


def cover_map(scenes: pd.DataFrame, places: pd.DataFrame) -> Figure:
    """Footprints by sensor, those of the cover in colour, over the places of the joint samples.

    Args:
        scenes: one row a ring of a footprint: sensor, used, ring (longitude and latitude pairs).
        places: one row a sample: split, ring.
    """
    figure, axes = panels(1, 3, height_in=2.9, sharex=True, sharey=True)
    for axis, sensor in zip(axes[0], SENSOR_NAMES, strict=True):
        for split, colour in (("train", SERIES[0]), ("valid", SERIES[1])):
            rings = places.loc[places["split"] == split, "ring"].tolist()
            axis.add_collection(PolyCollection(rings, facecolor=colour, alpha=0.5, lw=0))
        mine = scenes[scenes["sensor"] == sensor]
        for used, colour, line in ((False, OTHER, 0.6), (True, SENSORS[sensor].colour, 1.6)):
            rings = mine.loc[mine["used"] == used, "ring"].tolist()
            axis.add_collection(PolyCollection(rings, facecolor="none", edgecolor=colour, lw=line))
        taken, found = len(set(mine.loc[mine["used"], "id"])), len(set(mine["id"]))
        axis.set_title(f"{sensor}: {taken} of {found} scenes", fontsize=9)
        axis.set_xlabel("longitude, degrees")
        axis.autoscale_view()
        axis.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("latitude, degrees")
    south, north = axes[0, 0].get_ylim()
    for axis in axes[0]:
        axis.set_aspect(1 / math.cos(math.radians((south + north) / 2)))
    return figure
