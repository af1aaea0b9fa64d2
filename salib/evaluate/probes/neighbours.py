"""k-NN: the share of each class in the votes of the nearest train items."""

import numpy as np
from jaxtyping import Float32
from sklearn.neighbors import NearestNeighbors

from salib.evaluate.probes.data import Features, Prediction, ProbeData, Setting


def knn(data: ProbeData, setting: Setting) -> Prediction:
    """Each of the k nearest train items has one vote."""
    protocol = setting.protocol
    options = {"k": protocol.knn_k, "metric": protocol.knn_metric}
    return Prediction(votes(data.train, data.one_hot(), data.test, **options))


def knn_weighted(data: ProbeData, setting: Setting) -> Prediction:
    """Votes count exp(cosine / temperature), 0.07 in the k-NN of self-supervised vision."""
    options = {"k": setting.protocol.knn_k, "temperature": setting.protocol.knn_temperature}
    return Prediction(votes(data.train, data.one_hot(), data.test, metric="cosine", **options))


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
    search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(train)
    distances, nearest = map(np.asarray, search.kneighbors(test))
    weights = np.ones(distances.shape)
    if temperature is not None:  # over that of the nearest, so that no row of weights is all 0
        weights = np.exp((distances[:, :1] - distances).astype(np.float64) / temperature)
    shares = np.zeros((len(test), one_hot.shape[1]))
    for weight, item in zip(weights.T, nearest.T, strict=True):
        shares += weight[:, None] * one_hot[item]
    return (shares / weights.sum(1, keepdims=True)).astype(np.float32)
