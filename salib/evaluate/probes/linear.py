"""The linear probe: scikit-learn's logistic regression, its penalty chosen on the valid split."""

import warnings
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from salib.evaluate.probes.data import Features, Labels, Prediction, ProbeData, Setting, score

FALLS = 4
"""The sweep ends after so many values of C in a row that score below the best so far."""


class Regression:
    """Logistic regression of one class per item, or one for each class of several (one vs rest).

    L2 penalty, free intercept; each fit starts from the last one's weights.
    """

    def __init__(self, labels: Labels, n_classes: int) -> None:
        """Take the labels to fit; a class that all items have, or none, is its own answer."""
        self.n_classes, self.several = n_classes, labels.ndim == 2
        self.targets = labels.T if self.several else labels[None]
        self.models: list[Any] = [
            DummyClassifier()
            if (target == target[0]).all()
            else LogisticRegression(warm_start=True, max_iter=1000)
            for target in self.targets
        ]

    def fit(self, features: Features, c: float) -> "Regression":
        """Fit with the inverse strength c of the penalty."""
        # One thread gives the same bits for any number of threads, and is faster.
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as many classes as half the items
            for model, target in zip(self.models, self.targets, strict=True):
                if isinstance(model, LogisticRegression):
                    model.set_params(C=c)
                model.fit(features, target)
        return self

    def predict(self, features: Features) -> Features:
        """Probability of each class for each item."""
        columns = 2 if self.several else self.n_classes
        scores = np.zeros((len(self.models), len(features), columns), np.float32)
        for model, part in zip(self.models, scores, strict=True):
            part[:, model.classes_] = model.predict_proba(features)
        return scores[:, :, 1].T if self.several else scores[0]


def linear(data: ProbeData, setting: Setting) -> Prediction:
    """Logistic regression with the C of best valid score, refitted on train and valid items.

    The best C has the highest `score`, then the least valid loss; it is one for all classes.
    Features should be z-scored, which the range of C supposes; those statistics stay the train
    split's in the refit. Nothing is drawn.
    """
    features = np.concatenate([data.train, data.valid])
    labels = np.concatenate([data.train_labels, data.valid_labels])
    c, _ = choose_c(data, setting.protocol.cs)
    return Prediction(Regression(labels, data.n_classes).fit(features, c).predict(data.test))


def choose_c(data: ProbeData, cs: tuple[float, ...]) -> tuple[float, dict[float, float]]:
    """The best C, and the valid scores by C in rising order until the sweep ended."""
    model = Regression(data.train_labels, data.n_classes)
    ranks: dict[float, tuple[float, float]] = {}
    falls = 0
    for c in sorted(cs):
        scores = model.fit(data.train, c).predict(data.valid)
        ranks[c] = score(scores, data.valid_labels), -_loss(scores, data.valid_labels)
        falls = falls + 1 if ranks[c][0] < max(ranks.values())[0] else 0
        if falls >= FALLS:
            break
    return max(ranks, key=ranks.__getitem__), {c: rank[0] for c, rank in ranks.items()}


def _loss(scores: Features, labels: Labels) -> float:
    """Mean cross-entropy of probabilities."""
    if labels.ndim == 2:
        right = np.where(labels == 1, scores, 1 - scores)
    else:
        right = np.take_along_axis(scores, labels[:, None], 1)
    return float(-np.log(right.clip(1e-12)).mean())
