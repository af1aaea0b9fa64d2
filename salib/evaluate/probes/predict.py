"""Probes by name: from the features of three splits to predictions of the test split."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64

from salib.evaluate.columns import Split
from salib.evaluate.probes import neighbours as probes
from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.multilabel import multilabel_knn, multilabel_linear, multilabel_neural
from salib.evaluate.probes.neural import neural
from salib.evaluate.protocol import PROBES, Protocol


class Splits(NamedTuple):
    """A task's three embedded splits."""

    train: Split
    valid: Split
    test: Split


class Outcome(NamedTuple):
    """Predicted class of each test item, and its cluster where the probe made one."""

    predicted: Int64[np.ndarray, " test"]
    clusters: Int64[np.ndarray, " test"] | None = None


def least_train(what: str, protocol: Protocol, n_classes: int) -> int:
    """How many train items a probe needs."""
    by_umap = max(protocol.umap_neighbours + 1, protocol.umap_dim + 2, n_classes)
    least = {"kmeans": n_classes, "kmeans_umap": by_umap}
    return least.get(what, protocol.knn_k if what.startswith("knn") else 1)


def run_probe(
    what: str,
    splits: Splits,
    column: str,
    *,
    n_classes: int,
    protocol: Protocol,
    seed: int,
    device: str | torch.device = "cpu",
) -> Outcome:
    """Predictions of one probe of one class an item, one of `PROBES["classification"]`.

    Args:
        device: where "linear" and "neural" are fitted; the others are scikit-learn's and numpy's.

    Raises:
        ValueError: if there is no such probe.
    """
    train, valid, test = _features(what, "classification", splits, column, protocol)
    labels, held_out = splits.train.labels, (valid, splits.valid.labels)
    if what == "knn":
        k, metric = protocol.knn_k, protocol.knn_metric
        return Outcome(probes.knn(train, labels, test, k=k, metric=metric))
    if what == "knn_weighted":
        options = {"k": protocol.knn_k, "temperature": protocol.knn_temperature}
        return Outcome(probes.knn(train, labels, test, metric="cosine", **options))
    if what == "linear":
        options = {"n_classes": n_classes, "cs": protocol.cs, "device": device}
        return Outcome(linear(train, labels, *held_out, test, **options).predicted)
    if what == "neural":
        options = {"n_classes": n_classes, "protocol": protocol, "seed": seed, "device": device}
        return Outcome(neural(train, labels, *held_out, test, **options))
    if what == "kmeans_umap":
        dim, neighbours = protocol.umap_dim, protocol.umap_neighbours
        train, test = probes.umap_reduce(train, test, dim=dim, neighbours=neighbours, seed=seed)
    clustering = probes.kmeans(
        train,
        labels,
        test,
        n_classes=n_classes,
        restarts=protocol.kmeans_restarts,
        match=protocol.match,
        seed=seed,
    )
    return Outcome(clustering.predicted, clustering.clusters)


def run_multilabel_probe(
    what: str,
    splits: Splits,
    column: str,
    *,
    protocol: Protocol,
    seed: int,
    device: str | torch.device = "cpu",
) -> Float32[np.ndarray, "test classes"]:
    """Score of each class for each test item by one of `PROBES["multilabel"]`.

    Raises:
        ValueError: if there is no such probe.
    """
    train, valid, test = _features(what, "multilabel", splits, column, protocol)
    labels, held_out = splits.train.labels, (valid, splits.valid.labels)
    if what in ("knn", "knn_weighted"):
        temperature = protocol.knn_temperature if what == "knn_weighted" else None
        return multilabel_knn(train, labels, test, k=protocol.knn_k, temperature=temperature)
    if what == "linear":
        return multilabel_linear(train, labels, *held_out, test, cs=protocol.cs, device=device)
    options = {"protocol": protocol, "seed": seed, "device": device}
    return multilabel_neural(train, labels, *held_out, test, **options)


def _features(
    what: str, kind: str, splits: Splits, column: str, protocol: Protocol
) -> tuple[Float32[np.ndarray, "_ dim"], ...]:
    if what not in PROBES[kind]:
        raise ValueError(f"probe must be one of {PROBES[kind]}, got {what!r}")
    found = tuple(split.features[column] for split in splits)
    return probes.standardise(*found) if protocol.standardise else found
