"""What predictions of a test split are worth: metrics with intervals, differences with p-values."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from salib.evaluate.scores.metrics import label_counts, mean_iou, micro_average_precision, micro_f1
from salib.evaluate.scores.multiple import difference_p_value, mcnemar
from salib.evaluate.scores.statistics import (
    Interval,
    Statistic,
    accuracy_interval,
    bootstrap_statistic,
    of_sums,
    paired_accuracy_interval,
    paired_statistic,
)


class Score(NamedTuple):
    """One metric of one column's predictions, as a function of which items are drawn.

    `right` tells the items that accuracy counts; other metrics have none.
    """

    metric: str
    statistic: Statistic | None = None
    right: np.ndarray | None = None


def accuracy_score(
    predicted: Int64[np.ndarray, " items"], labels: Int64[np.ndarray, " items"]
) -> tuple[Score, ...]:
    """Share of items whose class is right."""
    return (Score("accuracy", right=predicted == labels),)


def multilabel_scores(
    scores: Float32[np.ndarray, "items classes"], labels: Int64[np.ndarray, "items classes"]
) -> tuple[Score, ...]:
    """Micro F1 above 0.5, and micro mAP.

    Raises:
        ValueError: if no label is positive.
    """
    return (
        Score("micro F1", of_sums(label_counts(scores, labels), micro_f1)),
        Score("micro mAP", micro_average_precision(scores, labels)),
    )


def segmentation_score(confusion: Int64[np.ndarray, "items classes classes"]) -> tuple[Score, ...]:
    """Mean intersection over union of the confusions of each image (`mask_counts`)."""
    return (Score("mIoU", of_sums(confusion, mean_iou)),)


def interval_of(
    score: Score, indices: Int64[np.ndarray, "resamples items"], confidence: float
) -> Interval:
    """Wilson's interval of an accuracy, the percentile bootstrap over items of all else.

    The bootstrap of an accuracy near 1 is too short, Wilson's is not (`statistics`).
    """
    if score.right is not None:
        return accuracy_interval(score.right, confidence)
    assert score.statistic is not None
    return bootstrap_statistic(score.statistic, indices, confidence)


def difference_of(
    ours: Score, theirs: Score, indices: Int64[np.ndarray, "resamples items"], confidence: float
) -> tuple[Interval, float]:
    """Ours minus theirs on the same items, with its paired interval and p-value.

    Accuracies by Bonett and Price's interval and McNemar's exact test; all else by the paired
    bootstrap, and a p-value that takes its interval as normal.
    """
    if ours.right is not None and theirs.right is not None:
        found = paired_accuracy_interval(ours.right, theirs.right, confidence)
        return found, mcnemar(ours.right, theirs.right)
    assert ours.statistic is not None
    assert theirs.statistic is not None
    found = paired_statistic(ours.statistic, theirs.statistic, indices, confidence)
    return found, difference_p_value(found, confidence)
