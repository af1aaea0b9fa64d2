"""Intervals: over test items, of a difference on the same items, over seeds."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from scipy import stats

Statistic = Callable[[Float64[np.ndarray, "resamples n"]], Float64[np.ndarray, " resamples"]]
"""A score of the test split as a function of how often each item is in it."""

AT_ONCE = 64


class Interval(NamedTuple):
    """A value and the interval around it."""

    value: float
    low: float
    high: float


def resample(n: int, resamples: int, rng: np.random.Generator) -> Int64[np.ndarray, "resamples n"]:
    """Indices of bootstrap samples of n items; use one draw for all models of a task."""
    return rng.integers(n, size=(resamples, n))


def bootstrap_statistic(
    statistic: Statistic, indices: Int64[np.ndarray, "resamples n"], confidence: float = 0.95
) -> Interval:
    """Any score of a test split with its percentile bootstrap interval over the items.

    Of a share near 0 or 1 it is too short: with 300 items and a true accuracy of 0.97 to 0.995 it
    holds it in 91 % of test splits, not in 95 %. `accuracy_interval` does not fail there.
    `statistic` is for instance `of_sums(label_counts(...), micro_f1)`,
    `of_sums(mask_counts(...), mean_iou)` or `micro_average_precision(...)`.

    Raises:
        ValueError: if a bootstrap sample has no score.
    """
    (value,), values = _whole(statistic, indices), _over(statistic, indices)
    return _interval(float(value), values, confidence)


def paired_statistic(
    ours: Statistic,
    theirs: Statistic,
    indices: Int64[np.ndarray, "resamples n"],
    confidence: float = 0.95,
) -> Interval:
    """A score of ours minus that of theirs on the same items, with its interval."""
    (value,) = _whole(ours, indices) - _whole(theirs, indices)
    return _interval(float(value), _over(ours, indices) - _over(theirs, indices), confidence)


def of_sums(
    counts: Int[np.ndarray, "n ..."],
    score: Callable[[Float64[np.ndarray, "resamples ..."]], Float64[np.ndarray, " resamples"]],
) -> Statistic:
    """The statistic that is a score of counts summed over the items."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)

    def value(weights: Float64[np.ndarray, "resamples n"]) -> Float64[np.ndarray, " resamples"]:
        return score((weights @ flat).reshape(len(weights), *counts.shape[1:]))

    return value


def accuracy_interval(correct: Bool[np.ndarray, " n"], confidence: float = 0.95) -> Interval:
    """Accuracy with Wilson's score interval.

    From 300 items on it holds a true accuracy of 0.5 to 0.99 in 93 to 97 % of test splits.

    Raises:
        ValueError: if there is no item.
    """
    n, right = len(correct), int(correct.sum())
    if not n:
        raise ValueError("correct must hold at least one item, got none")
    found = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    return Interval(right / n, float(found.low), float(found.high))


def paired_accuracy_interval(
    ours: Bool[np.ndarray, " n"], theirs: Bool[np.ndarray, " n"], confidence: float = 0.95
) -> Interval:
    """Accuracy of ours minus theirs on the same items, with Bonett and Price's (2012) interval.

    Normal, after one item is added to those only we have right and one to those only they have;
    so it keeps a width where the models differ on few items or on none.

    Raises:
        ValueError: if there is no item.
    """
    n = len(ours)
    if not n:
        raise ValueError("ours must hold at least one item, got none")
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    centre, apart = (won - lost) / (n + 2), (won + lost + 2) / (n + 2)
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt((apart - centre**2) / (n + 2))
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Interval((won - lost) / n, float(low), float(high))


def seed_interval(values: Float[np.ndarray, " seeds"], confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's t interval; a single seed has no interval (NaN)."""
    mean = float(values.mean(dtype=np.float64))
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return Interval(mean, float(mean - half), float(mean + half))


def _whole(
    statistic: Statistic, indices: Int64[np.ndarray, "resamples n"]
) -> Float64[np.ndarray, " 1"]:
    return statistic(np.ones((1, indices.shape[1])))


def _over(
    statistic: Statistic, indices: Int64[np.ndarray, "resamples n"]
) -> Float64[np.ndarray, " resamples"]:
    parts = []
    for start in range(0, len(indices), AT_ONCE):
        chosen = indices[start : start + AT_ONCE]
        rows = np.arange(len(chosen))[:, None] * chosen.shape[1]
        weights = np.bincount((rows + chosen).reshape(-1), minlength=chosen.size)
        parts.append(statistic(weights.reshape(chosen.shape).astype(np.float64)))
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise ValueError("items must have a score in every bootstrap sample, got NaN: add items")
    return values


def _interval(
    value: float, means: Float64[np.ndarray, " resamples"], confidence: float
) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
