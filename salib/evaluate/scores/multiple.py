"""Many cells compared at once: p-values of paired differences, and Holm's correction."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy import stats

from salib.evaluate.scores.statistics import Interval


class Comparisons(NamedTuple):
    """Holm-adjusted p-values in the order given, how many differ, and the remark that says so."""

    adjusted: Float64[np.ndarray, " cells"]
    compared: int
    apart: int
    apart_adjusted: int
    remark: str


def mcnemar(ours: Bool[np.ndarray, " n"], theirs: Bool[np.ndarray, " n"]) -> float:
    """Two-sided exact p-value of equal accuracy on the same items (McNemar).

    Where the models are right on the same items the p-value is 1.
    """
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if won + lost == 0:
        return 1.0
    return float(stats.binomtest(won, won + lost).pvalue)


def difference_p_value(difference: Interval, confidence: float = 0.95) -> float:
    """Two-sided p-value of no difference, from a bootstrap interval taken as normal.

    An approximation, for scores without an exact test (F1, mAP, mIoU). It has no floor, where the
    share of bootstrap samples beyond 0 cannot go below one in their number.
    """
    deviation = (difference.high - difference.low) / (2 * stats.norm.ppf((1 + confidence) / 2))
    if deviation == 0:
        return float(difference.value == 0)
    return float(2 * stats.norm.sf(abs(difference.value) / deviation))


def holm(p_values: Float64[np.ndarray, " cells"]) -> Float64[np.ndarray, " cells"]:
    """Holm's step-down adjusted p-values: below alpha, the chance of any false one is below alpha.

    NaN, a cell that is not compared, stays NaN and does not count.

    Raises:
        ValueError: if a p-value does not lie in 0..1.
    """
    compared = np.flatnonzero(~np.isnan(p_values))
    chosen = p_values[compared]
    if ((chosen < 0) | (chosen > 1)).any():
        raise ValueError(f"p_values must lie in 0..1, got {chosen.min()}..{chosen.max()}")
    order = np.argsort(chosen, kind="stable")
    stepped = np.maximum.accumulate(chosen[order] * np.arange(len(order), 0, -1))
    adjusted = np.full(len(p_values), np.nan)
    adjusted[compared[order]] = np.minimum(stepped, 1)
    return adjusted


def comparisons(p_values: Float64[np.ndarray, " cells"], alpha: float = 0.05) -> Comparisons:
    """Adjust the p-values of a table's cells and say in one sentence what that leaves."""
    adjusted = holm(p_values)
    compared = int((~np.isnan(p_values)).sum())
    apart, kept = (int((values < alpha).sum()) for values in (p_values, adjusted))
    remark = (
        f"Of {compared} differences {apart} lie below p = {alpha:g} one by one, where "
        f"{alpha * compared:.1f} would if no model differed from another; with Holm's correction "
        f"for {compared} comparisons {kept} do."
    )
    return Comparisons(adjusted, compared, apart, kept, remark)
