"""What the text as printed and the released code compute where this library departs from them.

Each function is named after its row of the table in design.md (a page of the book) and serves the
experiment behind that row. Nothing else uses them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": [
            "GSDS_M",
            "coarse_to_fine_distance",
            "correlation",
            "d1_attended_keys",
            "d2_step_bias",
            "d2_table",
            "d8_nearest",
            "d8_released_bias",
            "d9_released_diagonal",
            "d18_heads",
            "d18_heads_that_see_scale",
            "d18_moved",
        ],
        "losses": [
            "d3_cases",
            "d3_printed_loss",
            "d3_released_loss",
            "d3_table",
            "d4_printed_error",
            "d4_table",
            "d5_targets",
            "d6_pooled_mask",
        ],
    },
)
