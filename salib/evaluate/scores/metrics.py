"""Metrics of a test split as functions of its items' weights, so that items can be resampled."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64, Integer

Statistic = Callable[[Float64[np.ndarray, "resamples n"]], Float64[np.ndarray, " resamples"]]
"""A score of the test split as a function of how often each item is in it."""

THRESHOLD = 0.5
"""A class is predicted above it, as in GEO-Bench's F1 (torchmetrics' default on sigmoids)."""


class Score(NamedTuple):
    """One metric of one candidate's predictions.

    Attributes:
        statistic: the metric as a function of which items are drawn.
        right: of an accuracy, the items whose class is right; other metrics have none.
    """

    metric: str
    statistic: Statistic
    right: np.ndarray | None = None


def class_scores(
    predicted: Int64[np.ndarray, " items"], labels: Int64[np.ndarray, " items"]
) -> tuple[Score, ...]:
    """Accuracy: share of items whose class is right."""
    right = predicted == labels
    share = of_sums(right[:, None].astype(np.int64), lambda sums: sums[:, 0] / len(right))
    return (Score("accuracy", share, right),)


def label_scores(
    scores: Float32[np.ndarray, "items classes"], labels: Int64[np.ndarray, "items classes"]
) -> tuple[Score, ...]:
    """Micro F1 above 0.5, and micro mAP.

    Raises:
        ValueError: if no label is positive.
    """
    return (
        Score("micro F1", micro_f1(scores, labels)),
        Score("micro mAP", micro_average_precision(scores, labels)),
    )


def mask_scores(
    predicted: Integer[np.ndarray, "items height width"],
    masks: Int64[np.ndarray, "items height width"],
    n_classes: int,
) -> tuple[Score, ...]:
    """Mean intersection over union of the confusions of all images."""
    return (Score("mIoU", of_sums(mask_counts(predicted, masks, n_classes), mean_iou)),)


def of_sums(
    counts: Int[np.ndarray, "n ..."],
    score: Callable[[Float64[np.ndarray, "resamples ..."]], Float64[np.ndarray, " resamples"]],
) -> Statistic:
    """The statistic that is a score of counts summed over the items."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)

    def value(weights: Float64[np.ndarray, "resamples n"]) -> Float64[np.ndarray, " resamples"]:
        return score((weights @ flat).reshape(len(weights), *counts.shape[1:]))

    return value


def micro_f1(
    scores: Float32[np.ndarray, "items classes"], labels: Int64[np.ndarray, "items classes"]
) -> Statistic:
    """F1 over all (item, class) pairs, 2 TP / (2 TP + FP + FN).

    0 where nothing is labelled and nothing predicted, as scikit-learn and torchmetrics have it.
    """
    predicted, true = scores > THRESHOLD, labels == 1
    # 2 TP + FP + FN is what is predicted and what is labelled together.
    counts = np.stack([(predicted & true).sum(1), predicted.sum(1) + true.sum(1)], axis=1)
    return of_sums(counts, lambda sums: 2 * sums[:, 0] / np.maximum(sums[:, 1], 1))


def micro_average_precision(
    scores: Float32[np.ndarray, "items classes"], labels: Int64[np.ndarray, "items classes"]
) -> Statistic:
    """Micro mAP as a function of item weights: average precision over all (item, class) pairs.

    The area under the steps of precision over recall, equal scores counted as one step:
    scikit-learn's `average_precision_score(labels, scores, average="micro")`. Weights of n
    ones give it of the test split. 0 for weights without a positive label.

    Raises:
        ValueError: if no label is positive.
    """
    if not labels.any():
        raise ValueError("labels must hold at least one positive for average precision, got none")
    order = np.argsort(-scores, axis=None, kind="stable")
    item = order // scores.shape[1]
    true = labels.reshape(-1)[order].astype(np.float64)
    ranked = scores.reshape(-1)[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)

    def value(weights: Float64[np.ndarray, "resamples items"]) -> Float64[np.ndarray, " resamples"]:
        spread = weights[:, item]
        above = spread.cumsum(1)[:, last]
        hits = np.multiply(spread, true, out=spread).cumsum(1)[:, last]
        gained = np.diff(hits, axis=1, prepend=0.0)
        area = (gained * hits / np.maximum(above, 1)).sum(1)
        return area / np.maximum(hits[:, -1], 1)

    return value


def mask_counts(
    predicted: Integer[np.ndarray, "items height width"],
    masks: Int64[np.ndarray, "items height width"],
    n_classes: int,
) -> Int64[np.ndarray, "items classes classes"]:
    """Confusion of each image: pixels of true class (row) predicted as class (column).

    Pixels of a negative class are unlabelled and left out.
    """
    counts = np.zeros((len(masks), n_classes**2), np.int64)
    for row, found, mask in zip(counts, predicted, masks, strict=True):
        known = mask >= 0
        pairs = mask[known] * n_classes + found[known].astype(np.int64)
        row += np.bincount(pairs, minlength=n_classes**2)
    return counts.reshape(-1, n_classes, n_classes)


def mean_iou(
    confusion: Int[np.ndarray, "*batch classes classes"]
    | Float[np.ndarray, "*batch classes classes"],
) -> Float64[np.ndarray, "*batch"]:
    """Mean over classes of intersection over union, from confusions summed over images.

    Classes that neither the truth nor the prediction holds are left out; one that is only
    predicted counts 0. NaN where no pixel is labelled.
    """
    confusion = confusion.astype(np.float64)
    inside = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - inside
    held = union > 0
    iou = np.where(held, inside / np.where(held, union, 1), 0)
    number = held.sum(-1)
    return np.asarray(np.where(number > 0, iou.sum(-1) / np.maximum(number, 1), np.nan))
