"""k-NN: the share of each class in the votes of the nearest train items."""

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32
from sklearn.neighbors import KNeighborsRegressor

from salib.evaluate.probes.data import Features, Prediction, ProbeData, Setting

FIVE = 5


def knn(data: ProbeData, setting: Setting) -> Prediction:
    """Each of the k nearest train items has one vote."""
    protocol = setting.protocol
    options = {"k": protocol.knn_k, "metric": protocol.knn_metric}
    return Prediction(votes(data.train, data.one_hot(), data.test, **options))


def knn_weighted(data: ProbeData, setting: Setting) -> Prediction:
    """Votes count exp(cosine / temperature), 0.07 in the k-NN of self-supervised vision."""
    options = {"k": setting.protocol.knn_k, "temperature": setting.protocol.knn_temperature}
    return Prediction(votes(data.train, data.one_hot(), data.test, metric="cosine", **options))


def knn5(data: ProbeData, setting: Setting) -> Prediction:
    """As torchgeo-bench has it, whatever the protocol: five neighbours by L2 distance."""
    return Prediction(votes(data.train, data.one_hot(), data.test, k=FIVE, metric="l2"))


def votes(
    train: Features,
    one_hot: Float32[np.ndarray, "train classes"],
    test: Features,
    *,
    k: int,
    metric: str,
    temperature: float | None = None,
) -> Float32[np.ndarray, "test classes"]:
    """Share of each class in the votes for each test item."""
    weights: Any = "uniform" if temperature is None else partial(_weights, temperature=temperature)
    model = KNeighborsRegressor(k, weights=weights, metric=metric, algorithm="brute")
    return np.asarray(model.fit(train, one_hot).predict(test), np.float32)


def _weights(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Relative to that of the nearest item, so that not all weights of an item underflow to 0."""
    return np.exp((distances[:, :1] - distances).astype(np.float64) / temperature)
