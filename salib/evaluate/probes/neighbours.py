"""Non-parametric probes: k-NN, k-means, UMAP before it. The neural one is in `neural`."""

import warnings
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from salib.evaluate.probes.checks import check_features, check_labels

QUERIES_AT_ONCE = 512


class Clustering(NamedTuple):
    """Predicted class and raw cluster id of each test item."""

    predicted: Int64[np.ndarray, " test"]
    clusters: Int64[np.ndarray, " test"]


class Neighbours(NamedTuple):
    """Place in the train split and cosine similarity of each test item's nearest, nearest first."""

    places: Int64[np.ndarray, "test k"]
    similarity: Float[np.ndarray, "test k"]


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
    temperature: float | None = None,
) -> Int64[np.ndarray, " test"]:
    """Class of most votes among the k nearest train items.

    With "cosine" a tied vote goes to the class whose nearest member is nearest, and equal
    similarities are ordered by place in the train split; so items whose features are all alike
    are classed by the first k train items. "l2" is scikit-learn's classifier as it stands (a tied
    vote goes to the lower label), the reading of the paper.

    Args:
        temperature: weigh a vote by exp(similarity / temperature), 0.07 in the k-NN of
            self-supervised vision (cosine only); None counts votes.

    Raises:
        ValueError: if there are fewer than k train items, features are not finite, a split is
            empty, or a temperature is given that is not positive or not for cosine.
    """
    check_features(train=train, test=test)
    check_labels(int(labels.max(initial=0)) + 1, train=labels)
    if temperature is not None and (metric != "cosine" or temperature <= 0):
        raise ValueError(f"temperature must be positive and with cosine, got {temperature}")
    if metric == "l2":
        _check_k(k, len(train))
        classifier = KNeighborsClassifier(n_neighbors=k, algorithm="brute")
        return np.asarray(classifier.fit(train, labels).predict(test), np.int64)
    found = cosine_neighbours(train, test, k=k)
    is_class = labels[found.places][:, :, None] == np.arange(labels.max() + 1)
    if temperature is not None:
        weights = vote_weights(found.similarity, temperature)
        return (is_class * weights[:, :, None]).sum(1).argmax(1).astype(np.int64)
    votes = is_class.sum(1)
    first = np.where(votes > 0, is_class.argmax(1), k)
    return (votes * (k + 1) - first).argmax(1).astype(np.int64)


def cosine_neighbours(
    train: Float32[np.ndarray, "train dim"], test: Float32[np.ndarray, "test dim"], *, k: int
) -> Neighbours:
    """The k train items of greatest cosine similarity to each test item.

    A vector of zeros has similarity 0 to all.

    Raises:
        ValueError: if there are fewer than k train items.
    """
    _check_k(k, len(train))
    unit_train, unit_test = _unit(train), _unit(test)
    places, similarity = [], []
    for start in range(0, len(test), QUERIES_AT_ONCE):
        rows = unit_test[start : start + QUERIES_AT_ONCE] @ unit_train.T
        least = np.partition(rows, -k, axis=1)[:, -k, None]
        near = [np.flatnonzero(row) for row in rows >= least]  # k places, more where they tie
        order = [np.argsort(-row[n], kind="stable")[:k] for row, n in zip(rows, near, strict=True)]
        places.append(np.stack([n[first] for n, first in zip(near, order, strict=True)]))
        similarity.append(np.take_along_axis(rows, places[-1], 1))
    return Neighbours(np.concatenate(places).astype(np.int64), np.concatenate(similarity))


def vote_weights(
    similarity: Float[np.ndarray, "test k"], temperature: float
) -> Float[np.ndarray, "test k"]:
    """exp(similarity / temperature) over that of the nearest, which comes first."""
    return np.exp((similarity - similarity[:, :1]).astype(np.float64) / temperature)


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
    the labels are renamed, and 1/K on average whatever the features are (D15). Where the train
    features take fewer different values than there are classes, clusters stay empty.

    Raises:
        ValueError: if there are fewer train items than classes, features are not finite, a split
            is empty, or a label is not one of 0..n_classes - 1.
    """
    check_features(train=train, test=test)
    check_labels(n_classes, train=labels)
    if len(train) < n_classes:
        raise ValueError(f"train must hold {n_classes} items, one a cluster, got {len(train)}")
    model = KMeans(n_clusters=n_classes, random_state=seed).set_params(n_init=restarts)
    # Threads add partial sums in the order they finish; one thread gives the same bits each run.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer values than clusters: defined
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
    """UMAP fitted on the train items and applied to the test items; defaults otherwise.

    Where all train items are alike there is nothing to lay out, and every item lies at 0.

    Raises:
        ValueError: if there are not more train items than neighbours and than dim + 1, features
            are not finite, or a split is empty.
    """
    check_features(train=train, test=test)
    if len(train) <= max(neighbours, dim + 1):
        raise ValueError(
            f"train must hold more than {max(neighbours, dim + 1)} items for UMAP with "
            f"{neighbours} neighbours in {dim} dimensions, got {len(train)}"
        )
    if (train == train[0]).all():
        return np.zeros((len(train), dim), np.float32), np.zeros((len(test), dim), np.float32)
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


def _check_k(k: int, n_train: int) -> None:
    if not 1 <= k <= n_train:
        raise ValueError(f"k must lie between 1 and {n_train} train items, got {k}")


def _unit(features: Float32[np.ndarray, "items dim"]) -> Float32[np.ndarray, "items dim"]:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norm, np.finfo(np.float32).tiny)
