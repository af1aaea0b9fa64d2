"""Non-parametric probes: k-NN, k-means, UMAP before it. The neural one is in `neural`."""

import warnings
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

QUERIES_AT_ONCE = 512


class Clustering(NamedTuple):
    """Predicted class and raw cluster id of each test item."""

    predicted: Int64[np.ndarray, " test"]
    clusters: Int64[np.ndarray, " test"]


def standardise(
    train: Float32[np.ndarray, "train dim"], *others: Float32[np.ndarray, "_ dim"]
) -> tuple[Float32[np.ndarray, "_ dim"], ...]:
    """Z-score by the train items' mean and deviation; a constant feature becomes 0."""
    mean = train.mean(0, dtype=np.float64)
    deviation = train.std(0, dtype=np.float64)
    flat = deviation <= 1e-7 * np.abs(mean)
    safe = np.where(flat, 1.0, deviation)
    z = [np.where(flat, 0.0, (part - mean) / safe) for part in (train, *others)]
    return tuple(part.astype(np.float32) for part in z)


def knn(
    train: Float32[np.ndarray, "train dim"],
    labels: Int64[np.ndarray, " train"],
    test: Float32[np.ndarray, "test dim"],
    *,
    k: int,
    metric: Literal["cosine", "l2"],
) -> Int64[np.ndarray, " test"]:
    """Majority class of the k nearest train items.

    With "cosine" a tied vote goes to the class whose nearest member is nearest, and equal
    similarities are ordered by place in the train split. "l2" is scikit-learn's classifier as
    it stands (a tied vote goes to the lower label), the reading of the paper.

    Raises:
        ValueError: if there are fewer than k train items.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie between 1 and {len(train)} train items, got {k}")
    if metric == "l2":
        classifier = KNeighborsClassifier(n_neighbors=k, algorithm="brute")
        return np.asarray(classifier.fit(train, labels).predict(test), np.int64)
    unit_train, unit_test = _unit(train), _unit(test)
    starts = range(0, len(test), QUERIES_AT_ONCE)
    parts = [_vote(unit_test[s : s + QUERIES_AT_ONCE] @ unit_train.T, labels, k) for s in starts]
    return np.concatenate(parts)


def kmeans(
    train: Float32[np.ndarray, "train dim"],
    labels: Int64[np.ndarray, " train"],
    test: Float32[np.ndarray, "test dim"],
    *,
    n_classes: int,
    restarts: int,
    match: Literal["hungarian", "none"],
    seed: int,
) -> Clustering:
    """K-means with one cluster a class, fitted on the train items.

    With `match="none"` the cluster id itself is the predicted class: a number that changes when
    the labels are renamed, and 1/K on average whatever the features are (D15).
    """
    model = KMeans(n_clusters=n_classes, random_state=seed).set_params(n_init=restarts)
    # Threads add partial sums in the order they finish; one thread gives the same bits each run.
    with threadpool_limits(limits=1):
        train_clusters = np.asarray(model.fit(train).labels_, np.int64)
        clusters = np.asarray(model.predict(test), np.int64)
    if match == "none":
        return Clustering(clusters, clusters)
    return Clustering(match_clusters(train_clusters, labels, n_classes)[clusters], clusters)


def umap_reduce(
    train: Float32[np.ndarray, "train dim"],
    test: Float32[np.ndarray, "test dim"],
    *,
    dim: int,
    neighbours: int,
    seed: int,
) -> tuple[Float32[np.ndarray, "train out"], Float32[np.ndarray, "test out"]]:
    """UMAP fitted on the train items and applied to the test items; defaults otherwise."""
    with warnings.catch_warnings():
        # Imported here: it takes seconds to compile, and tells that tensorflow is absent.
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP
    reducer = UMAP(n_components=dim, n_neighbors=neighbours, random_state=seed, n_jobs=1)
    reduced_train = np.asarray(reducer.fit_transform(train), np.float32)
    return reduced_train, np.asarray(reducer.transform(test), np.float32)


def match_clusters(
    clusters: Int64[np.ndarray, " items"], labels: Int64[np.ndarray, " items"], n_classes: int
) -> Int64[np.ndarray, " clusters"]:
    """Class of each cluster id: the one-to-one match with most items right (Hungarian)."""
    counts = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    _, matched = linear_sum_assignment(counts, maximize=True)
    return matched.astype(np.int64)


def _unit(features: Float32[np.ndarray, "items dim"]) -> Float32[np.ndarray, "items dim"]:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norm, np.finfo(np.float32).tiny)


def _vote(
    similarity: Float[np.ndarray, "queries train"], labels: Int64[np.ndarray, " train"], k: int
) -> Int64[np.ndarray, " queries"]:
    nearest = labels[np.argsort(-similarity, axis=1, kind="stable")[:, :k]]
    is_class = nearest[:, :, None] == np.arange(labels.max() + 1)
    votes = is_class.sum(1)
    first = np.where(votes > 0, is_class.argmax(1), k)
    return (votes * (k + 1) - first).argmax(1).astype(np.int64)
