"""What every probe is given and what it returns: features, labels, scores of the test items."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from salib.evaluate.protocol import Protocol
from salib.evaluate.scores.metrics import micro_average_precision

Features = Float32[np.ndarray, "_ _"]
Labels = Int64[np.ndarray, "_ *classes"]


@dataclass(frozen=True, kw_only=True)
class ProbeData:
    """What a probe may see of a task: features of three splits, labels of two, none of test.

    Args:
        train_labels: a class number per item; of a multi-label task 0 or 1 per item and class.
        valid_labels: likewise.
        n_classes: classes of the task, also those without an item here.
    """

    train: Features
    train_labels: Labels
    valid: Features
    valid_labels: Labels
    test: Features
    n_classes: int

    @property
    def is_multilabel(self) -> bool:
        """Whether an item has 0 or 1 of each class in place of one class."""
        return self.train_labels.ndim == 2

    def standardised(self) -> "ProbeData":
        """The same with features z-scored by the train split."""
        features = standardise(self.train, self.valid, self.test)
        return replace(self, **dict(zip(("train", "valid", "test"), features, strict=True)))

    def one_hot(self) -> Float32[np.ndarray, "train classes"]:
        """Train labels as 0 or 1 per item and class."""
        if self.is_multilabel:
            return self.train_labels.astype(np.float32)
        return np.eye(self.n_classes, dtype=np.float32)[self.train_labels]


class Setting(NamedTuple):
    """How a probe is run: the protocol's choices, the seed of its draws, where torch computes."""

    protocol: Protocol
    seed: int
    device: str = "cpu"


class Prediction(NamedTuple):
    """Score of each class for each test item, and the item's cluster where the probe made one.

    The greatest score is the class; of a multi-label task scores are probabilities.
    """

    scores: Float32[np.ndarray, "test classes"]
    clusters: Int64[np.ndarray, " test"] | None = None

    @property
    def classes(self) -> Int64[np.ndarray, " test"]:
        """The class of greatest score of each item."""
        return self.scores.argmax(1).astype(np.int64)


def score(scores: Float32[np.ndarray, "items classes"], labels: Labels) -> float:
    """What a sweep is chosen by: accuracy, or micro mAP of a multi-label task."""
    if labels.ndim == 1:
        return float((scores.argmax(1) == labels).mean())
    return micro_average_precision(scores, labels)(np.ones((1, len(labels)))).item()


def standardise(train: Features, *others: Features) -> tuple[Features, ...]:
    """Z-score by the train items' mean and deviation; a constant feature becomes 0."""
    mean = train.mean(0, dtype=np.float64)
    deviation = train.std(0, dtype=np.float64)
    flat = deviation <= 1e-7 * np.abs(mean)
    safe = np.where(flat, np.inf, deviation)
    return tuple(((part - mean) / safe).astype(np.float32) for part in (train, *others))
