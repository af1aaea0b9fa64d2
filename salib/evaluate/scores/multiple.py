"""Many differences compared at once: Holm's correction, and the sentence that says so."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from statsmodels.stats.multitest import multipletests


class Comparisons(NamedTuple):
    """Holm-adjusted p-values in the order given, how many differ, and the remark that says so."""

    adjusted: Float64[np.ndarray, " cells"]
    compared: int
    apart: int
    apart_adjusted: int
    remark: str


def comparisons(p_values: Float64[np.ndarray, " cells"], alpha: float = 0.05) -> Comparisons:
    """Adjust the p-values of a table's cells and say in one sentence what that leaves.

    Holm's step-down correction: below alpha, the chance of any false difference is below alpha.
    NaN, a cell that is not compared, stays NaN and does not count.
    """
    given = ~np.isnan(p_values)
    adjusted = np.full(len(p_values), np.nan)
    if given.any():
        adjusted[given] = multipletests(p_values[given], method="holm")[1]
    below, still = (int((values < alpha).sum()) for values in (p_values, adjusted))
    remark = (
        f"Of {given.sum()} differences {below} lie below p = {alpha:g} one by one, where "
        f"{alpha * given.sum():.1f} would if no model differed from another; with Holm's "
        f"correction for {given.sum()} comparisons {still} do."
    )
    return Comparisons(adjusted, int(given.sum()), below, still, remark)
