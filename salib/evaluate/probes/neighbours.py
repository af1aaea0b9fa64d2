"""k-NN: the share of each class in the votes of the nearest train items."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from salib.evaluate.probes.data import Prediction, ProbeData, Setting


def knn(data: ProbeData, setting: Setting) -> Prediction:
    """Each of the k nearest train items has one vote."""
    return _votes(data, setting.protocol.knn_k, setting.protocol.knn_metric, None)


def knn_weighted(data: ProbeData, setting: Setting) -> Prediction:
    """Votes count exp(cosine / temperature), 0.07 in the k-NN of self-supervised vision."""
    return _votes(data, setting.protocol.knn_k, "cosine", setting.protocol.knn_temperature)


def _votes(data: ProbeData, k: int, metric: str, temperature: float | None) -> Prediction:
    """Shares of the votes, class by class; a tied vote goes to the lower class."""
    if k > len(data.train):
        raise ValueError(f"knn_k must be at most {len(data.train)}, the train items, got {k}")
    search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(data.train)
    distances, nearest = search.kneighbors(data.test)
    weights = np.ones(distances.shape)
    if temperature is not None:  # over the nearest's, so that no weight underflows for all
        weights = np.exp((distances[:, :1] - distances).astype(np.float64) / temperature)
    shares, votes = np.zeros((len(data.test), data.n_classes)), data.one_hot()
    for weight, item in zip(weights.T, nearest.T, strict=True):
        shares += weight[:, None] * votes[item]
    return Prediction((shares / weights.sum(1, keepdims=True)).astype(np.float32))
