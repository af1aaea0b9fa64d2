"""Intervals: over test items, of a difference on the same items, over tasks and seeds."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64


class Interval(NamedTuple):
    """A value and the percentile interval around it."""

    value: float
    low: float
    high: float


def resample(n: int, resamples: int, rng: np.random.Generator) -> Int64[np.ndarray, "resamples n"]:
    """Indices of bootstrap samples of n items; use one draw for all models of a task."""
    return rng.integers(n, size=(resamples, n))


def bootstrap_mean(
    scores: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    indices: Int64[np.ndarray, "resamples n"],
    confidence: float = 0.95,
) -> Interval:
    """Mean of per-item scores with its percentile bootstrap interval over the items."""
    values = np.asarray(scores, np.float64)
    return _interval(float(values.mean()), values[indices].mean(1), confidence)


def paired_difference(
    ours: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    theirs: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    indices: Int64[np.ndarray, "resamples n"],
    confidence: float = 0.95,
) -> Interval:
    """Mean of ours - theirs on the same items, with its interval over those items."""
    return bootstrap_mean(
        np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), indices, confidence
    )


def _interval(
    value: float, means: Float64[np.ndarray, " resamples"], confidence: float
) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
