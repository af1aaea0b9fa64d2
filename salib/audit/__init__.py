"""What the text as printed and the released code compute where this library departs from them.

Each function is named after its row of the table in design.md (a page of the book) and serves the
experiment behind that row. Nothing else uses them.
"""

from salib.audit.attention import (
    GSDS_M,
    coarse_to_fine_distance,
    correlation,
    d1_attended_keys,
    d2_step_bias,
    d2_table,
    d8_nearest,
    d8_released_bias,
    d9_released_diagonal,
    d18_heads,
    d18_heads_that_see_scale,
    d18_moved,
)
from salib.audit.losses import (
    d3_cases,
    d3_printed_loss,
    d3_released_loss,
    d3_table,
    d4_printed_error,
    d4_table,
    d5_targets,
    d6_pooled_mask,
)

__all__ = [
    "GSDS_M",
    "coarse_to_fine_distance",
    "correlation",
    "d1_attended_keys",
    "d2_step_bias",
    "d2_table",
    "d3_cases",
    "d3_printed_loss",
    "d3_released_loss",
    "d3_table",
    "d4_printed_error",
    "d4_table",
    "d5_targets",
    "d6_pooled_mask",
    "d8_nearest",
    "d8_released_bias",
    "d9_released_diagonal",
    "d18_heads",
    "d18_heads_that_see_scale",
    "d18_moved",
]
