"""k-means with one cluster per class, of the features or of UMAP's layout of them."""

import atexit
import shutil
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix
from threadpoolctl import threadpool_limits

from salib.evaluate.probes.data import Features, Prediction, ProbeData, Setting
from salib.evaluate.protocol import Protocol


def kmeans(data: ProbeData, setting: Setting) -> Prediction:
    """K-means with one cluster per class, fitted on the train items.

    With `match="none"` the cluster id itself is the predicted class: a number that changes when
    the labels are renamed, and 1/K on average whatever the features are (D15). Where the train
    features take fewer different values than there are classes, clusters stay empty.
    """
    return _clustered(data.train, data.test, data, setting)


def kmeans_umap(data: ProbeData, setting: Setting) -> Prediction:
    """K-means of UMAP's layout, both fitted on the train items."""
    train, test = umap_reduce(data.train, data.test, setting.protocol, setting.seed)
    return _clustered(train, test, data, setting)


def _clustered(train: Features, test: Features, data: ProbeData, setting: Setting) -> Prediction:
    n_classes, protocol = data.n_classes, setting.protocol
    model = KMeans(n_classes, random_state=setting.seed).set_params(n_init=protocol.kmeans_restarts)
    # Threads add partial sums in the order they finish; one thread gives the same bits each run.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer values than clusters: defined
        train_clusters = model.fit_predict(train)
        clusters = np.asarray(model.predict(test), np.int64)
    classes = clusters
    if protocol.match == "hungarian":
        # Of each cluster the class, in the one-to-one match with most train items right.
        counts = confusion_matrix(train_clusters, data.train_labels, labels=range(n_classes))
        classes = linear_sum_assignment(counts, maximize=True)[1][clusters]
    return Prediction(np.eye(n_classes, dtype=np.float32)[classes], clusters)


def umap_class() -> Any:
    """UMAP's class, with a folder for what numba compiles where no user's or its own can be had."""
    with warnings.catch_warnings():
        # Imported here: it takes seconds to compile, and warns that tensorflow is absent.
        warnings.simplefilter("ignore", ImportWarning)
        try:
            Path.home()  # else numba would make a folder named ~ here
            from umap import UMAP
        except RuntimeError:  # without HOME, in an installation that cannot be written to
            numba: Any = import_module("numba")
            numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="salib-numba-")
            atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)
            from umap import UMAP
    return UMAP


def umap_reduce(
    train: Float32[np.ndarray, "train dim"],
    test: Float32[np.ndarray, "test dim"],
    protocol: Protocol,
    seed: int,
) -> tuple[Float32[np.ndarray, "train out"], Float32[np.ndarray, "test out"]]:
    """UMAP fitted on the train items and applied to the test items; defaults otherwise.

    Where all train items are equal, every item is placed at 0.
    """
    dim, neighbours = protocol.umap_dim, protocol.umap_neighbours
    if (train == train[0]).all():
        return np.zeros((len(train), dim), np.float32), np.zeros((len(test), dim), np.float32)
    threads = torch.get_num_threads()
    reducer = umap_class()(n_components=dim, n_neighbors=neighbours, random_state=seed, n_jobs=1)
    reduced_train = np.asarray(reducer.fit_transform(train), np.float32)
    reduced_test = np.asarray(reducer.transform(test), np.float32)
    torch.set_num_threads(threads)  # UMAP gives torch all cores; later heads would differ in bits
    return reduced_train, reduced_test
