"""Pure drawing functions: rows and arrays in, a matplotlib figure out; nothing is read or computed.

Text, ticks and frames take the current ink (rcParams), fills are mid-tones, and the ground is left
to the page, so that one drawing serves a light and a dark theme.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "anchors": ["anchor_points", "chance"],
        "diagram": ["figure1"],
        "ground": [
            *("against_distance", "attended_keys", "bias_maps", "figure2", "heads_against"),
            "slopes_and_reach",
        ],
        "pictures": ["false_colour", "figure3", "gallery", "montage", "picture", "similarity"],
        "rows": ["attention_cost", "loss_curves", "table2_intervals", "training_signs"],
        "samples": ["cover_map", "distributions"],
    },
)
