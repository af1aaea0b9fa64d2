"""Pure drawing functions: rows and arrays in, a matplotlib figure out; nothing is read or computed.

Text, ticks and frames take the current ink (rcParams), fills are mid-tones, and the ground is left
to the page, so that one drawing serves a light and a dark theme.
"""

from salib.figures.anchors import anchor_points, chance
from salib.figures.diagram import figure1
from salib.figures.ground import (
    against_distance,
    attended_keys,
    bias_maps,
    figure2,
    heads_against,
    slopes_and_reach,
)
from salib.figures.pictures import false_colour, figure3, gallery, montage, picture, similarity
from salib.figures.places import cover_map
from salib.figures.rows import attention_cost, distributions, loss_curves, table2_intervals

__all__ = [
    "against_distance",
    "anchor_points",
    "attended_keys",
    "attention_cost",
    "bias_maps",
    "chance",
    "cover_map",
    "distributions",
    "false_colour",
    "figure1",
    "figure2",
    "figure3",
    "gallery",
    "heads_against",
    "loss_curves",
    "montage",
    "picture",
    "similarity",
    "slopes_and_reach",
    "table2_intervals",
]
