"""Pure drawing functions: rows and arrays in, a matplotlib figure out; nothing is read or computed.

Text, ticks and frames take the current ink (rcParams), fills are mid-tones, and the ground is left
to the page, so that one drawing serves a light and a dark theme.
"""

from salib.figures.pictures import false_colour, figure3, montage
from salib.figures.rows import distributions, loss_curves, table2_intervals

__all__ = [
    "distributions",
    "false_colour",
    "figure3",
    "loss_curves",
    "montage",
    "table2_intervals",
]
