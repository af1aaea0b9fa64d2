"""Which library serves a head best: scikit-learn, faiss or torch, at the size of m-brick-kiln.

    pip install faiss-cpu
    python benchmarks/libraries.py

Features are those of heads.py, made up. Without faiss its cases are left out. Neighbours are 20
by cosine and by L2; k-means has the default protocol's restarts, and ours is scikit-learn on one
thread; "linear" is a fit on train and one on train and valid items with C = 0.1, to scikit-learn's
tolerance there and our own here. Before anything is timed neighbours must be the same ones, and
linear predictions alike. Rows go to results/performance/libraries.csv; `within` is k-means' sum of
squares over the least of them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import heads
import measure
import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.neighbours import cosine_neighbours, kmeans, standardise
from salib.evaluate.probes.predict import Splits
from salib.evaluate.protocol import PROTOCOLS

try:
    import faiss
except ImportError:
    faiss = None

TASK, COLUMN, K, C = "m-brick-kiln", "SA-low", 20, 0.1
RESTARTS = PROTOCOLS["default"].kmeans_restarts
Case = Callable[[], np.ndarray]


def neighbours(train: np.ndarray, test: np.ndarray) -> dict[str, dict[str, Case]]:
    """Places of the nearest train items."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]

    def sklearn(metric: str) -> np.ndarray:
        found = NearestNeighbors(n_neighbors=K, metric=metric, algorithm="brute").fit(train)
        return np.asarray(found.kneighbors(test, return_distance=False))

    def by_faiss(kind: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        index = getattr(faiss, kind)(train.shape[1])
        index.add(train)
        return index.search(test, K)[1]

    cosine: dict[str, Case] = {
        "ours": lambda: cosine_neighbours(train, test, k=K).places,
        "scikit-learn": lambda: sklearn("cosine"),
    }
    l2: dict[str, Case] = {"scikit-learn": lambda: sklearn("euclidean")}
    if faiss is not None:
        cosine["faiss"] = lambda: by_faiss("IndexFlatIP", *unit)
        l2["faiss"] = lambda: by_faiss("IndexFlatL2", train, test)
    return {"k-NN, cosine": cosine, "k-NN, L2": l2}


def clusters(splits: Splits, train: np.ndarray, n: int) -> dict[str, Case]:
    """Centres of the clusters."""

    def sklearn() -> np.ndarray:
        return KMeans(n_clusters=n, n_init=RESTARTS, random_state=0).fit(train).cluster_centers_

    def ours() -> np.ndarray:
        options = {"n_classes": n, "restarts": RESTARTS, "match": "hungarian", "seed": 0}
        found = kmeans(train, splits.train.labels, train, **options).clusters
        return np.stack([train[found == cluster].mean(0) for cluster in range(n)])

    def by_faiss() -> np.ndarray:
        model = faiss.Kmeans(train.shape[1], n, nredo=RESTARTS, niter=300, seed=1)
        model.train(train)
        return model.centroids

    cases = {"ours": ours, "scikit-learn": sklearn}
    return cases | ({} if faiss is None else {"faiss": by_faiss})


def linears(splits: Splits, parts: list[np.ndarray], classes: int) -> dict[str, Case]:
    """Predictions of the test items."""
    train, valid, test = parts
    labels = splits.train.labels, splits.valid.labels

    def sklearn() -> np.ndarray:
        LogisticRegression(C=C, max_iter=1000).fit(train, labels[0]).predict(valid)
        both = np.concatenate([train, valid]), np.concatenate(labels)
        return LogisticRegression(C=C, max_iter=1000).fit(*both).predict(test)

    def ours() -> np.ndarray:
        return linear(
            train, labels[0], valid, labels[1], test, n_classes=classes, cs=(C,)
        ).predicted

    return {"ours": ours, "scikit-learn": sklearn}


def agree(head: str, answers: dict[str, np.ndarray], train: np.ndarray) -> dict[str, float]:
    """Check that the libraries answer alike; of k-means, how far each is from the best."""
    first, *others = answers.values()
    if head == "k-means":
        squares = {
            name: sum(
                np.min([((part - c) ** 2).sum(1) for c in centres], axis=0).sum()
                for part in np.array_split(train, 20)
            )
            for name, centres in answers.items()
        }
        return {name: value / min(squares.values()) for name, value in squares.items()}
    for other in others:
        if head == "linear":
            assert (first == other).mean() > 0.99
        else:
            shared = [len(np.intersect1d(*pair)) for pair in zip(first, other, strict=True)]
            assert np.mean(shared) > 0.999 * K
    return {}


def main() -> None:
    """Check each head's libraries against one another, then time them in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the real items")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    chosen = parser.parse_args()
    measure.same_allocator()
    torch.set_num_threads(chosen.threads)
    if faiss is None:
        print("without faiss: pip install faiss-cpu")
    else:
        faiss.omp_set_num_threads(chosen.threads)
    splits, classes = heads.made_up(TASK, chosen.scale), heads.TASKS[TASK][0]
    parts = list(standardise(*(split.features[COLUMN] for split in splits)))
    train, _, test = parts
    all_cases = neighbours(train, test)
    all_cases["k-means"] = clusters(splits, train, classes)
    all_cases["linear"] = linears(splits, parts, classes)
    tables = []
    for head, cases in all_cases.items():
        within = agree(head, {name: case() for name, case in cases.items()}, train)
        rows = measure.interleave(cases, chosen.rounds)
        table = measure.summary(rows, "scikit-learn")
        tables.append(table.assign(head=head, within=table["case"].map(within)))
        print(tables[-1].round(4).to_string(index=False), flush=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    whole = pd.concat(tables).assign(n_train=len(train), n_test=len(test), **measure.machine())
    whole.to_csv(chosen.out / "libraries.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
