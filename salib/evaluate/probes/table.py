"""The probes, one row each: a new one is a row here and its function."""

from collections.abc import Callable
from typing import NamedTuple

from salib.evaluate.probes.clusters import kmeans, kmeans_umap
from salib.evaluate.probes.data import Prediction, ProbeData, Setting
from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.neighbours import FIVE, knn, knn5, knn_weighted
from salib.evaluate.probes.neural import neural
from salib.evaluate.protocol import Protocol


def _items_for_umap(protocol: Protocol, n_classes: int) -> int:
    return max(protocol.umap_neighbours + 1, protocol.umap_dim + 2, n_classes)


class Probe(NamedTuple):
    """What is fitted to the features of images.

    Attributes:
        run: gives the scores of the test items.
        kinds: of task that it can predict. Segmentation has heads of its own, see
            `salib.evaluate.probes.segmentation.HEADS`.
        least_train: train items that it needs, of the protocol and the number of classes.
        raw: it is given features as they are, whether or not the protocol standardises.
    """

    run: Callable[[ProbeData, Setting], Prediction]
    kinds: tuple[str, ...] = ("classification", "multilabel")
    least_train: Callable[[Protocol, int], int] = lambda protocol, n_classes: 1
    raw: bool = False


PROBES = {
    "neural": Probe(neural),
    "kmeans": Probe(kmeans, ("classification",), lambda protocol, n_classes: n_classes),
    "kmeans_umap": Probe(kmeans_umap, ("classification",), _items_for_umap),
    "knn": Probe(knn, least_train=lambda protocol, n_classes: protocol.knn_k),
    "knn_weighted": Probe(knn_weighted, least_train=lambda protocol, n_classes: protocol.knn_k),
    "knn5": Probe(knn5, least_train=lambda protocol, n_classes: FIVE, raw=True),
    "linear": Probe(linear),
}
